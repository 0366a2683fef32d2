"""The safety reward inside a real GRPOTrainer: two steps of a tiny random model on the CPU, by the shipped example."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from tests.fixtures import warm

EXAMPLE = Path(__file__).parents[2] / "examples" / "grpo_safety.py"
# In a process of its own, because the trainers' libraries warn and here a warning is an error.
SCRIPT = """
import runpy, sys
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

bpe = Tokenizer(models.BPE())
bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
bpe.decoder = decoders.ByteLevel()
special = ["<pad>", "<end>", "<user>", "<assistant>"]
alphabet = pre_tokenizers.ByteLevel.alphabet()
bpe.train_from_iterator(
    ["tell me about the sea", "violates:M1"] * 9,
    trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet),
)
tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token="<pad>", eos_token="<end>")
tokenizer.chat_template = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
model = LlamaForCausalLM(LlamaConfig(
    vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=2, initializer_range=0.2, pad_token_id=0, eos_token_id=1, bos_token_id=None,
))
folder = sys.argv.pop(1)
tokenizer.save_pretrained(folder)
model.save_pretrained(folder)
sys.argv = [sys.argv[1], *sys.argv[2:]]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.slow
def test_two_steps_of_grpo_log_the_rewards(tmp_path):
    for package in ("trl", "torch", "transformers", "datasets"):
        pytest.importorskip(package)
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": [{"role": "user", "content": "tell me about the sea"}]}\n' * 4)
    base, out = tmp_path / "base", tmp_path / "out"
    arguments = [EXAMPLE, prompts, out, "--base", base, "--guard", "fake", "--policy", "minimal", "--steps", "2"]
    done = warm.python("-c", SCRIPT, base, *arguments, "--tokens", "8")
    assert done.returncode == 0, done.stderr[-2000:]
    state = json.loads((out / "trainer_state.json").read_text())
    assert state["global_step"] == 2
    steps = [entry for entry in state["log_history"] if "reward" in entry]
    assert [entry["step"] for entry in steps] == [1, 2]
    for entry in steps:
        assert -8 <= entry["rewards/trl/mean"] <= 8
        assert math.isfinite(entry["loss"])
        assert -8 <= entry["guard/safe"] <= 8
        assert entry["guard/undecided"] == 0
