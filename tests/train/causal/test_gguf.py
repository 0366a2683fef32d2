"""A base from a GGUF file: weights, ids and logits of the model that the file was written from, or a clear error."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from guard.cli import main
from guard.cli.train import is_causal
from tests.fixtures import tiny_sft, warm

DRIVER = """
import json, shutil, sys
from pathlib import Path
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM
from guard.errors import GuardError
from guard.prompts.prompt import load_prompt
from guard.train.causal.base import tokenizer_of
from guard.train.causal.checkpoint import loadable, model_folder
from guard.train.causal.gguf import converted
from tests.fixtures import tiny_causal, tiny_gguf

root = Path(sys.argv[1])
base = root / "base"
tiny_causal.write_base(base)
whole = tiny_gguf.write(base, root / "whole.gguf")
found = {}

folder = model_folder(str(whole), {})
before, after = load_file(base / "model.safetensors"), load_file(folder / "model.safetensors")
found["names"] = sorted(before) == sorted(after)
found["equal"] = all(torch.equal(before[name], after[name]) for name in before)
ids = torch.arange(3, 90)[None]
with torch.no_grad():
    one, other = (AutoModelForCausalLM.from_pretrained(path)(ids).logits for path in (base, folder))
found["logits"] = float((one - other).abs().max())
text = "I'll hit you at 12 o'clock, <|eot_id|> caf\\u00e9\\n\\nSafe?"
prompts = [load_prompt(path / "tokenizer.json", 512, 16) for path in (base, folder)]
found["ids"] = len({prompt.chat.text(text) for prompt in prompts}) == 1
found["controls"] = len({prompt.chat.control_ids for prompt in prompts}) == 1
found["template"] = (folder / "chat_template.jinja").read_text() == tiny_gguf.TEMPLATE
found["architectures"] = json.loads((folder / "config.json").read_text())["architectures"]
found["again"] = str(converted(whole)) == str(folder) == loadable(str(whole))
written = (folder / "model.safetensors").stat().st_mtime_ns
found["no leftovers"] = sorted(path.name for path in folder.parent.iterdir()) == [folder.name]
copy = root / "elsewhere" / "whole.gguf"
copy.parent.mkdir()
shutil.copy(whole, copy)
found["by contents"] = str(converted(copy)) == str(folder)

(root / "cut.gguf").write_bytes(whole.read_bytes()[:-1000])
(root / "torn.gguf").write_bytes(whole.read_bytes()[:300])
(root / "text.gguf").write_text("hello")
tiny_gguf.write(base, root / "other.gguf", architecture="whisper")
tiny_gguf.write(base, root / "part.gguf", parts="3")
tiny_gguf.write(base, root / "holes.gguf", drop="blk.1.ffn_up.weight")
tiny_gguf.write(base, root / "spelt.gguf", control="normal")
tiny_gguf.write(base, root / "bare.gguf", template="none")
(root / "only").mkdir()
shutil.copy(whole, root / "only" / "model.gguf")
shutil.copy(base / "config.json", root / "only")
errors = {}
def told(name, call):
    try:
        call()
        errors[name] = "no error"
    except GuardError as problem:
        errors[name] = f"{type(problem).__name__}: {problem}"
for name in ("cut", "torn", "text", "other", "part", "holes", "nowhere"):
    told(name, lambda: model_folder(str(root / f"{name}.gguf"), {}))
for name in ("spelt", "bare"):
    told(name, lambda: load_prompt(tokenizer_of(loadable(str(root / f"{name}.gguf"))), 512, 16))
told("only", lambda: tokenizer_of(str(root / "only")))
told("hub tokenizer", lambda: tokenizer_of("nobody/nothing-1B"))
told("hub", lambda: model_folder("nobody/nothing-1B", {}))
import os
os.environ["XDG_CACHE_HOME"] = str(root / "text.gguf")
told("cache", lambda: converted(tiny_gguf.write(base, root / "new.gguf", template="none", parts="1")))
(root / "found.json").write_text(json.dumps({"found": found, "errors": errors}))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("gguf", "transformers", "peft"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("gguf")
    done = warm.python("-c", DRIVER, str(folder), environment={"XDG_CACHE_HOME": str(folder / "cache")})
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def result(place: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((place / "found.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.slow
def test_a_gguf_file_gives_the_model_that_it_was_written_from(result: dict[str, Any]) -> None:
    found = result["found"]
    assert found.pop("logits") == 0.0
    assert found.pop("architectures") == ["LlamaForCausalLM"]
    assert found == dict.fromkeys(found, True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("cut", r"BundleError: .*cut\.gguf: not a whole GGUF file \(\w+\); download it again"),
        ("torn", r"BundleError: .*torn\.gguf: not a whole GGUF file"),
        ("text", r"BundleError: .*text\.gguf: not a whole GGUF file"),
        ("other", r"BundleError: .*architecture 'whisper', which transformers [\d.]+ does not load .*hf download"),
        ("part", r"BundleError: .*part\.gguf: one of 3 parts; join them first: llama-gguf-split --merge"),
        ("holes", r"BundleError: .*holds no tensor for model\.layers\.1\.mlp\.up_proj\.weight \(1 such"),
        ("nowhere", r"BundleError: .*nowhere\.gguf: no such file; download it \(hf download"),
        (
            "spelt",
            r"BundleError: .*<\|start_header_id\|> is an ordinary token of the vocabulary, which any text",
        ),
        ("bare", "no error"),
        ("only", r"ConfigError: .*the folder holds no weights .*; give the file itself: base=.*only/model\.gguf"),
        (
            "hub tokenizer",
            r"ConfigError: base 'nobody/nothing-1B': no folder of .*hf download nobody/nothing-1B --local",
        ),
        (
            "hub",
            r"BundleError: base 'nobody/nothing-1B': .*\(HF_HUB_OFFLINE is set\).*then give that folder, or a .gguf",
        ),
        ("cache", r"BundleError: .*cannot be converted to .*bases \(Not a directory\).*set XDG_CACHE_HOME"),
    ],
)
def test_a_file_that_is_no_base_is_told_with_what_to_do(result: dict[str, Any], case: str, message: str) -> None:
    told = result["errors"][case]
    assert re.match(message, told, re.DOTALL), told


@pytest.mark.slow
def test_the_doctor_takes_a_gguf_file(place: Path) -> None:
    cache = {"XDG_CACHE_HOME": str(place / "cache")}
    done = warm.python(
        "-m", "guard", "doctor", "--json", "--policy", "minimal", str(place / "bare.gguf"), environment=cache
    )
    checks = {each["name"]: each for each in json.loads(done.stdout)["checks"]}
    assert checks["template"]["status"] == "ok", checks
    assert checks["chat template"]["status"] == "warn"
    assert checks["weights"]["status"] == "ok"
    assert checks["label mass"]["status"] == "warn", "random weights"


@pytest.mark.slow
def test_a_gguf_file_is_trained_and_exported(place: Path) -> None:
    tiny_sft.write_data(place / "data")
    cache = {"XDG_CACHE_HOME": str(place / "cache")}
    trained = tiny_sft.command(place, "run", f"base={place / 'whole.gguf'}", "trainer.max_steps=3", "dev_rows=8")
    done = warm.python(*trained[1:], environment=cache)
    assert done.returncode == 0, done.stderr[-3000:]
    record = json.loads((place / "run" / "run.json").read_text(encoding="utf-8"))
    assert record["config"]["base"] == str(place / "whole.gguf")
    merge = (
        "import sys; from pathlib import Path; from guard.train.causal.merged import MergedWeights; "
        "print(MergedWeights(sys.argv[1], Path(sys.argv[2])).tensor('lm_head.weight').shape[0])"
    )
    done = warm.python("-c", merge, str(place / "whole.gguf"), str(place / "run" / "adapter"), environment=cache)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) > 300


def test_without_the_extra_a_gguf_file_says_how_to_install_it() -> None:
    pytest.importorskip("transformers")
    program = (
        "import sys; sys.modules['gguf'] = None\n"
        "from pathlib import Path\n"
        "from guard.errors import MissingExtra\n"
        "from guard.train.causal.gguf import converted\n"
        "try: converted(Path('x.gguf'))\n"
        "except MissingExtra as problem: print(problem)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"gguf is not installed; .*'\.\[gguf\]'\n", done.stdout)


def test_a_gguf_file_is_a_causal_base(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").touch()
    assert is_causal(str(tmp_path / "model.gguf"))
    assert is_causal(str(tmp_path / "nowhere.GGUF"))


def test_the_doctor_names_the_file_of_a_folder_of_gguf_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model-q8.gguf").touch()
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--no-weights", str(tmp_path)])
    assert ended.value.code == 1
    assert f"run: guard doctor {tmp_path / 'model-q8.gguf'}" in capsys.readouterr().out.replace("\n", "")
