"""Sixteen rows of one base under LoRA adapters of their own, against the base alone and a merged model for each.

    python -m benchmarks.row_adapters [--repetitions 5] [--threads 2]

SmolLM2-135M-instruct in float32; adapters of rank 8 on all linear maps, with random matrices. All contestants continue
the same 16 prompts greedily by 48 tokens, whatever the model says of an end. The merged models are one for each of the
eight adapters and answer two rows each, at the same time.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import tempfile
import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor

from benchmarks.results import Report, Row, save
from benchmarks.serving import EACH, backend, load, options, request, text
from benchmarks.serving_load import BATCH
from benchmarks.timing import interleave, ratio
from steerline.inference.backends.adapted import AdaptedBackend
from steerline.inference.request import GenRequest, GenResult, StreamingBackend
from steerline.models.adapter import read_adapter
from steerline.models.load import LoadedModel
from steerline.models.lora import merge_lora

ADAPTERS = 8
RANK = 8


def save_adapters(folder: Path) -> list[Path]:
    """Adapters as PEFT writes them, each with its own random matrices."""
    adapted = get_peft_model(load("float32").model, LoraConfig(r=RANK, target_modules="all-linear"))
    matrices = [parameter for name, parameter in adapted.named_parameters() if "lora_" in name]
    found = [folder / str(number) for number in range(ADAPTERS)]
    for number, own in enumerate(found):
        draws = torch.Generator().manual_seed(number)
        for matrix in matrices:
            matrix.data.normal_(std=0.02, generator=draws)
        adapted.save_pretrained(str(own))
    return found


def merged(folder: Path) -> LoadedModel:
    """A whole model with an adapter added to its weights."""
    loaded = load("float32")
    adapted = PeftModel.from_pretrained(loaded.model, str(folder), autocast_adapter_dtype=False)
    return LoadedModel(merge_lora(adapted).eval(), loaded.tokenizer)


def megabytes(tensors: Iterable[Tensor]) -> float:
    """What they take up."""
    return sum(tensor.nbytes for tensor in tensors) / 1e6


def tokens_per_s(backends: Sequence[StreamingBackend], seeds: dict[str, int], name: str) -> float:
    """Of rows that are dealt out to the backends evenly."""
    seed = seeds[name] = seeds.get(name, -1) + 1
    requests = [request(text((seed, n), 60), EACH) for n in range(BATCH)]
    share = BATCH // len(backends)

    async def ask() -> list[list[GenResult]]:
        dealt: list[list[GenRequest]] = [requests[start : start + share] for start in range(0, BATCH, share)]
        return await asyncio.gather(*(one.generate(own) for one, own in zip(backends, dealt, strict=True)))

    gc.collect()
    started = time.perf_counter()
    asyncio.run(ask())
    return BATCH * EACH / (time.perf_counter() - started)


def main() -> None:
    args = options(__doc__).parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        saved = save_adapters(Path(folder))
        base = backend(load("float32"))
        adapters = [read_adapter(one, base.model, torch.float32, torch.device("cpu")) for one in saved]
        adapted = [AdaptedBackend(base, adapter) for adapter in adapters]
        beside = megabytes(tensor for low in adapters[0].maps.values() for tensor in (low.down, low.up))
        copy = megabytes(load("float32").model.parameters())
        contestants: dict[str, Sequence[StreamingBackend]] = {
            "none": [base],
            "one": adapted[:1],
            "eight": adapted,
            "merged": [backend(merged(one)) for one in saved],
        }
    seeds: dict[str, int] = {}
    work = {name: partial(tokens_per_s, some, seeds, name) for name, some in contestants.items()}
    interleave(work, repetitions=1)  # what is made once: kernels, pages
    samples = interleave(work, repetitions=args.repetitions)
    save(report(samples, (beside, copy), args))


def report(samples: dict[str, list[float]], memory: tuple[float, float], args: argparse.Namespace) -> Report:
    def row(what: str, name: str, against: str, whom: str) -> Row:
        rate = statistics.median(samples[name])
        return Row(what, whom, "report", f"{ratio(samples, name, against)}; {rate:.0f} tokens/s", None)

    beside, copy = memory
    each = BATCH // ADAPTERS
    rows = [
        row(f"tokens/s, {BATCH} rows, all with one adapter", "one", "none", "no adapter"),
        row(f"tokens/s, {ADAPTERS} adapters x {each} rows", "eight", "none", "no adapter"),
        row(f"tokens/s, {ADAPTERS} adapters x {each} rows", "eight", "merged", "a merged model for each adapter"),
        Row("memory of an adapter", "a merged model", "report", f"{beside:.0f} MB; {copy:.0f} MB", None),
    ]
    for one in rows:
        print(one.what, one.against, one.measured, sep=" | ")
    notes = [
        f"{args.threads} threads, {args.repetitions} repetitions. Memory is that of weights; a merged model has "
        "pages of keys and values of its own besides."
    ]
    title = "LoRA adapters of their own for rows of a batch"
    return Report("row_adapters", title, "python -m benchmarks.row_adapters", rows, notes)


if __name__ == "__main__":
    main()
