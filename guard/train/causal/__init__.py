"""Causal guards: language models that are fine-tuned to write verdicts, and their export."""

import logging

# bitsandbytes warns at import that a kernel for layers in 4 bits on CPUs is missing, which nobody here has asked for.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
