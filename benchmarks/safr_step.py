"""What SAFR adds to a training step of its paper's classifier: forward, backward and AdamW, on real reviews.

    python -m benchmarks.safr_step [--device cuda] [--repetitions 7]

The baseline is the same classifier with its gate, explicit attention (the eager kernel) and both strengths 0. A sample
is the mean time of several steps on the same batches.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from itertools import cycle, islice
from statistics import median

import torch

from benchmarks.results import Report, Row, save
from benchmarks.safr_grid import BATCH, CLASSES, Settings, materials
from benchmarks.timing import interleave, ratio
from steerline.config.safr import ImportanceSpec, InteractionSpec
from steerline.config.steering import SteeringSpec
from steerline.config.training import ObjectiveSpec, OptimizerSpec
from steerline.data.batch import Batch, collate
from steerline.models.safr_classifier import SafrClassifierConfig, SafrClassifierForSequenceClassification
from steerline.training.normaliser import Normaliser
from steerline.training.objective import ObjectiveModel
from steerline.training.optimizer import adamw, parameter_groups
from steerline.training.workers import Workers

LENGTHS = (32, 128, 256)
GOAL = 1.4
MASKED = SteeringSpec(importance=ImportanceSpec(), interaction=InteractionSpec())
REFERENCE = SteeringSpec(
    importance=ImportanceSpec(variant="reference"), interaction=InteractionSpec(variant="reference")
)
# Steering, attention kernel, and whether the model has a gate.
CONTESTANTS: dict[str, tuple[SteeringSpec, str, bool]] = {
    "both strengths 0": (SteeringSpec(), "eager", True),
    "plain cross entropy": (SteeringSpec(), "sdpa", False),
    "SAFR, masked": (MASKED, "sdpa", True),
    "SAFR, reference": (REFERENCE, "sdpa", True),
}


def stepper(
    contestant: tuple[SteeringSpec, str, bool], vocab_size: int, batches: list[Batch], device: str
) -> Callable[[], float]:
    """Trains one model a few steps further at each call; returns the mean seconds of a step."""
    steering, attention, gated = contestant
    torch.manual_seed(0)
    config = SafrClassifierConfig(
        vocab_size=vocab_size, num_labels=len(CLASSES), vmask_hidden_size=1024 if gated else None
    )
    config._attn_implementation = attention
    model = SafrClassifierForSequenceClassification(config).to(device).train()
    objective = ObjectiveModel(model, ObjectiveSpec(kind="classification", steering=steering))
    spec = OptimizerSpec(learning_rate=1e-4, weight_decay=0.0)
    optimizer = adamw(parameter_groups(((p, p.ndim) for p in model.parameters()), spec), spec)
    following = cycle(batches)

    def steps() -> float:
        start = time.perf_counter()
        for batch in islice(following, len(batches)):
            optimizer.zero_grad()
            objective(batch, Normaliser.over([batch], Workers())).total.backward()
            optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - start) / len(batches)

    return steps


def measure(length: int, device: str, repetitions: int) -> list[Row]:
    """All contestants on reviews cut to `length` words."""
    tokenizer, rows, _ = materials(
        Settings(rows=160, epochs=1, heldout=32, length=length, width=256, learning_rate=1e-4)
    )
    batches = [collate(rows[i : i + BATCH], tokenizer.pad_token_id).to(device) for i in range(0, len(rows), BATCH)]
    contestants = {name: stepper(one, len(tokenizer), batches, device) for name, one in CONTESTANTS.items()}
    interleave(contestants, repetitions=1)
    samples = interleave(contestants, repetitions=repetitions)
    table = []
    for name in ("SAFR, masked", "SAFR, reference"):
        for rival in ("both strengths 0", "plain cross entropy"):
            found = ratio(samples, name, rival)
            held = rival == "both strengths 0"
            table.append(
                Row(
                    what=f"step time of the paper's classifier, {name}, {BATCH}x{length}",
                    against=f"the same with its gate and explicit attention, {rival}" if held else rival,
                    goal=f"<= {GOAL}" if held else "report",
                    measured=f"{found} ({1e3 * median(samples[name]):.1f} ms a step)",
                    reached=found.median <= GOAL if held else None,
                )
            )
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--repetitions", type=int, default=7)
    args = parser.parse_args()
    rows = [row for length in LENGTHS for row in measure(length, args.device, args.repetitions)]
    command = f"python -m benchmarks.safr_step --device {args.device} --repetitions {args.repetitions}"
    save(Report(f"safr_step_{args.device}", "SAFR in a training step", command, rows))
    for row in rows:
        print(f"{row.what} / {row.against}: {row.measured}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
