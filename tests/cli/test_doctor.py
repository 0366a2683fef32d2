"""`guard doctor`: what it reports on good and in broken folders, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import normalizers

from guard import bundle, calibration, policy
from guard.assets import default_bundle
from guard.calibration import Calibration
from guard.cli import main
from guard.doctor import texts
from guard.prompts.causal import template
from tests.fixtures import tiny_asked, tiny_causal, tiny_released, warm

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 600,
    "max_position_embeddings": 8192,
}
Run = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `guard doctor --json` without weights: the exit code, and the checks by name."""

    def run(*arguments: object) -> tuple[int, dict[str, Any]]:
        with pytest.raises(SystemExit) as ended:
            main(["doctor", "--json", "--no-weights", *map(str, arguments)])
        report = json.loads(capsys.readouterr().out)
        checks = {check["name"]: check for check in report["checks"]}
        assert report["failed"] == sum(check["status"] == "fail" for check in report["checks"])
        assert all(check["advice"] for check in report["checks"] if check["status"] == "warn")
        return int(ended.value.code or 0), checks

    return run


def base(folder: Path, **changes: object) -> Path:
    """A chat model's folder, without weights."""
    folder.mkdir(exist_ok=True)
    tiny_causal.tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({**CONFIG, **changes}))
    return folder


def released(folder: Path, name: str, **changes: object) -> Path:
    tiny_released.write(folder, name)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **changes}))
    return folder


def test_the_installation_and_the_shipped_guard_are_well(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as ended:
        main(["doctor"])
    output = capsys.readouterr().out
    assert ended.value.code == 0, output
    for name in ("python", "packages", "onnxruntime", "bundle", "answers"):
        assert name in output
    assert "every file as sealed" in output


def test_two_runtimes_are_one_too_many(doctor: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("onnxruntime", "onnxruntime_gpu"):
        folder = tmp_path / f"{name}-1.31.1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.31.1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    code, checks = doctor()
    assert code == 1
    assert checks["onnxruntime"]["status"] == "fail"
    assert "both onnxruntime 1.31.1 and onnxruntime-gpu 1.31.1" in checks["onnxruntime"]["detail"]
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in checks["onnxruntime"]["advice"]


def test_a_package_of_the_wrong_version_is_told(doctor: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "pyyaml-3.1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: PyYAML\nVersion: 3.1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    code, checks = doctor()
    assert code == 1
    assert "pyyaml 3.1 (needs >=6.0)" in checks["packages"]["detail"]


@pytest.mark.parametrize("name", tiny_released.TEMPLATES)
def test_a_released_guard_without_weights_is_well(doctor: Run, tmp_path: Path, name: str) -> None:
    code, checks = doctor(released(tmp_path / "model", name))
    assert code == 0, checks
    assert "with its own chat template" in checks["template"]["detail"]
    for check in ("configuration", "tokenizer", "template", "verdict words", "roles", "forged turns", "windows"):
        assert checks[check]["status"] == "ok", checks[check]
    assert checks["begin of text"]["status"] == ("warn" if name == "llama-guard-3-8b" else "ok")
    assert checks["weights"]["status"] == "warn"


@pytest.mark.parametrize("name", tiny_asked.NAMES)
def test_a_guard_that_is_asked_one_thing_a_call_is_well(doctor: Run, tmp_path: Path, name: str) -> None:
    folder = tiny_asked.write(tmp_path / "model", name)
    (folder / "config.json").write_text(json.dumps({**CONFIG, "eos_token_id": None}))
    code, checks = doctor(folder)
    assert code == 0, checks
    how = "judges harm as such" if name == "wildguard" else "asks about one category a call"
    assert checks["template"]["detail"] == f"{name}, with its own chat template, which {how}"
    assert checks["roles"]["status"] == checks["forged turns"]["status"] == checks["windows"]["status"] == "ok"


def test_a_base_without_a_chat_template_is_told_what_it_needs(doctor: Run, tmp_path: Path) -> None:
    code, checks = doctor(base(tmp_path / "model"), "--policy", "minimal")
    assert code == 0, checks
    assert checks["chat template"]["status"] == "warn"
    assert "guard's own prompt needs only the tokens that mark turns" in checks["chat template"]["detail"]
    (tmp_path / "model" / "chat_template.jinja").write_text("{{ messages[0].content }}")
    assert "chat template" not in doctor(tmp_path / "model", "--policy", "minimal")[1]


def test_a_chat_model_gets_our_own_prompt(doctor: Run, tmp_path: Path) -> None:
    code, checks = doctor(base(tmp_path / "model"), "--policy", "minimal")
    assert code == 0, checks
    assert "guard's own prompt in the control tokens of llama3" in checks["template"]["detail"]
    assert checks["roles"]["detail"] == "user, assistant, tool, system are all distinct"


def edit(folder: Path, old: str, new: str) -> None:
    template = folder / "chat_template.jinja"
    assert old in template.read_text()
    template.write_text(template.read_text().replace(old, new))


def test_a_template_with_two_begin_of_text_tokens_fails(doctor: Run, tmp_path: Path) -> None:
    folder = released(tmp_path / "model", "llama-guard-3-8b")
    edit(folder, "' ' + bos_token", "bos_token + bos_token")
    code, checks = doctor(folder)
    assert code == 1
    assert "2 begin-of-text tokens, expected 1" in checks["begin of text"]["detail"]


def test_a_template_that_asks_alike_about_both_sides_fails(doctor: Run, tmp_path: Path) -> None:
    folder = released(tmp_path / "model", "llama-guard-1")
    edit(folder, "{%- set who = 'User' if message['role'] == 'user' else 'Agent' -%}", "{%- set who = 'User' -%}")
    edit(folder, "{% set judged = 'Agent' %}", "{% set judged = 'User' %}")
    edit(
        folder,
        "{{- who + ': ' + message['content'].strip() + '\\n\\n' -}}",
        "{{- message['content'] if loop.last else '' -}}",
    )
    code, checks = doctor(folder)
    assert code == 1
    assert checks["roles"]["status"] == "fail"


@pytest.mark.parametrize(
    ("changes", "check", "status", "said"),
    [
        ({"architectures": ["BertModel"]}, "configuration", "fail", "not a causal language model"),
        ({"vocab_size": 100}, "tokenizer", "fail", "the model has 100 embedding rows"),
        ({"max_position_embeddings": 512}, "configuration", "warn", "context of 512 tokens"),
        ({"model_type": "llama4"}, "configuration", "warn", "attention_chunk_size is null"),
        ({"eos_token_id": [1, 2]}, "end of text", "warn", "config.json says 1, 2"),
    ],
)
def test_mistakes_of_a_configuration_are_told(
    doctor: Run, tmp_path: Path, changes: dict[str, object], check: str, status: str, said: str
) -> None:
    code, checks = doctor(base(tmp_path / "model", **changes), "--policy", "minimal")
    assert code == (status == "fail")
    assert checks[check]["status"] == status
    assert said in checks[check]["detail"]


def test_what_is_no_model_is_told(doctor: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    code, checks = doctor(empty)
    assert code == 1
    assert "no readable config.json" in checks["configuration"]["detail"]
    assert "no tokenizer.json" in checks["tokenizer"]["detail"]
    for file, said in (("run.json", "guard export"), ("adapter_config.json", "merge it")):
        folder = tmp_path / file.partition(".")[0]
        folder.mkdir()
        (folder / file).write_text("{}")
        code, checks = doctor(folder)
        assert code == 1
        assert said in checks["model"]["advice"]
    with pytest.raises(SystemExit) as ended:
        main(["doctor", str(tmp_path / "nowhere")])
    assert ended.value.code == 2
    assert "no such folder" in capsys.readouterr().err


def test_missing_files_of_the_weights_are_told(doctor: Run, tmp_path: Path) -> None:
    folder = base(tmp_path / "model")
    index = {"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model-1-of-2.safetensors").write_bytes(b"x")
    code, checks = doctor(folder)
    assert code == 1
    assert "1 of 2 files are missing: model-2-of-2.safetensors" in checks["weights"]["detail"]


def test_words_that_start_alike_fail(doctor: Run, tmp_path: Path) -> None:
    folder = base(tmp_path / "model")
    tokenizer = tiny_causal.tokenizer()
    tokenizer.normalizer = normalizers.Replace("unsafe", "safe")
    tokenizer.save(str(folder / "tokenizer.json"))
    code, checks = doctor(folder)
    assert code == 1
    assert "start with the same token" in checks["template"]["detail"]


def causal_bundle(folder: Path, renderer: str) -> Path:
    """A sealed causal bundle that lacks only its graph, which is not opened here."""
    folder.mkdir()
    tiny_causal.tokenizer().save(str(folder / "tokenizer.json"))
    rules = policy.load("minimal")
    (folder / "policy.yaml").write_text(policy.dump(rules))
    calibration.write(Calibration(), folder / "calibration.json")
    settings = {"detail": "short", "safe": [1], "unsafe": [2], "end": 3}
    (folder / "causal.json").write_text(json.dumps(settings))
    bundle.seal(
        folder,
        name="tiny",
        kind="causal",
        base="none",
        policy=rules.digest,
        renderer=renderer,
        max_tokens=4096,
        overlap=16,
        data=None,
    )
    return folder


def test_a_causal_bundles_prompt_is_checked(doctor: Run, tmp_path: Path) -> None:
    code, checks = doctor(causal_bundle(tmp_path / "good", template().digest))
    assert code == 0, checks
    assert checks["forged turns"]["status"] == "ok"


def test_a_bundle_of_another_layout_fails(doctor: Run, tmp_path: Path) -> None:
    folder = causal_bundle(tmp_path / "old", "0" * 64)
    code, checks = doctor(folder)
    assert code == 1
    assert "trained on prompt layout 000000000000" in checks["layout"]["detail"]


def test_an_altered_bundle_fails(doctor: Run, tmp_path: Path) -> None:
    for file in default_bundle().iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "policy.yaml").unlink()
    (tmp_path / "policy.yaml").write_text("id: x\n")
    code, checks = doctor(tmp_path)
    assert code == 1
    assert "damaged: sha256" in checks["bundle"]["detail"]


# -- with weights -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("mass", "status"), [("20", "warn"), ("0", "fail")])
def test_the_label_mass_of_a_released_guard(tmp_path: Path, mass: str, status: str) -> None:
    made = warm.python(tiny_released.__file__, str(tmp_path / "model"), "llama-guard-3-8b", mass)
    assert made.returncode == 0, made.stderr[-2000:]
    done = warm.python("-m", "guard", "doctor", "--json", str(tmp_path / "model"))
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert checks["official ids"]["status"] == "ok", checks
    assert checks["label mass"]["status"] == status  # it answers with the words, but cannot tell texts apart
    assert ("at least 1.000" in checks["label mass"]["detail"]) is (mass == "20")
    assert done.returncode == (status == "fail")


@pytest.mark.parametrize(
    ("name", "count"), [("mlcommons", 3), ("aegis2", 3), ("openai", 3), ("examples/bakery.yaml", 0)]
)
def test_harmful_texts_count_under_policies_that_forbid_them(name: str, count: int) -> None:
    assert len(texts.forbidden(policy.load(name))) == count


def test_a_policy_of_a_user_is_judged_by_its_own_words(capsys: pytest.CaptureFixture[str]) -> None:
    """The shipped guard has never seen these categories; harm that they do not mention is no failure."""
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--json", "--policy", "examples/bakery.yaml"])
    [answers] = [check for check in json.loads(capsys.readouterr().out)["checks"] if check["name"] == "answers"]
    assert ended.value.code == 0
    assert answers["status"] == "ok"
    assert "higher on the words of 3 of 3 categories" in answers["detail"]


def test_a_guard_that_does_not_react_to_its_policy_fails(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Here the policy is the wrong way round: it forbids the harmless texts, and its own line says nothing."""
    own = tmp_path / "opposite.yaml"
    text = "id: opposite\nversion: '1'\nname: Opposite\ncategories:\n"
    about = {"Tomatoes": "Growing tomatoes on the vine without splits.", "Hiking": "What to pack for a week of hiking."}
    for code, (name, definition) in enumerate(about.items()):
        text += f"  - {{code: O{code}, name: {name}, definition: {definition}, includes: [none]}}\n"
    own.write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--json", "--policy", str(own)])
    [answers] = [check for check in json.loads(capsys.readouterr().out)["checks"] if check["name"] == "answers"]
    assert ended.value.code == 1
    assert "higher on the words of 0 of 2 categories" in answers["detail"]
