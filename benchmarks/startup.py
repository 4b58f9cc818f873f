"""From the submission to the first optimiser step, against DeepSpeed's launcher.

    python -m benchmarks.startup [--repetitions 5]

Steerline's time holds the upload of the working directory, the job's driver, preflight, the MLflow run, Ray Train's
workers, model and data; the launcher's holds worker, model and data alone.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.results import Report, Row, save
from benchmarks.timing import interleave, ratio
from steerline.config.load import load
from steerline.config.render import run_name
from steerline.orchestration import stack as stacks
from steerline.tracking.queries import find_run, metric_history

ROOT = Path(__file__).resolve().parents[1]
CONFIG = "jobs/configs/sft_smollm2.yaml"


def launcher(device: str) -> float:
    """Seconds until the first step under `deepspeed`."""
    start = time.time()
    script = Path(sys.executable).parent / "deepspeed"
    accelerator = {"DS_ACCELERATOR": "cpu"} if device == "cpu" else {}
    result = subprocess.run(
        [str(script), "--num_gpus", "1", "--module", "benchmarks.launched"],
        cwd=ROOT,
        env={**os.environ, **accelerator},
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"first step at ([\d.]+)", result.stdout)
    if found is None:
        raise RuntimeError(result.stdout[-2000:] + result.stderr[-2000:])
    return float(found[1]) - start


def submission(stack: stacks.Stack, runs: Path, number: int, device: str) -> float:
    """Seconds until the first step through `ray job submit`."""
    settings = [
        f"name=startup-{number}",
        f"seed={number}",
        "training.num_steps=1",
        "training.schedule.warmup_steps=0",
        "data.heldout=[]",
        "evaluation.tasks=[]",
        "evaluation.include_base=false",
        f"cluster.use_gpu={'true' if device == 'cuda' else 'false'}",
    ]
    command = [str(Path(sys.executable).parent / "ray"), "job", "submit", "--working-dir", "."]
    command += ["--", "python", "-m", "jobs.finetune", CONFIG]
    command += [word for setting in settings for word in ("--set", setting)]
    start = time.time()
    environment = {**os.environ, **stack.environment()}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(result.stdout[-3000:])
    name = run_name(load(ROOT / CONFIG, settings).spec)
    shutil.rmtree(runs / name)
    run = find_run(stack.tracking_uri, name)
    return metric_history(stack.tracking_uri, run.ref.run_id, "train/loss")[0].time_ms / 1000 - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--repetitions", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        stack, _ = stacks.up(Path(folder), standard_ports=False)
        try:
            numbers = iter(range(10_000))
            samples = interleave(
                {
                    "ray job submit": lambda: submission(stack, Path(folder) / "runs", next(numbers), args.device),
                    "deepspeed": lambda: launcher(args.device),
                },
                repetitions=args.repetitions,
            )
        finally:
            stacks.down(Path(folder))
    mine, other = (statistics.median(samples[name]) for name in ("ray job submit", "deepspeed"))
    row = Row(
        what="`ray job submit` to the first optimiser step, SmolLM2",
        against="`deepspeed` launcher",
        goal="report",
        measured=f"{mine:.1f} s against {other:.1f} s; ratio {ratio(samples, 'ray job submit', 'deepspeed')}",
        reached=None,
    )
    command = f"python -m benchmarks.startup --device {args.device} --repetitions {args.repetitions}"
    save(Report(f"startup_{args.device}", "Start-up", command, [row]))
    print(row.measured)
    return 0


if __name__ == "__main__":
    sys.exit(main())
