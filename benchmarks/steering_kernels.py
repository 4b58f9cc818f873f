"""InfoSteer's kernels against plain torch, and what they add to a forward and backward pass of SmolLM2-135M.

    python -m benchmarks.steering_kernels [--device cuda] [--repetitions 9]

The in-model part times forward, loss and backward without the optimiser, so its ratios are stricter than those of whole
steps. Peak memory is that of a fresh process for each variant, with gradients and without optimiser states.
"""

from __future__ import annotations

import argparse
import functools
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.results import Report, Row, save
from benchmarks.timing import interleave, ratio
from steerline.config.steering import BoostSpec, EntropySpec, SteeringSpec
from steerline.steering import attach, ops, rows
from steerline.steering.infosteer import num_edited
from steerline.steering.presets import PAPER_LITERAL, RECOMMENDED
from steerline.steering.rows import Edit

B, T, F = 4, 128, 1536
VARIANTS = {
    "plain": SteeringSpec(),
    "entropy, all tokens": SteeringSpec(entropy=EntropySpec(tokens="all")),
    "boost, magnitude": RECOMMENDED,
    "boost, value": PAPER_LITERAL,
    "boost, fraction 0.1": SteeringSpec(boost=BoostSpec(select="magnitude", mean="abs", keep_sign=True, fraction=0.1)),
}


def seconds(work: Callable[[], object], device: str) -> float:
    """Wall time of one call."""
    synchronise(device)
    start = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - start


def synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def kernel_rows(device: str, repetitions: int) -> list[Row]:
    """Each operator at the size of one layer of SmolLM2, beside its readable version and that version compiled."""
    keys = functional.silu(torch.randn(B * T, F, device=device)) * torch.randn(B * T, F, device=device)
    keys = keys.to(torch.bfloat16)
    grad = torch.randn_like(keys)
    n = num_edited(0.01, F)
    picked = rows.select(keys, n, True, False)
    weights = torch.ones(B * T, device=device)
    strengths = torch.ones(1, dtype=torch.float64)
    edit = Edit(1.0, True, True, False)
    signs = rows.signs_at(keys, picked)
    edited, means = rows.replace(keys, picked, signs, strengths, edit)
    found = rows.entropy(keys, weights, "abs_l1")
    rest = (picked, signs, means, strengths)
    pairs: dict[str, tuple[Callable[[], object], Callable[..., object], tuple[Any, ...]]] = {
        "select": (lambda: ops.select_keys(keys, n, True, False), rows.select, (keys, n, True, False)),
        "replace": (
            lambda: ops.replace_keys(keys, picked, signs, strengths, *edit[:3]),
            rows.replace,
            (keys, picked, signs, strengths, edit),
        ),
        "replace, backward": (
            lambda: ops.replace_keys_backward(grad, edited, *rest, *edit),
            rows.replace_backward,
            (grad, edited, *rest, edit),
        ),
        "entropy": (lambda: ops.entropy_rows(keys, weights, "abs_l1"), rows.entropy, (keys, weights, "abs_l1")),
        "entropy, backward": (
            lambda: ops.entropy_rows_backward(keys, grad, weights, *found, "abs_l1"),
            rows.entropy_backward,
            (keys, grad, weights, found, "abs_l1"),
        ),
    }
    table = []
    for name, (fast, plain, arguments) in pairs.items():
        compiled = torch.compile(plain)
        start = time.perf_counter()
        compiled(*arguments)
        latency = time.perf_counter() - start
        contestants = {
            "fast": lambda fast=fast: seconds(fast, device),
            "plain": lambda plain=plain, arguments=arguments: seconds(lambda: plain(*arguments), device),
            "inductor": lambda compiled=compiled, arguments=arguments: seconds(lambda: compiled(*arguments), device),
        }
        interleave(contestants, repetitions=3)
        samples = interleave(contestants, repetitions=10 * repetitions)
        times = ", ".join(f"{key} {1e3 * sorted(value)[len(value) // 2]:.3f} ms" for key, value in samples.items())
        measured = f"{ratio(samples, 'fast', 'plain')}; {times}; inductor's first call {latency:.1f} s"
        table.append(Row(f"{name}, {B}x{T} keys of {F}, bf16", "plain torch", "report", measured, None))
    return table


@contextmanager
def step(variant: str, device: str) -> Iterator[Callable[[], object]]:
    """A forward and backward pass of SmolLM2 under one variant."""
    model = model_on(device)
    ids = torch.randint(0, model.config.vocab_size, (B, T), generator=torch.Generator().manual_seed(0)).to(device)
    mask = torch.ones(B, T, dtype=torch.bool, device=device)
    spec = VARIANTS[variant]

    with attach(model, spec) as attachment:

        def work() -> None:
            model.zero_grad(set_to_none=True)
            with attachment.recording(mask, mask) as recording:
                logits: Tensor = model(input_ids=ids, use_cache=False).logits
                loss = functional.cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1))
                total = loss - attachment.entropy_strength * recording.entropy_sums().sum() / recording.num_tokens
                total.backward()

        yield work


@functools.cache
def model_on(device: str) -> Any:
    """SmolLM2-135M in bf16, loaded once in a process."""
    from steerline.config.model import ModelSpec, PackagedModel
    from steerline.models.load import load_model

    spec = ModelSpec(source=PackagedModel(kind="packaged", name="smollm2-135m-instruct"))
    return load_model(spec, dtype=torch.bfloat16).model.to(device).train()


def timed_rows(device: str, repetitions: int) -> list[Row]:
    """Forward and backward of each variant over that of the plain model."""

    def measure(variant: str) -> float:
        with step(variant, device) as work:
            return seconds(work, device)

    contestants: dict[str, Callable[[], float]] = {name: lambda name=name: measure(name) for name in VARIANTS}
    interleave(contestants, repetitions=2)
    samples = interleave(contestants, repetitions=repetitions)
    base = sorted(samples["plain"])[repetitions // 2]
    table = []
    for name in list(VARIANTS)[1:]:
        found = ratio(samples, name, "plain")
        table.append(
            Row(
                f"forward + backward, {name}, SmolLM2-135M {B}x{T} bf16",
                f"plain ({1e3 * base:.0f} ms)",
                "<= 1.05",
                str(found),
                found.median <= 1.05,
            )
        )
    return table


def peak_rows(device: str, repetitions: int) -> list[Row]:
    """Peak memory of a fresh process for each variant over that of the plain model."""

    def measure(variant: str) -> float:
        command = [sys.executable, "-m", "benchmarks.steering_kernels", "--device", device, "--peak", variant]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])

    names = ("plain", "entropy, all tokens", "boost, magnitude")
    samples = interleave({name: lambda name=name: measure(name) for name in names}, repetitions=repetitions)
    table = []
    for name in names[1:]:
        found = ratio(samples, name, "plain")
        against = f"plain ({min(samples['plain']):.0f} MiB)"
        table.append(Row(f"peak memory, {name}", against, "<= 1.02", str(found), found.median <= 1.02))
    return table


def peak(variant: str, device: str) -> float:
    """MiB at the peak of three passes in this process."""
    with step(variant, device) as work:
        for _ in range(3):
            work()
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--repetitions", type=int, default=5, help="at least 5 for figures that are kept")
    parser.add_argument("--peak", choices=VARIANTS, help="print one variant's peak memory and stop")
    args = parser.parse_args()
    torch.manual_seed(0)
    if args.peak:
        print(peak(args.peak, args.device))
        return
    table = [
        *timed_rows(args.device, args.repetitions),
        *peak_rows(args.device, args.repetitions),
        *kernel_rows(args.device, args.repetitions),
    ]
    for row in table:
        print(f"{row.what} | {row.against} | {row.goal} | {row.measured}")
    save(
        Report(
            name=f"steering_kernels_{args.device}",
            title=f"InfoSteer's kernels ({args.device}, {torch.get_num_threads()} threads)",
            command=f"python -m benchmarks.steering_kernels --device {args.device}",
            rows=table,
            notes=[
                "Ratios are medians over interleaved repetitions (smallest to largest).",
                "Weights: SmolLM2-135M-Instruct. Forward, loss and backward; no optimiser.",
            ],
        )
    )


if __name__ == "__main__":
    main()
