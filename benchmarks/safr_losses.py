"""SAFR's losses against the authors' formulas written plainly: forward and backward time, extra peak memory, value.

    python -m benchmarks.safr_losses [--device cuda] [--repetitions 5] [--long]

Vectors are as wide as H heads of 32, the paper's head width. Peak memory is that of a fresh process, above what it held
with the inputs made.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import torch
from torch import Tensor

from benchmarks.results import Report, Row, save
from benchmarks.timing import interleave, ratio
from steerline.steering import importance_loss, interaction_loss
from steerline.steering.safr_interaction import interaction_sum

SHAPES = {"8,8,256": (8, 8, 256), "2,16,1024": (2, 16, 1024), "1,32,4096": (1, 32, 4096)}
HEAD = 32
GOAL_AT = "2,16,1024"
LONG = "1,32,4096"
"""Of which the authors' interaction takes 12 GiB and 96 s a pass: measured once, without those from heads."""
SAMPLE_S = 0.5
"""A pass of 40 ms, taken alone, says more about its neighbours on a shared machine than about itself."""


def reference_importance(x: Tensor) -> Tensor:
    """The authors' formula, as they compute it."""
    unit = x / (1e-5 + x.norm(dim=-1, keepdim=True))
    products = unit @ x.transpose(-1, -2)
    products = products * (1 - torch.eye(x.shape[1], device=x.device))
    return products.square().sum(-1).sqrt().mean() / math.sqrt(x.shape[-1])


def reference_interaction(attention: Tensor) -> Tensor:
    """The authors' formula, as they compute it."""
    weights = attention / attention.sum(-1, keepdim=True)
    overlaps = attention @ attention.transpose(-1, -2)
    overlaps = overlaps * (1 - torch.eye(attention.shape[-1], device=attention.device))
    return (weights * (1 - overlaps)).mean()


def attend(query: Tensor, key: Tensor) -> Tensor:
    """Plain attention probabilities."""
    return (query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])).softmax(-1)


def masked_from_heads(query: Tensor, key: Tensor, causal: bool) -> Tensor:
    """The masked loss from queries and keys, without padding."""
    B, _, T, D = query.shape
    mask = torch.ones(B, T, dtype=torch.bool, device=query.device)
    return interaction_sum(query, key, mask, scaling=1 / math.sqrt(D), causal=causal) / (B * T)


CONTESTANTS: dict[str, tuple[str, Callable[..., Tensor]]] = {
    "importance, authors": ("vectors", reference_importance),
    "importance": ("vectors", importance_loss),
    "interaction, authors": ("attention", reference_interaction),
    "interaction": ("attention", interaction_loss),
    "interaction from heads, authors": ("heads", lambda q, k: reference_interaction(attend(q, k))),
    "interaction from heads, masked": ("heads", lambda q, k: masked_from_heads(q, k, False)),
    "interaction from heads, causal": ("heads", lambda q, k: masked_from_heads(q, k, True)),
}
AGAINST = {
    "importance": "importance, authors",
    "interaction": "interaction, authors",
    "interaction from heads, masked": "interaction from heads, authors",
    "interaction from heads, causal": "interaction from heads, authors",
}
SCALE = {"interaction from heads, masked": True}
"""Whose value is the authors' times L: they average over the keys, this sums."""


def inputs(kind: str, shape: tuple[int, int, int], device: str) -> list[Tensor]:
    """Leaves of a graph, alike for all contestants."""
    B, H, L = shape
    draw = torch.Generator().manual_seed(0)
    if kind == "vectors":
        made = [math.sqrt(H * HEAD) * torch.randn(B, L, H * HEAD, generator=draw)]
    else:
        made = [2 * torch.randn(B, H, L, HEAD, generator=draw) for _ in range(2)]
    made = [attend(*made)] if kind == "attention" else made
    return [x.to(device).requires_grad_() for x in made]


def work(name: str, leaves: list[Tensor]) -> float:
    """One forward and backward pass; the loss."""
    loss = CONTESTANTS[name][1](*leaves)
    torch.autograd.grad(loss, leaves)
    return loss.item()


def seconds(name: str, leaves: list[Tensor]) -> float:
    """Wall time of a pass, over as many as fill `SAMPLE_S`; reading the loss waits for the device."""
    passes, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < SAMPLE_S:
        work(name, leaves)
        if leaves[0].is_cuda:
            torch.cuda.synchronize()
        passes += 1
    return elapsed / passes


def peak(name: str, shape: tuple[int, int, int], device: str) -> float:
    """MiB that a few passes in this process add at their peak, after libraries were warmed up on a small input."""
    work(name, inputs(CONTESTANTS[name][0], (1, 1, 64), device))
    leaves = inputs(CONTESTANTS[name][0], shape, device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work(name, leaves)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew: making the inputs took more
    before = psutil.Process().memory_info().rss
    for _ in range(1 if shape == SHAPES[LONG] else 3):
        work(name, leaves)
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 2**10 - before / 2**20


def measured_peak(name: str, shape: str, device: str) -> float:
    """`peak` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.safr_losses", "--device", device, "--peak", name, "--shape", shape]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def rows_at(shape: str, device: str, repetitions: int) -> list[Row]:
    """Time, memory and value of each loss at one shape."""
    goal, repetitions = shape == GOAL_AT, 1 if shape == LONG else repetitions
    table = []
    for name, against in AGAINST.items():
        if shape == LONG and CONTESTANTS[name][0] == "heads":
            continue
        leaves = inputs(CONTESTANTS[name][0], SHAPES[shape], device)
        mine, theirs = work(name, leaves), work(against, leaves)
        contestants = {each: lambda each=each, leaves=leaves: seconds(each, leaves) for each in (name, against)}
        samples = interleave(contestants, repetitions=repetitions)
        del leaves
        peaks = interleave(
            {each: lambda each=each: measured_peak(each, shape, device) for each in (name, against)},
            repetitions=min(3, repetitions),
        )
        time_ratio, peak_ratio = ratio(samples, name, against), ratio(peaks, name, against)
        what = f"{name}, (B, H, L) = ({shape.replace(',', ', ')})"
        of = f"{1e3 * sorted(samples[against])[repetitions // 2]:.0f} ms"
        is_goal = goal and "causal" not in name
        table.append(
            Row(f"{what}: time", f"authors ({of})", "<= 0.5" if is_goal else "report", str(time_ratio),
                time_ratio.median <= 0.5 if is_goal else None)
        )  # fmt: skip
        of = f"{min(peaks[against]):.0f} MiB"
        table.append(
            Row(f"{what}: extra peak memory", f"authors ({of})", "<= 0.25" if is_goal else "report", str(peak_ratio),
                peak_ratio.median <= 0.25 if is_goal else None)
        )  # fmt: skip
        if "causal" not in name:
            theirs *= SHAPES[shape][2] if name in SCALE else 1
            error = abs(mine - theirs) / abs(theirs)
            table.append(Row(f"{what}: value", "authors", "<= 1e-5 apart", f"{error:.1e}", error <= 1e-5))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--repetitions", type=int, default=5, help="at least 5 for figures that are kept")
    parser.add_argument("--long", action="store_true", help="also (1, 32, 4096), once: 12 GiB, minutes in all")
    parser.add_argument("--only", choices=SHAPES, help="this shape alone; figures are shown, not kept")
    parser.add_argument("--peak", choices=CONTESTANTS, help="print one contestant's peak memory and stop")
    parser.add_argument("--shape", choices=SHAPES, default=GOAL_AT)
    args = parser.parse_args()
    if args.peak:
        print(peak(args.peak, SHAPES[args.shape], args.device))
        return
    shapes = [args.only] if args.only else [shape for shape in SHAPES if args.long or shape != LONG]
    table = []
    for shape in shapes:
        for row in rows_at(shape, args.device, args.repetitions):
            print(f"{row.what} | {row.against} | {row.goal} | {row.measured}", flush=True)
            table.append(row)
    if args.only:
        return
    save(
        Report(
            name=f"safr_losses_{args.device}",
            title=f"SAFR's losses ({args.device}, {torch.get_num_threads()} threads)",
            command=f"python -m benchmarks.safr_losses --device {args.device}" + (" --long" if args.long else ""),
            rows=table,
            notes=[
                "Forward and backward in float32. The authors' formulas are written as their code computes them.",
                "From heads: attention is computed from queries and keys by both, and both give their gradients.",
                "The causal loss is another formula than the authors', so its value is not compared.",
                "Extra memory holds everything above the inputs, the returned gradients included.",
            ],
        )
    )


if __name__ == "__main__":
    main()
