"""The forms that a mini guard could ship in, side by side: accuracy, batch invariance, size, load, memory and speed.

    python benchmarks/mini_forms.py [--bundle DIR] [--data DIR] [--threads 1] [--rows N] [--rounds N]

Every form is made from the graph of the bundle: the linear layers of the encoder are found by the names of their
weights, all else (embeddings, attention scores, softmax, LayerNorm, head) is left as it is. Static forms are calibrated
on training rows, one text at a time, so that no padding is counted; the layers that the mixed form leaves in fp32 are
chosen on other training rows. Dev rows of kinds prompt and response are scored alone, and some again in random padded
batches. Speed is measured in rounds, all forms in each, in another order every time; with one thread it is the CPU
time of the process, which a busy machine disturbs less than the clock. The OpenVINO forms need
`pip install 'openvino>=2026.0'`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import multiprocessing
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from mini_quantised import Quantised, calibrated, linears

from guard import assets
from guard.bundle import Bundle, open_bundle
from guard.prompts.encoder import EncoderInput, category_text

RESULTS = Path(__file__).parent / "results" / "mini_forms.json"
DATA = Path(__file__).parent.parent / "data" / "default"
CALIBRATED, HELD_OUT, RESCORED = 512, 64, 300  # rows
IN_FLOAT = 4  # groups of layers that the mixed form leaves in fp32
SHAPES = [(tokens, batch) for tokens in (32, 128, 192) for batch in (1, 16)]
# How one form is run, by the first part of its name; the second says which graph.
FORMS = {
    "ort fp32": "the form of ADR 001",
    "ort static": "QDQ, per-channel weights, one range a tensor, min-max",
    "ort static-percentile": "the same, ranges hold 99.99 % of the values at either end",
    "ort static-smooth": "the same as static, outlier channels moved into the weights (SmoothQuant, alpha 0.5)",
    "ort static-mixed": f"the same as static, the {IN_FLOAT} most sensitive groups of layers in fp32",
    "ort token": "per-channel weights, one scale a token, taken from the token itself",
    "ort token7": "the same, weights of 7 bits",
    "ort int8": "what `guard export --form int8` writes: 8 bits, one scale a token; embedding and head, too",
    "ort dynamic": "quantize_dynamic: one scale a batch",
    "openvino fp32": "the graph of ADR 001 in OpenVINO",
    "openvino bf16": "the same, bf16 hint",
    "openvino static": "the QDQ graph in OpenVINO",
    "torch bf16": "torch under bf16 autocast",
}

Floats = npt.NDArray[np.float64]
Row = tuple[Sequence[int], Sequence[int]]  # token ids, segment ids
Ask = Callable[[dict[str, Any], str], Any]  # inputs, name of the output -> the output


# --- the graphs -------------------------------------------------------------------------------------------------------


def write_forms(bundle: Bundle, folder: Path, wanted: set[str], texts: Callable[[], Sequence[Row]]) -> dict[str, Any]:
    """Writes the graphs `wanted` to `folder`; the report of the sensitivity sweep if one of them needs it.

    `texts`: the training rows, asked for only where a form is calibrated.
    """
    from onnx import TensorProto
    from onnxruntime.quantization import QuantType, quantize_dynamic

    source = bundle.path("model.onnx")

    def write(name: str, made: Quantised) -> Path:
        path = folder / f"{name}.onnx"
        path.write_bytes(made.model().SerializeToString())
        return path

    write("fp32", Quantised(source))
    if "token" in wanted:
        write("token", Quantised(source).per_token())
    if "token7" in wanted:
        write("token7", Quantised(source, bits=7).per_token())
    if "int8" in wanted:
        write_int8(bundle, folder)
    if "dynamic" in wanted:
        quantize_dynamic(
            Quantised(source).transposed().model(),
            folder / "dynamic.onnx",
            per_channel=True,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul"],
            extra_options={"DefaultTensorType": TensorProto.FLOAT},
        )
    if not any(name.startswith("static") for name in wanted):
        return {}
    rows = texts()
    plain = Guard(bundle, onnx_runtime(source, 1))
    seen = [plain.feed([row], plain.categories) for row in [*rows[:CALIBRATED], *plain.category_rows]]
    ranges = calibrated(source, seen)
    write("static", Quantised(source).static(ranges))
    write("static-percentile", Quantised(source).static(ranges, share=0.9999))
    write("static-smooth", Quantised(source).static(ranges, alpha=0.5))
    if "static-mixed" not in wanted:
        return {}
    pairs = [(row, plain.log_odds([row])[0]) for row in rows[CALIBRATED:]]

    def error(in_float: Sequence[str]) -> float:
        """Root mean square of the change in log-odds."""
        path = write("sweep", Quantised(source).static(ranges, in_float=in_float))
        guard = Guard(bundle, onnx_runtime(path, 1))
        return float(np.sqrt(np.mean([(guard.log_odds([row])[0] - z) ** 2 for row, z in pairs])))

    sweep = {group: error([group]) for group in ranges}
    spared = sorted(ranges, key=lambda group: sweep[group])[:IN_FLOAT]
    write("static-mixed", Quantised(source).static(ranges, in_float=spared))
    names = {layer.group: layer.name for layer in linears(Quantised(source).graph)}
    return {
        "all_int8_rms_log_odds": round(error([]), 4),
        "rms_log_odds_without": {names[group]: round(value, 4) for group, value in sweep.items()},
        "in_fp32": [names[group] for group in spared],
    }


def write_int8(bundle: Bundle, folder: Path) -> None:
    import torch

    from guard.train.encoder import integers
    from guard.train.encoder import model as encoder
    from guard.train.encoder.export import write_graph

    model = encoder.load(bundle.root).eval()
    encoder.save(model, folder, torch.float16, integers.rounded_matrices(model))
    write_graph(encoder.load(folder).eval(), folder / "model.safetensors", folder / "int8.onnx", "int8")


# --- running them -----------------------------------------------------------------------------------------------------


def onnx_runtime(path: Path, threads: int) -> Ask:
    from guard.engines.session import session

    opened = session(str(path), threads)
    return lambda feed, output: opened.run([output], feed)[0]


def openvino(path: Path, threads: int, precision: str) -> Ask:
    import openvino

    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    }
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    request = compiled.create_infer_request()
    return lambda feed, output: request.infer(feed)[compiled.output(output)]


def torch_bf16(folder: Path, threads: int) -> Ask:
    import torch
    from safetensors.torch import load_file
    from transformers import AutoConfig

    from guard.train.encoder.model import ConditionedEncoder

    torch.set_num_threads(threads)
    config = AutoConfig.for_model(**json.loads((folder / "config.json").read_text()))
    model = ConditionedEncoder(config).eval()
    weights = {name: tensor.float() for name, tensor in load_file(folder / "model.safetensors").items()}
    model.load_state_dict(weights, strict=False)  # parts of the head that an older bundle lacks begin as zeros

    def ask(feed: dict[str, Any], output: str) -> Any:
        tensors = {name: torch.from_numpy(value) for name, value in feed.items()}
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            return model(**tensors)[("vector", "logits").index(output)].float().numpy()

    return ask


def opened(form: str, bundle: Bundle, folder: Path, threads: int) -> Ask:
    runtime, graph = form.split(" ")
    if runtime == "torch":
        return torch_bf16(bundle.root, threads)
    if runtime == "openvino":
        name, precision = (graph, "f32") if graph == "static" else ("fp32", {"fp32": "f32", "bf16": "bf16"}[graph])
        return openvino(folder / f"{name}.onnx", threads, precision)
    return onnx_runtime(bundle.path("model.onnx") if graph == "fp32" else folder / f"{graph}.onnx", threads)


class Guard:
    """A form with the bundle's own policy."""

    def __init__(self, bundle: Bundle, ask: Ask) -> None:
        manifest = bundle.manifest
        self.input = EncoderInput.load(bundle.path("tokenizer.json"), manifest.max_tokens, manifest.overlap)
        self._ask = ask
        width = json.loads(bundle.path("config.json").read_text())["hidden_size"]
        none = np.zeros((1, width), np.float32)
        texts = [self.input.category_ids(category_text(category)) for category in bundle.policy.categories]
        self.category_rows: list[Row] = [(ids, (0,) * len(ids)) for ids in texts]
        self.categories = np.concatenate([ask(self.feed([row], none), "vector") for row in self.category_rows])

    def feed(self, rows: Sequence[Row], categories: npt.NDArray[np.float32]) -> dict[str, Any]:
        longest = max(len(ids) for ids, _ in rows)
        ids = np.full((len(rows), longest), self.input.pad, np.int64)
        segments, mask = np.zeros_like(ids), np.zeros_like(ids)
        for row, (tokens, kinds) in enumerate(rows):
            ids[row, : len(tokens)], segments[row, : len(kinds)], mask[row, : len(tokens)] = tokens, kinds, 1
        return {"input_ids": ids, "attention_mask": mask, "token_type_ids": segments, "categories": categories}

    def log_odds(self, rows: Sequence[Row]) -> Floats:
        logits = np.asarray(self._ask(self.feed(rows, self.categories), "logits"), np.float64)
        return np.asarray(np.logaddexp.reduce(logits, axis=1))


# --- what is measured -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Dev:
    """Dev rows as windows: `rows[i]` are those of example i."""

    rows: list[list[Row]]
    unsafe: npt.NDArray[np.bool_]
    response: npt.NDArray[np.bool_]


def windows(bundle: Bundle, data: Path, split: str, limit: int | None) -> Dev:
    from guard.conversation import Target
    from guard.data.dataset.examples import load_examples

    reader = EncoderInput.load(bundle.path("tokenizer.json"), bundle.manifest.max_tokens, bundle.manifest.overlap)
    examples = [example for example in load_examples(data, split) if example.kind in ("prompt", "response")]
    if limit is not None and limit < len(examples):
        examples = random.Random(0).sample(examples, limit)
    read = [reader.tokenize(example.conversation, bundle.policy).windows for example in examples]
    return Dev(
        [[(window.ids, window.segments) for window in found] for found in read],
        np.array([example.label == "unsafe" for example in examples]),
        np.array([example.conversation.target is Target.RESPONSE for example in examples]),
    )


def probabilities(bundle: Bundle, dev: Dev, log_odds: Floats) -> Floats:
    scales = (bundle.calibration.prompt, bundle.calibration.response)
    found = [scale.slope * log_odds + scale.bias for scale in scales]
    return np.asarray(1 / (1 + np.exp(-np.where(dev.response, found[1], found[0]))))


def accuracy(bundle: Bundle, dev: Dev, guard: Guard, fp32: Floats | None) -> tuple[dict[str, Any], Floats]:
    """Against labels, against the fp32 form, and against itself in padded batches; and p(unsafe) of the rows."""
    from guard.metrics import classification

    worst = np.array([max(guard.log_odds([row])[0] for row in rows) for rows in dev.rows])
    p = probabilities(bundle, dev, worst)
    base = p if fp32 is None else fp32
    result: dict[str, Any] = {}
    thresholds = np.where(
        dev.response,
        bundle.calibration.response.thresholds.balanced,
        bundle.calibration.prompt.thresholds.balanced,
    )
    for name, chosen in (("prompt", ~dev.response), ("response", dev.response)):
        best, was = (classification.best_f1(dev.unsafe[chosen], scores[chosen]) for scores in (p, base))
        area = classification.auprc(dev.unsafe[chosen], p[chosen])
        assert best is not None
        assert was is not None
        assert area is not None
        result[name] = {
            "auprc": round(area, 4),
            "best_f1": round(best.value, 4),
            "best_f1_change_points": round(100 * (best.value - was.value), 2),
        }
    change = np.abs(p - base)
    result["flips"] = int(((p >= thresholds) != (base >= thresholds)).sum())
    result["dp_max"], result["dp_p99"] = float(f"{change.max():.3g}"), float(f"{np.quantile(change, 0.99):.3g}")
    single = [index for index, rows in enumerate(dev.rows) if len(rows) == 1][:RESCORED]
    random.Random(1).shuffle(single)
    longest = max((row for rows in dev.rows for row in rows), key=lambda row: len(row[0]))
    together = worst.copy()
    for start in range(0, len(single), 15):
        batch = single[start : start + 15]
        together[batch] = guard.log_odds([*(dev.rows[index][0] for index in batch), longest])[: len(batch)]
    result["alone_vs_batch_dp_max"] = float(f"{np.abs(probabilities(bundle, dev, together) - p).max():.3g}")
    return result, p


def speed(guards: Mapping[str, Guard], vocabulary: int, rounds: int, threads: int) -> dict[str, Any]:
    """Texts a second by shape, and the median of the rounds' ratios to the first form."""
    clock = time.process_time if threads == 1 else time.perf_counter
    pick = np.random.default_rng(0)
    taken: dict[str, dict[str, list[float]]] = {form: {} for form in guards}
    for tokens, batch in SHAPES:
        ids = [tuple(map(int, pick.integers(1000, vocabulary, tokens))) for _ in range(batch)]
        rows: list[Row] = [(row, (0,) * tokens) for row in ids]
        repeats = max(1, 256 // (tokens * batch))
        for attempt in range(rounds + 1):
            order = list(guards)
            random.Random(attempt).shuffle(order)
            for form in order:
                started = clock()
                for _ in range(repeats):
                    guards[form].log_odds(rows)
                if attempt:  # the first round warms up
                    spent = (clock() - started) / repeats / batch
                    taken[form].setdefault(f"{batch}x{tokens}", []).append(spent)
    base = taken[next(iter(guards))]
    return {
        form: {
            shape: {
                "texts_per_s": round(1 / statistics.median(times), 1),
                "times_fp32": round(statistics.median(b / t for b, t in zip(base[shape], times, strict=True)), 2),
            }
            for shape, times in shapes.items()
        }
        for form, shapes in taken.items()
    }


def loaded(form: str, bundle: Path, folder: Path, times: int) -> dict[str, float]:
    """Load time and peak memory of fresh processes (median) that open the form and score two short texts."""
    command = [sys.executable, __file__, "--bundle", str(bundle), "--open", form, "--folder", str(folder)]
    found = [
        json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(times)
    ]
    return {key: round(statistics.median(each[key] for each in found), 2) for key in found[0]}


def open_once(form: str, bundle: Bundle, folder: Path) -> dict[str, float]:
    if form.startswith("torch"):
        import torch  # noqa: F401 - imports are not counted as loading
        import transformers  # noqa: F401

        import guard.train.encoder.model
    elif form.startswith("openvino"):
        import openvino  # noqa: F401
    else:
        import guard.engines.session  # noqa: F401
    started = time.process_time()
    ask = opened(form, bundle, folder, 1)
    seconds = time.process_time() - started
    made = Guard(bundle, ask)
    made.log_odds([((101, 1000, 102), (0, 0, 0))] * 2)
    # Not ru_maxrss, which a new process inherits from the one that started it.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {"load_cpu_s": seconds, "peak_rss_mb": int(status["VmHWM"].split()[0]) / 1024}


def size_mb(form: str, bundle: Bundle, folder: Path) -> float:
    runtime, graph = form.split(" ")
    if runtime == "torch":
        return round(bundle.path("model.safetensors").stat().st_size / 1e6, 1)
    graph = "fp32" if graph == "bf16" else graph
    file = "model.safetensors" if graph == "int8" else f"{graph}.onnx"
    return round((folder / file).stat().st_size / 1e6, 1)


def measured(bundle: Bundle, data: Path, options: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Any]]:
    def texts() -> list[Row]:
        # In a process of its own, because the rows of the whole split stay in the memory of whoever read them.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            training = pool.submit(windows, bundle, data, "train", CALIBRATED + HELD_OUT).result()
        return [random.Random(index).choice(found) for index, found in enumerate(training.rows)]

    wanted = {form.split(" ")[1] for form in options.forms}
    yield "sensitivity", write_forms(bundle, folder, wanted, texts)
    dev = windows(bundle, data, "dev", options.rows)
    yield "dev_rows", {"prompt": int((~dev.response).sum()), "response": int(dev.response.sum())}
    guards = {form: Guard(bundle, opened(form, bundle, folder, options.threads)) for form in options.forms}
    fp32 = None
    for form, made in guards.items():
        result, p = accuracy(bundle, dev, made, fp32)
        fp32 = p if fp32 is None else fp32
        where = {
            "what": FORMS[form],
            "mb": size_mb(form, bundle, folder),
            **loaded(form, bundle.root, folder, options.opens),
        }
        yield form, where | result
    vocabulary = guards[options.forms[0]].input.tokenizer.get_vocab_size()
    yield "speed", speed(guards, vocabulary, options.rounds, options.threads)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=assets.default_bundle())
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", type=int, help="dev rows, default all")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--opens", type=int, default=3, help="processes that load each form")
    parser.add_argument("--forms", nargs="+", choices=list(FORMS), default=list(FORMS), help="the first is the base")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--open", help=argparse.SUPPRESS)  # one form in a process of its own
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    bundle = open_bundle(options.bundle)
    if options.open:
        print(json.dumps(open_once(options.open, bundle, options.folder)))
        return
    result: dict[str, Any] = {
        "command": f"python benchmarks/mini_forms.py --threads {options.threads} --rounds {options.rounds}"
        + (f" --rows {options.rows}" if options.rows else ""),
        "model": bundle.manifest.model,
        "speed_in": "CPU time" if options.threads == 1 else "wall time",
        "cores": len(os.sched_getaffinity(0)),
        "versions": {name: importlib.metadata.version(name) for name in ("onnxruntime", "openvino", "torch")},
    }
    with tempfile.TemporaryDirectory() as folder:
        for key, value in measured(bundle, options.data, options, Path(folder)):
            print(json.dumps({key: value}), flush=True)
            result[key] = value
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
