"""Descriptions of data sets of the Hugging Face Hub, each on a made-up copy in the shape of the real one."""

from __future__ import annotations

import csv
import gzip
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from guard import policy
from guard.data.ingest import source_rows
from guard.data.sources import description, hub
from guard.data.sources.hub_readers import HUB_READERS, dialogue_turns
from guard.errors import DataError
from guard.policy import crosswalk

NAMES = [name for name in description.names() if description.load(name).hub is not None]
NONCOMMERCIAL = {"beavertails", "pku_saferlhf", "pku_saferlhf_pairs", "toxicchat_train"}
# Data sets that are, or whose other splits are, held-out benchmarks; and the only split of each to be trained on.
HELD_OUT = {
    "PKU-Alignment/BeaverTails": ("330k_train", None),
    "PKU-Alignment/PKU-SafeRLHF": ("train", "default"),
    "allenai/wildguardmix": ("train", "wildguardtrain"),
    "nvidia/Aegis-AI-Content-Safety-Dataset-2.0": ("train", None),
    "lmsys/toxic-chat": ("train", "toxicchat0124"),
}
BENCHMARKS = ("xstest", "harmbench", "strongreject", "simplesafety", "do-not-answer", "openai-moderation", "guardtest")

BEAVER = dict.fromkeys(
    (
        "animal_abuse",
        "child_abuse",
        "controversial_topics,politics",
        "discrimination,stereotype,injustice",
        "drug_abuse,weapons,banned_substance",
        "financial_crime,property_crime,theft",
        "hate_speech,offensive_language",
        "misinformation_regarding_ethics,laws_and_safety",
        "non_violent_unethical_behavior",
        "privacy_violation",
        "self_harm",
        "sexually_explicit,adult_content",
        "terrorism,organized_crime",
        "violence,aiding_and_abetting,incitement",
    ),
    False,
)
PKU = dict.fromkeys(
    [label.partition(".")[2] for label in description.load("pku_saferlhf").categories.flags],
    False,
)


def answers(safe: tuple[bool, bool], safer: int, **flags: bool) -> dict[str, object]:
    """A row of PKU-SafeRLHF; `flags` are of the second answer."""
    return {
        "prompt": "Whose letters may I read?",
        "prompt_source": "made-up",
        "response_0": "Your own.",
        "response_1": "Open those of your neighbour over steam.",
        "is_response_0_safe": safe[0],
        "is_response_1_safe": safe[1],
        "response_0_harm_category": PKU,
        "response_1_harm_category": PKU | flags,
        "response_0_severity_level": 0,
        "response_1_severity_level": 1,
        "better_response_id": 0,
        "safer_response_id": safer,
    }


def dialogue(*turns: str) -> str:
    return "".join(f"\n\n{('Human', 'Assistant')[index % 2]}: {turn}" for index, turn in enumerate(turns))


def wildguard(prompt: str, harm: str | None, response: str | None, response_harm: str | None, sub: str) -> dict:
    return {
        "prompt": prompt,
        "adversarial": False,
        "response": response,
        "prompt_harm_label": harm,
        "response_refusal_label": None if response is None else "compliance",
        "response_harm_label": response_harm,
        "subcategory": sub,
    }


def aegis(prompt: str, label: str, response: str | None, response_label: str | None, violated: str) -> dict:
    redacted = 17 if prompt == "REDACTED" else None
    return {
        "id": "0f",
        "reconstruction_id_if_redacted": redacted,
        "prompt": prompt,
        "response": response,
        "prompt_label": label,
        "response_label": response_label,
        "violated_categories": violated,
        "prompt_label_source": "human",
        "response_label_source": None if response_label is None else "llm_jury",
    }


def polyguard(language: str, harm: str | None, codes: str | None, response: str | None, answer: str | None) -> dict:
    return {
        "prompt": f"A question in {language}",
        "response": response,
        "prompt_harm_label": harm,
        "response_refusal_label": None if response is None else "no",
        "response_harm_label": answer,
        "prompt_safety_categories": codes,
        "response_safety_categories": codes if answer == "yes" else None,
        "metadata": {"language": language, "source": "made-up"},
    }


def comment(toxicity: float, **shares: float) -> dict[str, object]:
    rest = dict.fromkeys(("severe_toxicity", "obscene", "threat", "insult", "identity_attack", "sexual_explicit"), 0.0)
    return {"text": f"Comment {toxicity} {sorted(shares)}", "toxicity": toxicity, **rest, **shares}


WILDGUARD = [
    wildguard("Copy this novel for me", "harmful", "Chapter one.", "harmful", "copyright_violations"),
    wildguard("Name a rose", "unharmful", "Alba.", "unharmful", "benign"),
    wildguard("Name a lily", "unharmful", None, None, "benign"),
    wildguard("Whose rose is this?", None, "Hers.", None, "benign"),
]
AEGIS = [
    aegis("How do I stay awake all night?", "safe", None, None, ""),
    aegis("I want to hurt myself", "unsafe", "Please talk to somebody you trust.", "safe", "Suicide and Self Harm"),
    aegis("Where does she live?", "unsafe", "At number 9.", "unsafe", "PII/Privacy, Needs Caution"),
    aegis("A prompt whose answer is empty", "safe", "", "safe", ""),
    aegis("REDACTED", "unsafe", "An answer to it", "safe", "Suicide and Self Harm"),
]
POLYGUARD = [
    polyguard("German", "yes", "S10, S2", "Ja.", "yes"),
    polyguard("Thai", "no", None, "No.", "no"),
    polyguard("Polish", "yes", "S7 S8", None, None),
    polyguard("Klingon", None, "None", "Q.", None),
]
SAFER = [answers((True, False), 0, **{"Privacy Violation": True}), answers((True, True), 1) | {"safer_response_id": -1}]
TWO_TURNS = dialogue("Hi", "Hello.", "May I paint his fence?", "{}")
CHOSEN = {"chosen": TWO_TURNS.format("Ask him."), "rejected": TWO_TURNS.format("At night.")}
JAILBREAK = [
    {"vanilla": "Name a rose", "adversarial": "", "completion": "Alba.", "data_type": "vanilla_benign"},
    {"vanilla": "Name a rose", "adversarial": "Play a bee.", "completion": "Bzz.", "data_type": "adversarial_benign"},
    {"vanilla": "Cut his hedge", "adversarial": "", "completion": "No.", "data_type": "vanilla_harmful"},
    {"vanilla": "Cut his hedge", "adversarial": "Be a goat", "completion": "No.", "data_type": "adversarial_harmful"},
]

# By description: the file in a copy, its rows, and what must be read: kind, judged text, label, categories, language.
COPIES: dict[str, tuple[str, list[dict], list[tuple]]] = {
    "beavertails": (
        "data-00000-of-00001.parquet",
        [
            {
                "prompt": "p",
                "response": "You are worthless.",
                "category": BEAVER | {"self_harm": True},
                "is_safe": False,
            },
            {"prompt": "p", "response": "Water it.", "category": BEAVER, "is_safe": True},
            {"prompt": "p", "response": "Hm.", "category": BEAVER | {"privacy_violation": None}, "is_safe": False},
        ],
        [
            ("response", "You are worthless.", "unsafe", {"S11"}, "en"),
            ("response", "Water it.", "safe", set(), "en"),
            ("response", "Hm.", "unsafe", None, "en"),
        ],
    ),
    "pku_saferlhf": (
        "Alpaca-7B/train.jsonl",
        SAFER[:1],
        [
            ("response", "Your own.", "safe", set(), "en"),
            ("response", "Open those of your neighbour over steam.", "unsafe", {"S7"}, "en"),
        ],
    ),
    "pku_saferlhf_pairs": ("train.jsonl", SAFER, [("pair", "Your own.", "unlabelled", None, "en")]),
    "wildguardmix_prompts": (
        "wildguard_train.parquet",
        WILDGUARD,
        [
            ("prompt", "Copy this novel for me", "unsafe", {"S8"}, "en"),
            ("prompt", "Name a rose", "safe", set(), "en"),
            ("prompt", "Name a lily", "safe", set(), "en"),
            ("prompt", "Whose rose is this?", "unlabelled", None, "en"),
        ],
    ),
    "wildguardmix_responses": (
        "wildguard_train.parquet",
        WILDGUARD,
        [
            ("response", "Chapter one.", "unsafe", {"S8"}, "en"),
            ("response", "Alba.", "safe", set(), "en"),
            ("response", "Hers.", "unlabelled", None, "en"),
        ],
    ),
    "aegis2_prompts": (
        "train.json",
        AEGIS,
        [
            ("prompt", "How do I stay awake all night?", "safe", set(), "en"),
            ("prompt", "I want to hurt myself", "unsafe", {"S11"}, "en"),
            ("prompt", "Where does she live?", "unsafe", {"S7"}, "en"),
            ("prompt", "A prompt whose answer is empty", "safe", set(), "en"),
        ],
    ),
    "aegis2_responses": (
        "train.json",
        AEGIS,
        [
            ("response", "Please talk to somebody you trust.", "safe", set(), "en"),
            ("response", "At number 9.", "unsafe", {"S7"}, "en"),
        ],
    ),
    "toxicchat_train": (
        "toxic-chat_annotation_train.csv",
        [
            {
                "conv_id": "1",
                "user_input": "Sing\na song",
                "model_output": "La",
                "human_annotation": True,
                "toxicity": 0,
            }
            | {"jailbreaking": 0, "openai_moderation": "[]"},
            {"conv_id": "2", "user_input": "Insult me", "model_output": "No", "human_annotation": True, "toxicity": 1}
            | {"jailbreaking": 1, "openai_moderation": '[["harassment", 0.5]]'},
        ],
        [("prompt", "Sing\na song", "safe", set(), "en"), ("prompt", "Insult me", "unsafe", None, "en")],
    ),
    "hh_rlhf_harmless_train_pairs": (
        "train.jsonl.gz",
        [CHOSEN],
        [("pair", "Ask him.", "unlabelled", None, "en")],
    ),
    "hh_rlhf_red_team": (
        "red_team_attempts.jsonl.gz",  # a list, whatever its name says
        [
            {"transcript": dialogue("Paint it", "No, ask him.", "Please?", "No."), "rating": 0.0},
            {"transcript": dialogue("Paint it", "At night, then.", "Thanks"), "rating": 4.0},
            {"transcript": dialogue("Paint it", "Which colour?"), "rating": 3.0},
            {"transcript": dialogue("Nobody answers"), "rating": 4.0},
        ],
        [
            ("response", "No.", "safe", set(), "en"),
            ("response", "At night, then.", "unsafe", None, "en"),
            ("response", "Which colour?", "unlabelled", None, "en"),
        ],
    ),
    "or_bench_80k": (
        "or-bench-80k.csv",
        [{"prompt": "How do I kill weeds, kindly?", "category": "violence"}],
        [("prompt", "How do I kill weeds, kindly?", "safe", set(), "en")],
    ),
    "polyguardmix_prompts": (
        "train-00000-of-00008.parquet",
        POLYGUARD,
        [
            ("prompt", "A question in German", "unsafe", {"S10", "S2"}, "de"),
            ("prompt", "A question in Thai", "safe", set(), "th"),
            ("prompt", "A question in Polish", "unsafe", {"S7", "S8"}, "pl"),
            ("prompt", "A question in Klingon", "unlabelled", None, "klingon"),
        ],
    ),
    "polyguardmix_responses": (
        "train-00000-of-00008.parquet",
        POLYGUARD,
        [
            ("response", "Ja.", "unsafe", {"S10", "S2"}, "de"),
            ("response", "No.", "safe", set(), "th"),
            ("response", "Q.", "unlabelled", None, "klingon"),
        ],
    ),
    "wildjailbreak": (
        "train.tsv",
        JAILBREAK,
        [
            ("prompt", "Name a rose", "safe", set(), "en"),
            ("prompt", "Play a bee.", "safe", set(), "en"),
            ("prompt", "Cut his hedge", "unsafe", None, "en"),
            ("prompt", "Be a goat", "unsafe", None, "en"),
        ],
    ),
    "civil_comments": (
        "train-00000-of-00002.parquet",
        [comment(0.1), comment(0.5), comment(0.9), comment(0.8, identity_attack=0.7, threat=0.3)],
        [
            ("text", "Comment 0.1 []", "safe", set(), "en"),
            ("text", "Comment 0.5 []", "unlabelled", None, "en"),
            ("text", "Comment 0.9 []", "unsafe", None, "en"),
            ("text", "Comment 0.8 ['identity_attack', 'threat']", "unsafe", {"S10"}, "en"),
        ],
    ),
}


def write(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix in (".csv", ".tsv"):
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="," if path.suffix == ".csv" else "\t")
            writer.writeheader()
            writer.writerows(rows)
    else:
        listed = path.suffix == ".json" or path.name.startswith("red_team")
        text = json.dumps(rows) if listed else "".join(f"{json.dumps(row)}\n" for row in rows)
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


def rows_of(name: str, root: Path) -> list:
    source = description.load(name)
    return list(source_rows.rows(source, root, description.load_crosswalk(source), policy.load("mlcommons")))


def copy(name: str, root: Path) -> list:
    file, rows, _ = COPIES[name]
    write(root / "hub" / name / file, rows)
    return rows_of(name, root)


def test_every_description_has_a_copy_here():
    assert set(COPIES) == set(NAMES)


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_read_by_its_description(name, tmp_path):
    found = [
        (row.kind, row.judged, row.label, None if row.categories is None else set(row.categories), row.language)
        for row in copy(name, tmp_path)
    ]
    assert found == COPIES[name][2]


def test_a_flag_that_is_missing_leaves_its_codes_undecided(tmp_path):
    beyond = set(crosswalk.load("beavertails").beyond)  # no flag covers these
    assert [set(row.undecided) - beyond for row in copy("beavertails", tmp_path)][:2] == [set(), set()]
    assert "S7" in copy("beavertails", tmp_path)[2].undecided
    assert "S1" in copy("civil_comments", tmp_path)[3].undecided  # neither a fifth nor half of the raters


def test_pairs_and_dialogues_keep_both_answers_and_the_turns(tmp_path):
    (pair,) = copy("hh_rlhf_harmless_train_pairs", tmp_path)
    assert (pair.response, pair.rejected) == ("Ask him.", "At night.")
    assert pair.turns == (("user", "Hi"), ("assistant", "Hello."), ("user", "May I paint his fence?"))
    (safer,) = copy("pku_saferlhf_pairs", tmp_path)
    assert safer.rejected == "Open those of your neighbour over steam."
    first, second, _ = copy("hh_rlhf_red_team", tmp_path)
    assert first.turns == (("user", "Paint it"), ("assistant", "No, ask him."), ("user", "Please?"))
    assert second.messages == (("user", "Paint it"), ("assistant", "At night, then."))


def test_forms_of_one_prompt_are_grouped(tmp_path):
    first, second, third, fourth = copy("wildjailbreak", tmp_path)
    assert first.groups == second.groups != third.groups == fourth.groups
    assert first.groups


@pytest.mark.parametrize("name", NAMES)
def test_a_description_says_what_may_be_done(name):
    source = description.load(name)
    assert source.noncommercial == (name in NONCOMMERCIAL)
    assert source.noncommercial == ("No commercial use" in source.cautions)
    assert source.upstream == f"https://huggingface.co/datasets/{source.hub.dataset}"
    assert source.attribution
    assert source.expected is None  # no counts are known
    assert (source.kind == "pair") == (source.role == "preference")
    assert ("allenai/" in source.hub.dataset) == ("Gated" in source.cautions)
    assert source.hub.revision or "Not verified" in source.cautions
    description.check_codes(source, description.load_crosswalk(source), policy.load("mlcommons"))


@pytest.mark.parametrize("name", NAMES)
def test_a_description_names_no_benchmark(name):
    at = description.load(name).hub
    assert "test" not in at.split
    assert "eval" not in (at.config or "")
    assert not any(benchmark in at.dataset.lower() for benchmark in BENCHMARKS)
    if at.dataset in HELD_OUT:
        assert (at.split, at.config) == HELD_OUT[at.dataset]


def test_every_reader_is_used_and_known():
    used = {description.load(name).reader for name in NAMES}
    assert set(HUB_READERS) <= used


def test_speakers_count_only_after_a_blank_line():
    found = dialogue_turns("\n\nHuman: Write\nAssistant: in a play\n\nAssistant: Done.\n\nSecond part.")
    assert [turn["content"] for turn in found] == ["Write\nAssistant: in a play", "Done.\n\nSecond part."]
    assert [turn["role"] for turn in found] == ["user", "assistant"]
    assert dialogue_turns("Nobody speaks") == []


def test_files_of_a_copy_are_read_in_order_and_book_keeping_is_not(tmp_path):
    folder = tmp_path / "hub" / "or_bench_80k"
    write(folder / "b.csv", [{"prompt": "second", "category": "x"}])
    write(folder / "a" / "z.jsonl", [{"prompt": "first", "category": "x"}])
    write(folder / ".cache" / "huggingface" / "c.csv", [{"prompt": "never", "category": "x"}])
    (folder / "LICENSE").write_text("words")
    (folder / "dataset_info.json").write_text("{}")
    found = rows_of("or_bench_80k", tmp_path)
    assert [row.prompt for row in found] == ["first", "second"]
    assert [row.place for row in found] == ["hub/or_bench_80k/a/z.jsonl row 1", "hub/or_bench_80k/b.csv row 1"]


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("test.jsonl", "holds test.jsonl, by its name of another split than 'train'"),
        ("data/validation-0.csv", "by its name of another split"),
        ("train.jsonl.xz", r"holds train.jsonl.xz; unpack it"),
        ("words.txt", "no data files in"),
    ],
)
def test_a_copy_that_is_not_the_split_is_refused(tmp_path, file, message):
    path = tmp_path / "hub" / "or_bench_80k" / file
    path.parent.mkdir(parents=True)
    path.write_text("prompt\nSECRET\n")
    with pytest.raises(DataError, match=message) as caught:
        rows_of("or_bench_80k", tmp_path)
    assert "SECRET" not in str(caught.value)


LOADED = """
    name: {name}
    title: Made up
    licence: CC0-1.0
    role: train
    kind: prompt
    hub: {{dataset: {dataset}, split: {split}, config: {config}}}
    prompt: {{fields: [prompt]}}
    label: {{otherwise: safe}}
    language: en
"""
SCRIPT = """
import json, pathlib, sys
from guard.data.sources import description as sources, hub
from guard.errors import DataError
root, taxonomy, *names = sys.argv[1:]
out = {}
for name in names:
    source = sources.load(name, None if name == "toxicchat_train" else pathlib.Path(taxonomy))
    try:
        out[name] = [[r.place, r.fields] for r in hub.records(source, pathlib.Path(root))]
    except DataError as problem:
        out[name] = str(problem)
print(json.dumps(out))
"""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory) -> dict[str, object]:
    """What `datasets` makes of made-up data sets in folders, in a process without a connection or a cache."""
    tmp = tmp_path_factory.mktemp("loaded")
    card = "---\nconfigs:\n- config_name: {0}\n  data_files:\n  - split: train\n    path: {1}\n---\n"
    write(tmp / "set" / "train" / "a.parquet", [{"prompt": "one", "nested": {"flag": True, "list": [1.5, None]}}])
    write(tmp / "set" / "held.parquet", [{"prompt": "held out", "nested": None}])
    (tmp / "set" / "README.md").write_text(card.format("main", "train/*.parquet"))
    write(tmp / "plain" / "part" / "train.jsonl.gz", [{"prompt": "two"}, {"prompt": "three"}])
    write(tmp / "plain" / "part" / "test.jsonl.gz", [{"prompt": "held out"}])
    write(tmp / "hub" / "snapshot" / "x" / "train.tsv", [{"prompt": "four", "other": ""}])
    write(tmp / "hub" / "snapshot" / "test.csv", [{"prompt": "held out", "other": "y"}])
    (tmp / "hub" / "snapshot" / "README.md").write_text(card.format("main", "x/train.tsv"))
    write(tmp / "broken" / "train.jsonl", [{"prompt": "SECRET"}])
    (tmp / "broken" / "train.jsonl").write_text('{"prompt": "SECRET"}\n{"prompt": SECRET}\n')
    (tmp / "sources").mkdir()
    described = {
        "configured": (tmp / "set", "train", "main"),
        "foldered": (tmp / "plain", "train", "part"),
        "snapshot": ("somebody/something", "train", "main"),
        "broken": (tmp / "broken", "train", "null"),
        "splitless": (tmp / "set", "nonsense", "main"),
        "gone": (tmp / "gone", "train", "null"),
    }
    for name, (dataset, split, config) in described.items():
        text = LOADED.format(name=name, dataset=dataset, split=split, config=config)
        (tmp / "sources" / f"{name}.yaml").write_text(textwrap.dedent(text))
    environment = os.environ | {"HF_HOME": str(tmp / "home"), "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp), str(tmp), *described, "toxicchat_train"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=240,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow  # datasets takes its time to start
def test_a_configuration_or_a_folder_in_its_place_is_loaded(loaded):
    where = loaded["configured"][0][0].removesuffix(":train row 1")
    assert where.startswith("hub:")
    assert loaded["configured"] == [
        [f"{where}:train row 1", {"prompt": "one", "nested": {"flag": True, "list": [1.5, None]}}]
    ]
    assert [fields for _, fields in loaded["foldered"]] == [{"prompt": "two"}, {"prompt": "three"}]


@pytest.mark.slow  # datasets takes its time to start
def test_a_snapshot_is_loaded_by_its_card(loaded):
    assert loaded["snapshot"] == [
        ["hub:somebody/something:train row 1", {"prompt": "four", "other": None}],
    ]


@pytest.mark.slow  # datasets takes its time to start
def test_what_cannot_be_loaded_is_told_without_its_content(loaded):
    told = loaded["toxicchat_train"]
    assert told.startswith("source toxicchat_train: lmsys/toxic-chat (split train, configuration toxicchat0124)")
    assert "accept its terms at https://huggingface.co/datasets/lmsys/toxic-chat" in told
    assert "`hf auth login`" in told
    assert told.endswith(f"put a copy in {Path(told.rpartition(' ')[2])}")
    assert Path(told.rpartition(" ")[2]).parts[-2:] == ("hub", "toxicchat_train")
    for name in ("broken", "splitless", "gone"):
        assert isinstance(loaded[name], str)
        assert f"source {name}: " in loaded[name]
        assert "could not be loaded: " in loaded[name]
        assert "SECRET" not in loaded[name]


def test_the_copy_comes_before_the_hub(tmp_path):
    copy("toxicchat_train", tmp_path)
    records = list(hub.records(description.load("toxicchat_train"), tmp_path))
    assert [record.number for record in records] == [1, 2]
