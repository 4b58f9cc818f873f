"""Effective tokens per second with packing against padding, on real examples of mixed lengths.

    python -m benchmarks.packing [--repetitions 5]

Effective tokens are those of examples: padding does not count. Both contestants train on the same examples, forward and
backward and optimiser step, at the same number of places in a batch.
"""

from __future__ import annotations

import argparse
import sys
import time

import torch

from benchmarks.contestants import MODEL
from benchmarks.results import Report, Row, save
from benchmarks.timing import interleave, ratio
from steerline.config.data import DatasetSpec, DataSpec, PackagedData, TaskFormat, TaskName
from steerline.config.training import ObjectiveSpec
from steerline.data.batch import collate
from steerline.data.dataset import build
from steerline.models.load import load_model
from steerline.training.normaliser import Normaliser
from steerline.training.objective import ObjectiveModel
from steerline.training.workers import Workers

LENGTH = 256
MICRO = 4
STEPS = 4


def dataset(task: TaskName, limit: int) -> DatasetSpec:
    source = PackagedData(kind="packaged", name=f"{task}-train")
    return DatasetSpec(source=source, format=TaskFormat(kind="task", task=task), limit=limit)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--repetitions", type=int, default=5)
    args = parser.parse_args()
    loaded = load_model(MODEL, dtype=torch.bfloat16)
    loaded.model.train()
    objective = ObjectiveModel(loaded.model, ObjectiveSpec()).to(args.device)
    optimizer = torch.optim.AdamW(loaded.model.parameters(), lr=1e-6, fused=True)
    train = tuple(dataset(task, 150) for task in ("boolq", "piqa", "winogrande", "arc_easy"))
    workers = Workers(device=torch.device(args.device))
    efficiency: dict[str, float] = {}

    def contestant(packing: bool) -> float:
        spec = DataSpec(train=train, max_length_tokens=LENGTH, overlong="drop", packing=packing)
        rows = build(spec.train, spec, loaded.tokenizer, 0).rows
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0)).tolist()
        tokens, start = 0, 0.0
        for step in range(STEPS + 1):
            if step == 1:  # the first warms up
                tokens, start = 0, time.perf_counter()
            chosen = [rows[index] for index in order[step * MICRO : (step + 1) * MICRO]]
            batch = collate(chosen, loaded.tokenizer.pad_token_id).to(args.device)
            objective(batch, Normaliser.over([batch], workers)).total.backward()
            optimizer.step()
            optimizer.zero_grad()
            if args.device == "cuda":
                torch.cuda.synchronize()
            tokens += int(batch.token_mask.sum())
            efficiency["packing" if packing else "padding"] = float(batch.token_mask.float().mean())
        return tokens / (time.perf_counter() - start)

    samples = interleave(
        {"packing": lambda: contestant(True), "padding": lambda: contestant(False)}, repetitions=args.repetitions
    )
    found = ratio(samples, "packing", "padding")
    row = Row(
        what=f"effective tokens/s with packing, SmolLM2 {MICRO}x{LENGTH} bf16",
        against="padding to the longest of the batch",
        goal="report; > 1.5",
        measured=f"{found}",
        reached=found.median > 1.5,
    )
    notes = [
        "Examples of four tasks mixed (BoolQ's are long, the others short).",
        "Share of places that hold a token, last batch: "
        + ", ".join(f"{name} {share:.2f}" for name, share in efficiency.items())
        + ".",
    ]
    command = f"python -m benchmarks.packing --device {args.device} --repetitions {args.repetitions}"
    save(Report(f"packing_{args.device}", "Packing", command, [row], notes))
    print(f"{row.what}: {row.measured}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
