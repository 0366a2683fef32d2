"""A multilingual base made small: a vocabulary of the pieces that given texts need, and a guard's control tokens.

    python -m guard.train.encoder.prune BASE OUT --data FOLDER [--texts FILE …]

BASE is a BERT-shaped encoder with a Unigram vocabulary, such as intfloat/multilingual-e5-small (Wang et al. 2024,
arXiv:2402.05672) as its Hub folder has it; three quarters of its numbers are vectors of pieces. Kept are the pieces of
which `--data` (a `guard data build` folder) and `--texts` (plain text, a line each) consist, and all of one character,
so that nothing is unknown that was not before. The pieces' scores stay, so that what is kept is cut as it was.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from guard.data.dataset.examples import load_examples
from guard.errors import ConfigError
from guard.prompts.encoder import LAYOUT

WORDS = "embeddings.word_embeddings.weight"
CONTROLS = {"[PAD]": "<pad>", "[CLS]": "<s>", "[SEP]": "</s>"}  # and the base's own token that each begins as
# Words as whose mean the tokens of roles and of categories begin, by the name of the role.
MEANINGS = {"user": ("▁user",), "assistant": ("▁assistant", "▁answer"), "tool": ("▁tool",), "system": ("▁system",)}
CATEGORY = ("▁category",)
UNKNOWN = "[UNK] piece"  # with a blank, so that no text can spell it
_BATCH = 1000  # texts


def prune(base: Path, out: Path, texts: Iterable[str]) -> tuple[int, int]:
    """Writes the pruned base to the folder `out`, which must not exist; the numbers of pieces before and after.

    ConfigError if the base's vocabulary is not Unigram or lacks a token that a control token begins as.
    """
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    plain = json.loads(tokenizer.to_str())
    if plain["model"]["type"] != "Unigram":
        raise ConfigError(f"{base}: its vocabulary is {plain['model']['type']}; only Unigram vocabularies are pruned")
    pieces: list[tuple[str, float]] = [(piece, score) for piece, score in plain["model"]["vocab"]]
    place = {piece: index for index, (piece, _) in enumerate(pieces)}
    control = {token["content"] for token in plain["added_tokens"]}
    if missing := sorted(set(CONTROLS.values()) - set(place)):
        raise ConfigError(f"{base}: its vocabulary lacks {', '.join(missing)}")
    kept = _kept(tokenizer, pieces, control, texts)

    weights = {name.removeprefix("bert."): tensor for name, tensor in load_file(base / "model.safetensors").items()}
    table = weights[WORDS]
    begun = [table[place[own]] for own in CONTROLS.values()]
    for meanings in (*MEANINGS.values(), CATEGORY):
        known = [place[piece] for piece in meanings if piece in place]
        begun.append(table[known].mean(0) if known else table.mean(0))
    weights[WORDS] = torch.cat([table[[plain["model"]["unk_id"], *kept]], torch.stack(begun)])

    out.mkdir(parents=True)
    names = [*CONTROLS, *LAYOUT["roles"].values(), LAYOUT["category"]]
    vocabulary = [[UNKNOWN, 0.0], *(list(pieces[index]) for index in kept)]
    _write_tokenizer(plain, vocabulary, names, out / "tokenizer.json")
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    config |= {"vocab_size": len(weights[WORDS]), "pad_token_id": len(vocabulary)}
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, out / "model.safetensors")
    for licence in base.glob("LICEN[CS]E*"):
        shutil.copyfile(licence, out / licence.name)
    return len(pieces), len(vocabulary)


def _kept(
    tokenizer: Tokenizer, pieces: Sequence[tuple[str, float]], control: set[str], texts: Iterable[str]
) -> list[int]:
    """Indices of the pieces to keep, rising."""
    used = {index for index, (piece, _) in enumerate(pieces) if len(piece.removeprefix("▁")) <= 1}
    for batch in _batches(texts):
        for found in tokenizer.encode_batch_fast(batch, add_special_tokens=False):
            used.update(found.ids)
    return sorted(index for index in used if index < len(pieces) and pieces[index][0] not in control)


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    yield batch


def _write_tokenizer(plain: dict[str, Any], vocabulary: list[list[Any]], names: Sequence[str], path: Path) -> None:
    """`plain` with another vocabulary, and with control tokens that are no pieces of it but stand behind them."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": len(vocabulary) + place, "content": name, **flags} for place, name in enumerate(names)]
    model = plain["model"] | {"unk_id": 0, "vocab": vocabulary}
    changed = {"added_tokens": added, "model": model, "post_processor": None, "truncation": None, "padding": None}
    path.write_text(json.dumps(plain | changed, ensure_ascii=False), encoding="utf-8")


def texts_of(data: Path | None, files: Sequence[Path]) -> Iterator[str]:
    """The messages of a built data set's training split, and the lines of text files."""
    for example in [] if data is None else load_examples(data, "train"):
        yield from (message.content for message in example.conversation.messages)
    for file in files:
        with file.open(encoding="utf-8") as lines:
            yield from lines


def main() -> None:
    parser = argparse.ArgumentParser(description="Prune the vocabulary of a multilingual base.")
    parser.add_argument("base", type=Path, help="folder with config.json, model.safetensors and tokenizer.json")
    parser.add_argument("out", type=Path, help="folder to write; must not exist")
    parser.add_argument("--data", type=Path, help="folder made by `guard data build`")
    parser.add_argument("--texts", type=Path, nargs="*", default=[], help="text files in the languages to be read")
    given = parser.parse_args()
    before, after = prune(given.base, given.out, texts_of(given.data, given.texts))
    print(f"{given.out}: {after:,} of {before:,} pieces kept")  # noqa: T201


if __name__ == "__main__":
    main()
