"""`make demo`: InfoSteer against plain fine-tuning on a real model and real data, through the real `ray job submit`.

Starts a local Ray head and an MLflow server unless `make up` already did, submits both jobs, follows them, compares
their answers item by item, has the model that was trained debate with itself, steered against plain, and stops what it
started. The exit code is 0 only when both runs and the debate came to their ends and MLflow holds their numbers.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from steerline.config.finetune import FinetuneSpec
from steerline.config.load import load
from steerline.errors import SteerlineError, TrainingError
from steerline.evaluation.compare import compare, comparison_table
from steerline.evaluation.results import EvaluationResult
from steerline.orchestration.stack import Stack, down, up
from steerline.progress import parse_progress
from steerline.tracking.queries import find_run, metric_history
from steerline.tracking.references import run_url
from steerline.training.job import Job

ROOT = Path(__file__).resolve().parents[1]
STATE = ROOT / ".steerline"
CONFIGS = {"plain SFT": "jobs/configs/sft_smollm2.yaml", "InfoSteer": "jobs/configs/infosteer_smollm2.yaml"}
console = Console(soft_wrap=True)
# Where `services` and `infra` are found, here and on Ray's workers.
sys.path.append(str(ROOT))
os.chdir(ROOT)


@dataclass(frozen=True)
class Finished:
    """One run after its job succeeded."""

    label: str
    run: str
    url: str
    num_steps: int
    heldout: tuple[float, float]
    """Held-out loss before the first and after the last step, as MLflow holds it."""
    seconds: float
    evaluation: EvaluationResult


def main() -> int:
    started = time.monotonic()
    # An ended demo stops what it started, however it is ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with local_stack() as stack:
            runs = [fine_tune(stack, label, config) for label, config in CONFIGS.items()]
            show(runs, stack)
            # Ray reads the stack's environment when it is imported.
            from infra.debate import debate

            console.print(f"\n[bold]debate[/bold]  {runs[-1].run} with and without its intervention")
            # What it was trained under; at inference the boost alone acts.
            steering = load(ROOT / CONFIGS["InfoSteer"]).of(FinetuneSpec).spec.objective.steering
            debate(stack, runs[-1].run, steering, lambda text: console.print(text, markup=False, highlight=False))
    except SteerlineError as error:
        console.print(f"[red]{error}[/red]")
        return error.exit_code
    console.print(f"\ndone in {time.monotonic() - started:.0f} s")
    return 0


@contextmanager
def local_stack() -> Iterator[Stack]:
    """The running stack, or one that ends with the demo."""
    stack, ours = up(STATE, tell=console.print)
    os.environ.update(stack.environment())
    console.print(f"Ray    {stack.address}\nMLflow {stack.tracking_uri}")
    try:
        yield stack
    finally:
        if ours:
            down(STATE, tell=console.print)
            console.print("both servers were stopped; their records stay in .steerline: `make up` shows them again")


def fine_tune(stack: Stack, label: str, config: str) -> Finished:
    """Submit one job, follow it to its end, and read its numbers back from MLflow."""
    job = Job.of(load(ROOT / config).spec)
    command = ["ray", "job", "submit", "--address", stack.address, "--working-dir", ".", "--", "python", "-m"]
    command += ["jobs.finetune", config]
    console.print(f"\n[bold]{label}[/bold]  $ {' '.join(command)}")
    started = time.monotonic()
    follow(command, label)
    seconds = time.monotonic() - started
    run = find_run(stack.tracking_uri, job.name)
    url = run_url(run.ref)
    losses = [point.value for point in metric_history(stack.tracking_uri, run.ref.run_id, "heldout/loss")]
    steps = [point.step for point in metric_history(stack.tracking_uri, run.ref.run_id, "train/loss")]
    evaluation = EvaluationResult.load(job.folder / "evaluation.json")
    missing = [task.name for task in evaluation.tasks if f"eval/{task.name}/accuracy" not in run.metrics]
    if run.status != "FINISHED" or len(losses) < 2 or not steps or missing:
        got = f"status {run.status}, {len(losses)} held-out losses, {len(steps)} steps, missing accuracies: {missing}"
        raise TrainingError("the run's numbers are not all in MLflow", where=url, got=got)
    return Finished(label, job.name, url, len(set(steps)), (losses[0], losses[-1]), seconds, evaluation)


def follow(command: list[str], label: str) -> None:
    """Run the submission: steps become a bar in a terminal and lines elsewhere; the whole log goes to a file."""
    log = STATE / "logs" / f"demo-{label.lower().replace(' ', '-')}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    steps = Progress(
        TextColumn("  {task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[values]}"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    with (
        log.open("w") as kept,
        steps,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as job,
    ):
        task = steps.add_task(label, total=1, values="")
        assert job.stdout is not None
        for line in job.stdout:
            kept.write(line)
            progress = parse_progress(line)
            if progress is not None and console.is_terminal:
                values = " ".join(f"{key}={value:.4g}" for key, value in progress.values.items())
                steps.update(task, completed=progress.step, total=progress.total, values=values)
            elif "steerline: " in line:
                console.print("  " + line.partition("steerline: ")[2].rstrip(), markup=False, highlight=False)
    if job.returncode:
        tail = "".join(log.read_text().splitlines(keepends=True)[-40:])
        raise TrainingError(f"the job of {label} failed", where=str(log), got=f"exit code {job.returncode}\n{tail}")


def show(runs: list[Finished], stack: Stack) -> None:
    """The two runs side by side, and where to look further."""
    table = Table(title="SmolLM2-135M on four commonsense tasks")
    for column in ("", *(run.label for run in runs)):
        table.add_column(column, justify="left" if not column else "right")
    table.add_row("optimiser steps", *(str(run.num_steps) for run in runs))
    table.add_row("held-out loss before", *(f"{run.heldout[0]:.4f}" for run in runs))
    table.add_row("held-out loss after", *(f"{run.heldout[1]:.4f}" for run in runs))
    table.add_row("seconds", *(f"{run.seconds:.0f}" for run in runs))
    console.print("", table)
    first, second = runs
    comparison = compare(first.evaluation, second.evaluation, label_a=first.label, label_b=second.label)
    console.print(comparison_table(comparison))
    console.print("")
    for run in runs:
        console.print(f"{run.label:<10} {run.url}", soft_wrap=True)
    console.print(f"{'dashboard':<10} {stack.address}")
    risen = [run.label for run in runs if run.heldout[1] >= run.heldout[0]]
    if risen:
        raise TrainingError("the held-out loss did not fall", where=", ".join(risen))


if __name__ == "__main__":
    sys.exit(main())
