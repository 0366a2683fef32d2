"""`guard eval`: what it prints and writes, and how it ends."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from guard import bundle, policy
from guard.calibration import Calibration
from guard.calibration import write as write_calibration
from guard.cli import main
from guard.prompts.encoder import LAYOUT, LAYOUT_DIGEST

ROWS = [
    {"prompt": "violates:M1 canary", "label": "unsafe", "categories": ["M1"]},
    {"prompt": "a canary that the engine misses", "label": "unsafe"},
    {"prompt": "bread", "label": "safe"},
    {"prompt": "hello", "response": "there", "label": "safe"},
]
FAKE = ("--model", "fake", "--policy", "minimal")


@dataclass
class Shell:
    """Runs `guard eval` in this process and gives back exit code, stdout and stderr."""

    capsys: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str | Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["eval", *map(str, arguments)])
        captured = self.capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err


@pytest.fixture
def shell(capsys):
    return Shell(capsys)


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return path


def test_a_table_for_people(shell, rows):
    code, out, err = shell(rows, *FAKE)
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert ["rows.jsonl", "4", "2", "0.667"] in [line[:4] for line in lines]
    assert ["response", "1", "0"] in [line[:3] for line in lines]
    assert "policy minimal 1, mode balanced" in out
    assert "canary" not in out


def test_json_and_a_report_that_are_the_same(shell, rows, tmp_path):
    report = tmp_path / "report.json"
    code, out, err = shell(rows, rows, *FAKE, "--mode", "strict", "--json", "--out", report)
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert told == json.loads(report.read_text(encoding="utf-8"))
    assert [result["name"] for result in told["results"]] == ["rows.jsonl"] * 2
    assert told["results"][0]["confusion"] == {"tp": 1, "fp": 0, "tn": 2, "fn": 1}
    assert told["mode"] == "strict"
    assert told["policy"]["digest"] == policy.load("minimal").digest
    assert "canary" not in out


def test_the_command_in_the_report_gives_it_again(shell, rows, tmp_path):
    spaced = tmp_path / "with space.jsonl"
    rows.rename(spaced)
    _, out, _ = shell(spaced, *FAKE, "--json")
    command = json.loads(out)["command"]
    assert command.startswith("guard eval ")
    shown = subprocess.run(
        f"{sys.executable} -m {command} --json", shell=True, capture_output=True, text=True, env=os.environ, check=True
    )
    assert shown.stdout == out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "no benchmark 'nothing'"),
        (["xstest"], "--root"),
        (["xstest", "--root", "."], "xstest_prompts.csv: cannot be read"),
        (["missing.jsonl"], "missing.jsonl: cannot be read"),
        (["rows.jsonl", "--mode", "brave"], "'brave' is not one of 'strict', 'balanced', 'permissive'"),
        (["rows.jsonl", "--out", "no/folder/report.json"], "there is no folder"),
        (["rows.jsonl", "--out", "."], "is a folder; give the name of a file"),
        (["broken.jsonl"], "broken.jsonl row 2: has no field `label`"),
        ([], "Missing argument"),
    ],
)
def test_bad_input_ends_with_2(shell, rows, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    Path("broken.jsonl").write_text('{"prompt": "canary", "label": "safe"}\n{"prompt": "canary"}\n', encoding="utf-8")
    code, out, err = shell(*arguments, *FAKE)
    assert (code, out) == (2, "")
    assert message in err
    assert "canary" not in err


@pytest.fixture
def sealed(tmp_path):
    """A bundle of a real, very small model: embeddings of a few words, averaged."""
    onnx = pytest.importorskip("onnx")
    tokenizers = pytest.importorskip("tokenizers")
    folder = tmp_path / "tiny"
    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *LAYOUT["roles"].values(), LAYOUT["category"], "bread", "hello"]
    model = tokenizers.models.WordLevel({word: index for index, word in enumerate(words)}, "[UNK]")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    make, kind = onnx.helper, onnx.TensorProto
    table = np.random.default_rng(0).normal(size=(len(words), 4)).astype(np.float32)
    graph = make.make_graph(
        [
            make.make_node("Gather", ["table", "input_ids"], ["states"]),
            make.make_node("ReduceMean", ["states", "axis"], ["vector"], keepdims=0),
            make.make_node("Transpose", ["categories"], ["turned"]),
            make.make_node("MatMul", ["vector", "turned"], ["logits"]),
        ],
        "tiny",
        [
            *(
                make.make_tensor_value_info(name, kind.INT64, ["batch", "tokens"])
                for name in ("input_ids", "attention_mask", "token_type_ids")
            ),
            make.make_tensor_value_info("categories", kind.FLOAT, ["categories", 4]),
        ],
        [
            make.make_tensor_value_info("vector", kind.FLOAT, ["batch", 4]),
            make.make_tensor_value_info("logits", kind.FLOAT, ["batch", "categories"]),
        ],
        [onnx.numpy_helper.from_array(table, "table"), onnx.numpy_helper.from_array(np.array([1]), "axis")],
    )
    opset = make.make_opsetid("", 18)
    onnx.save(make.make_model(graph, opset_imports=[opset], ir_version=9), folder / "model.onnx")
    rules = policy.load("minimal")
    (folder / "policy.yaml").write_text(policy.dump(rules), encoding="utf-8")
    write_calibration(Calibration(), folder / "calibration.json")
    bundle.seal(
        folder,
        name="tiny",
        kind="mini",
        base="nothing",
        policy=rules.digest,
        renderer=LAYOUT_DIGEST,
        max_tokens=32,
        overlap=8,
        data=None,
    )
    return folder


def test_a_card_is_written_into_the_bundle_and_breaks_no_seal(shell, rows, sealed):
    code, _, err = shell(rows, "--card", sealed)
    assert (code, err) == (0, "")
    card = (sealed / "README.md").read_text(encoding="utf-8")
    assert card.startswith("# tiny\n")
    assert "| **rows.jsonl** | 4 | 2 |" in card
    assert f"--model {sealed}" in card
    assert "canary" not in card
    assert bundle.open_bundle(sealed).manifest.model in card


def test_a_card_of_another_model_is_not_written(shell, rows, sealed):
    code, _, err = shell(rows, "--card", sealed, *FAKE)
    assert code == 2
    assert "must be the evaluated model" in err
    assert not (sealed / "README.md").exists()


def test_a_folder_without_a_bundle_ends_with_3(shell, rows, tmp_path):
    code, _, err = shell(rows, "--card", tmp_path)
    assert code == 3
    assert "no guard.json there" in err
