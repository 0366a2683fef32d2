"""A large guard teaches a small one: its scores are kept, the loss mixes them in, and the whole path works."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guard import assets, document
from guard.bundle import open_bundle
from guard.conversation import Conversation, Example
from guard.engines.fake import FakeEngine
from guard.errors import DataError, EngineError, InvalidInput
from guard.policy import Policy, load
from guard.prompts.window import Score, TokenizedConversation, Window
from guard.train.common.labels import Item
from tests.fixtures import tiny_encoder, tiny_guard, warm
from tests.fixtures.lazy import lazy
from tests.fixtures.recipe_runs import guard, train

torch, teacher = lazy("torch"), lazy("guard.train.common.teacher")
encoder_step = lazy("guard.train.encoder.step")

RULES = load("minimal")  # M1 and M2
LARGE = load("mlcommons")


def example(text: str, number: int = 0) -> Example:
    return Example(str(number), Conversation.of(text), "safe", frozenset(), "here", "CC0-1.0", "en", "prompt")


class Counting(FakeEngine):
    """An engine whose windows are words and whose log-odds are their lengths; it may die after so many windows."""

    def __init__(self, digest: str = "a", lasts: int | None = None) -> None:
        self.info = replace(FakeEngine.info, digest=digest)
        self.lasts = lasts
        self.seen: list[int] = []

    def tokenize(self, conversation: Conversation, policy: Policy) -> TokenizedConversation:
        if conversation.judged.content == "unreadable":
            raise InvalidInput("it cannot be read")
        words = conversation.judged.content.split()
        return TokenizedConversation(
            tuple(Window(policy, (len(word),), (), 0, 0) for word in words), len(words), len(words)
        )

    def score(self, windows: Sequence[Window]) -> list[Score | EngineError]:
        if self.lasts is not None and len(self.seen) + len(windows) > self.lasts:
            raise EngineError("it died")
        self.seen += [window.ids[0] for window in windows]
        return [Score(float(w.ids[0]), tuple(-float(w.ids[0]) for _ in w.policy.codes)) for w in windows]


# -- the scores -------------------------------------------------------------------------------------------------------


def test_the_worst_window_counts_for_each_number(tmp_path: Path) -> None:
    [score] = teacher.teach(Counting(), [example("a violet rose")], RULES, tmp_path / "scores")
    assert score == Score(6.0, (-1.0, -1.0))


def test_no_row_is_scored_twice(tmp_path: Path) -> None:
    store, rows = tmp_path / "scores", [example("one"), example("three"), example("one", 1)]
    first = Counting()
    found = teacher.teach(first, rows, RULES, store)
    assert [score.unsafe for score in found if score] == [3.0, 5.0, 3.0]
    assert sorted(first.seen) == [3, 5]
    again = Counting()
    assert teacher.teach(again, [*rows[::-1], example("seventh")], RULES, store)[1:3] == [found[1], found[0]]
    assert again.seen == [7]
    for other, rules in ((Counting("b"), RULES), (Counting(), LARGE)):
        teacher.teach(other, rows, rules, store)
        assert sorted(other.seen) == [3, 5], "another teacher or policy has scores of its own"


def test_what_was_scored_before_a_death_is_kept(tmp_path: Path) -> None:
    store, rows = tmp_path / "scores", [example("x" * (n + 1), n) for n in range(teacher.CHUNK + 10)]
    with pytest.raises(EngineError):
        teacher.teach(Counting(lasts=teacher.CHUNK), rows, RULES, store)
    told: list[tuple[int, int]] = []
    after = Counting()
    found = teacher.teach(after, rows, RULES, store, lambda done, todo: told.append((done, todo)))
    assert after.seen == list(range(teacher.CHUNK + 1, teacher.CHUNK + 11))
    assert told == [(10, 10)]
    assert [score.unsafe for score in found if score] == [n + 1.0 for n in range(teacher.CHUNK + 10)]


def test_what_cannot_be_read_has_no_score_and_is_not_asked_again(tmp_path: Path) -> None:
    rows = [example("unreadable"), example("one")]
    assert teacher.teach(Counting(), rows, RULES, tmp_path / "scores") == [None, Score(3.0, (-3.0, -3.0))]
    assert teacher.teach(Counting(lasts=0), rows, RULES, tmp_path / "scores")[0] is None


def test_a_file_of_something_else_is_told(tmp_path: Path) -> None:
    (tmp_path / "scores").write_text("not a database, and rather longer than nothing at all" * 30, encoding="utf-8")
    with pytest.raises(DataError, match="cannot be used as a cache"):
        teacher.teach(Counting(), [example("one")], RULES, tmp_path / "scores")


def test_a_key_is_of_the_words_and_who_says_them() -> None:
    texts = [Conversation.of("a"), Conversation.of("b"), Conversation.of("a", "b"), Conversation.of("ab")]
    keys = {teacher.cache_key(who, rules, text) for who in "xy" for rules in (RULES, LARGE) for text in texts}
    assert len(keys) == 16


# -- the loss ---------------------------------------------------------------------------------------------------------


def taught(verdict: float, *each: float, weight: float = 1.0) -> Any:
    return teacher.Taught.by(Item(True, None, weight), Score(verdict, each))


def test_only_taught_rows_count_and_by_weight() -> None:
    logits = torch.tensor([[0.3, -1.0], [2.0, 0.5], [-3.0, 1.0]], requires_grad=True)
    items = [taught(1.0, 0.5, -2.0, weight=3.0), Item(True, None), taught(-2.0, -3.0, -3.0)]
    loss = teacher.teachers_loss(logits, items, [0, 1], True, 0.2, 1.0)
    torch.autograd.backward(loss)
    assert logits.grad is not None
    assert logits.grad[1].abs().max() == 0
    alone = [teacher.teachers_loss(logits[[row]], [items[row]], [0, 1], True, 0.2, 1.0).item() for row in (0, 2)]
    assert loss.item() == pytest.approx((3 * alone[0] + alone[1]) / 4)
    assert teacher.teachers_loss(logits, [Item(True, None)] * 3, [0, 1], True, 0.2, 1.0).item() == 0.0


@given(
    st.lists(st.floats(-6, 6), min_size=2, max_size=2),
    st.floats(1, 5),
    st.lists(st.floats(-1, 1), min_size=2, max_size=2),
)
def test_no_student_does_better_than_the_teacher_itself(
    each: list[float], temperature: float, off: list[float]
) -> None:
    own = torch.tensor([each])
    item = taught(float(torch.logsumexp(own, 1)), *each)
    best = teacher.teachers_loss(own, [item], [0, 1], True, 0.2, temperature)
    other = teacher.teachers_loss(own + torch.tensor([off]), [item], [0, 1], True, 0.2, temperature)
    assert best.item() <= other.item() + 1e-4


def test_under_part_of_the_policy_its_categories_alone_are_learnt() -> None:
    logits = torch.tensor([[0.7]])
    found = [teacher.teachers_loss(logits, [taught(z, -1.0, 2.0)], [1], False, 1.0, 2.0).item() for z in (-5.0, 5.0)]
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    assert found[0] == found[1] == pytest.approx(4 * bce(logits / 2, torch.sigmoid(torch.tensor([[1.0]]))).item())


@given(st.randoms(use_true_random=False), st.floats(0, 1))
def test_categories_in_force_keep_their_order(rng: object, share: float) -> None:
    chosen = encoder_step.in_force(LARGE.categories, share, rng)  # type: ignore[arg-type]
    assert chosen == [category for category in LARGE.categories if category in chosen]
    assert len(chosen) >= len(LARGE.categories) // 3


# -- the whole path ---------------------------------------------------------------------------------------------------

TEACHER = tiny_guard.BUNDLE  # sure that words of its own policy, like these two, violate S1
STUDENT = (
    "epochs=6",
    "batch_tokens=1024",
    "batch_rows=16",
    "max_tokens=64",
    "overlap=16",
    "learning_rate=2e-3",
    "head_learning_rate=2e-3",
    "warmup_steps=10",
    "bf16=false",
    "threads=1",
)
PLAIN = "augmentation={history: 0, mistyping: 0, obfuscation: 0, padding: 0, injection: 0, document_context: 0}"


def rows(numbers: range) -> list[dict[str, object]]:
    said = [(f"the garden has {n} {what}", "safe") for n in numbers for what in ("plants", "trees", "paths")]
    said += [(f"abduct the {what} ambush number {n}", "unsafe") for n in numbers for what in ("first", "second")]
    return [
        {
            "id": f"{numbers.start}-{index}",
            "messages": [{"role": "user", "content": text}],
            "label": label,
            "categories": ["S1"] if label == "unsafe" else [],
            "categories_known": label == "safe" or index % 2 == 0,
            "source": "made up",
            "licence": "CC0-1.0",
            "language": "en",
            "kind": "prompt",
            "weight": 1.0,
        }
        for index, (text, label) in enumerate(said)
    ]


def distil(folder: Path, out: str, *changes: str, data: str = "data", code: int = 0) -> tuple[str, str]:
    given = {"policy": "mlcommons", "data": folder / data, "base": folder / "base", "out": folder / out}
    config = assets.asset("training/configs/distill.yaml")
    return train(config, *STUDENT, PLAIN, f"teacher={TEACHER}", *changes, code=code, **given)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows that the tiny guard judges surely, a base, and a student in `student`."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    made = tmp_path_factory.mktemp("distill")
    assert warm.python(tiny_encoder.__file__, "base", made / "base").returncode == 0
    (made / "data").mkdir()
    for split, numbers in (("train", range(40)), ("dev", range(40, 48))):
        parquet.write_table(arrow.Table.from_pylist(rows(numbers)), made / "data" / f"{split}.parquet")
    told, _ = distil(made, "student")
    assert "the teacher has scored 200 of 200 rows" in told
    assert "of which the teacher could not read 0" in told
    return made


@pytest.mark.slow
def test_the_student_learns_and_tells_who_taught_it(folder: Path) -> None:
    record = json.loads((folder / "student" / "run.json").read_text(encoding="utf-8"))
    assert record["kind"] == "mini"
    assert record["teacher"] == open_bundle(TEACHER).manifest.model
    assert record["metrics"]["history"][-1]["auprc"] > 0.95
    assert record["config"]["teacher_weight"] == 0.5


@pytest.mark.slow
def test_the_student_becomes_a_bundle_that_answers(folder: Path) -> None:
    guard("export", folder / "student", folder / "bundle")
    asked = folder / "asked.jsonl"
    texts = ("abduct the first ambush number 44", "the garden has 44 plants")
    asked.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts), encoding="utf-8")
    out, _ = guard("check", "--model", folder / "bundle", "--json", "--file", asked)
    unsafe, safe = (json.loads(line)["p_unsafe"] for line in out.splitlines())
    assert unsafe > safe + 0.2


@pytest.mark.slow
def test_a_second_run_of_the_same_rows_asks_the_teacher_nothing(folder: Path) -> None:
    told, _ = distil(folder, "student")
    assert "the teacher has scored" not in told
    assert "resuming at step" in told


@pytest.mark.slow
def test_the_teachers_word_alone_is_enough(folder: Path) -> None:
    distil(folder, "taught-alone", "teacher_weight=1.0")
    record = json.loads((folder / "taught-alone" / "run.json").read_text(encoding="utf-8"))
    assert record["metrics"]["history"][-1]["auprc"] > 0.9


@pytest.mark.slow
def test_mistakes_are_told_in_one_line(folder: Path) -> None:
    for change, told in (
        (f"teacher={folder / 'data'}", "no guard.json there; give a bundle folder made by `guard export RUN OUT`"),
        ("temperature=0", "temperature"),
        ("teacher_weight=2", "teacher_weight"),
    ):
        _, err = distil(folder, "mistaken", change, code=2)
        assert told in err
        assert "Traceback" not in err
        assert not (folder / "mistaken").exists()
    text = "".join(json.dumps({"prompt": f"tree {n}", "label": "safe"}) + "\n" for n in range(40))
    (folder / "safe.jsonl").write_text(text, encoding="utf-8")
    own = ("--policy", "mlcommons", "--data", folder / "safe.jsonl", "--base", folder / "base")
    changes = (*STUDENT, PLAIN, f"teacher={TEACHER}")
    _, err = guard("train", "distill", *changes, *own, "--out", folder / "mistaken", code=2)  # as a user starts it
    assert "only safe rows to train on under policy 'mlcommons'" in err
    assert not (folder / "mistaken").exists()


def test_the_shipped_config_is_what_the_recipe_reads() -> None:
    plain, _ = document.parse(assets.asset("training/configs/distill.yaml").read_text(encoding="utf-8"), "distill")
    encoder, _ = document.parse(assets.asset("training/configs/encoder.yaml").read_text(encoding="utf-8"), "encoder")
    assert plain["recipe"] == "distill"
    for key in ("policy", "data", "max_tokens", "overlap", "source_weights", "base"):
        assert plain[key] == encoder[key], key
