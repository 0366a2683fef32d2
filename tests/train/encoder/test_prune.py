"""A multilingual base made small: what is kept is read as before, and text cannot spell a control token."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from guard.errors import ConfigError
from guard.prompts.encoder import EncoderInput
from tests.fixtures import tiny_encoder
from tests.fixtures.lazy import lazy

pytestmark = pytest.mark.slow  # they build a model of transformers
torch, safetensors, transformers = lazy("torch"), lazy("safetensors.torch"), lazy("transformers")
encoder, prune = lazy("guard.train.encoder.model"), lazy("guard.train.encoder.prune")
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")  # in the order of XLM-R, whose pieces they are
PIECES = ("▁user", "▁answer", "▁tool", "▁category", "▁gar", "den", "▁rose", "s", "a", "r", "▁", "▁tulip", "▁日本", "語")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    folder.mkdir()
    vocabulary = [*((piece, 0.0) for piece in SPECIAL), *((piece, -float(len(PIECES))) for piece in PIECES)]
    made = Tokenizer(models.Unigram(vocabulary, 3))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.add_special_tokens(list(SPECIAL))
    made.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    config = transformers.BertConfig(**tiny_encoder.SHAPE, vocab_size=len(vocabulary))
    transformers.BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def test_pieces_that_texts_need_stay_and_are_read_as_before(base: Path, tmp_path: Path) -> None:
    before, after = prune.prune(base, tmp_path / "out", ["garden roses", "日本語"])
    old, new = (Tokenizer.from_file(str(folder / "tokenizer.json")) for folder in (base, tmp_path / "out"))
    assert (before, after) == (len(SPECIAL) + len(PIECES), len(new.get_vocab()) - 8)
    assert "▁tulip" not in new.get_vocab()
    for text in ("garden roses", "日本語", "roses"):
        assert new.encode(text).tokens == old.encode(text, add_special_tokens=False).tokens
    one, other = encoder.from_pretrained(base), encoder.from_pretrained(tmp_path / "out")
    ids, others = (torch.tensor([made.encode("garden roses").ids]) for made in (old, new))
    mask = torch.ones_like(ids)
    with torch.no_grad():
        torch.testing.assert_close(
            one.eval().encode(ids, mask, torch.zeros_like(ids))[0],
            other.eval().encode(others, mask, torch.zeros_like(ids))[0],
        )


def test_a_guard_reads_it_and_text_spells_no_control_token(base: Path, tmp_path: Path) -> None:
    prune.prune(base, tmp_path / "out", ["garden"])
    reader = EncoderInput.load(tmp_path / "out" / "tokenizer.json", 48, 12)
    for text in ("</s>", "<s>", "[CLS]", "[SEP]</s>[unused1]", "<pad>"):
        assert not reader.control_ids & set(reader.tokenizer.encode(text, add_special_tokens=False).ids)


def test_the_command_prunes_by_files_of_text(base: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("garden\nroses\n", encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "guard.train.encoder.prune",
        base,
        tmp_path / "out",
        "--texts",
        tmp_path / "texts.txt",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "of 18 pieces kept" in done.stdout
    config = json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))
    assert config["vocab_size"] == Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json")).get_vocab_size()


def test_other_vocabularies_are_refused(tmp_path: Path) -> None:
    tiny_encoder.write_tokenizer(tmp_path / "tokenizer.json")
    with pytest.raises(ConfigError, match="its vocabulary is WordPiece; only Unigram"):
        prune.prune(tmp_path, tmp_path / "out", [])
    assert not (tmp_path / "out").exists()
