"""What a sweep costs beside its trials: trivial trials, against plain Ray Tune with reused actors.

    python -m benchmarks.sweep_overhead [--repetitions 5] [--trials 200]

The sweep validates each point, writes its ledger, shows every trial in MLflow, chooses and draws its report; plain Tune
does none of that. A third contestant is plain Tune with Ray's own MLflow callback, which shows each trial as a run too.
All have the same cluster and server, and a time holds everything from the first trial to the last.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.results import Report, Row, save
from benchmarks.timing import interleave, ratio
from benchmarks.trivial_trials import SCALE, Trivial
from steerline.config.load import load
from steerline.config.sweep import SweepSpec
from steerline.orchestration import stack as stacks

CONFIG = Path(__file__).resolve().parents[1] / "jobs/configs/infosteer_smollm2.yaml"


def sweep(folder: Path, number: int, num_trials: int) -> float:
    """Seconds of a whole sweep."""
    from steerline.sweeps.sweep import Sweep

    config = {
        "kind": "sweep",
        "name": f"overhead-{number}",
        "base": {"extends": str(CONFIG), "cluster": {"storage_path": str(folder), "cpus_per_worker": 1}},
        "space": {SCALE: {"kind": "grid", "values": [1 + n / 100 for n in range(num_trials)]}},
        "seeds": [number],
        "metrics": [{"name": "heldout/loss_ce", "goal": "min"}],
    }
    file = folder / f"sweep-{number}.yaml"
    file.write_text(json.dumps(config))
    start = time.perf_counter()
    if Sweep(load(file).of(SweepSpec), Trivial()).run():
        raise RuntimeError("the sweep did not finish")
    return time.perf_counter() - start


def plain(folder: Path, number: int, num_trials: int, *, recorded: bool = False) -> float:
    """Seconds of as many trials under plain Tune; with a run in MLflow for each of them where they are recorded."""
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    class Nothing(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self._value = config["scale"]

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self._value = new_config["scale"]
            return True

        def step(self) -> dict[str, Any]:
            return {"loss": self._value, "done": True}

    start = time.perf_counter()
    tune.Tuner(
        tune.with_resources(Nothing, {"cpu": 1}),
        param_space={"scale": tune.grid_search([1 + n / 100 for n in range(num_trials)])},
        tune_config=tune.TuneConfig(reuse_actors=True),
        run_config=tune.RunConfig(
            name=f"plain-{number}",
            storage_path=str(folder),
            verbose=0,
            callbacks=[MLflowLoggerCallback(experiment_name="plain")] if recorded else [],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    ).fit()
    return time.perf_counter() - start


def row(samples: Mapping[str, list[float]], num_trials: int, other: str, against: str, goal: float | None) -> Row:
    """The sweep beside another contestant, as the report shows it."""
    found = ratio(samples, "sweep", other)
    mine, others = (1000 * statistics.median(samples[name]) / num_trials for name in ("sweep", other))
    return Row(
        what=f"a sweep of {num_trials} trivial trials, each validated, kept and shown in MLflow; per trial",
        against=against,
        goal="report" if goal is None else f"<= {goal}",
        measured=f"{mine:.0f} ms against {others:.0f} ms; ratio {found}",
        reached=None if goal is None else found.median <= goal,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="for `make bench`; the trials compute nothing")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--trials", type=int, default=200)
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stack, _ = stacks.up(folder, standard_ports=False)
        # Ray reads some of it when it is imported.
        os.environ |= stack.environment()
        # Without it MLflow asks for every run once more when it ends, to print where it is shown.
        os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
        import ray

        from steerline.training.ray_trainer import cluster_nodes

        try:
            cluster_nodes()
            numbers = iter(range(10_000))
            samples = interleave(
                {
                    "sweep": lambda: sweep(folder, next(numbers), args.trials),
                    "plain Tune": lambda: plain(folder, next(numbers), args.trials),
                    "recorded Tune": lambda: plain(folder, next(numbers), args.trials, recorded=True),
                },
                repetitions=args.repetitions,
            )
        finally:
            ray.shutdown()
            stacks.down(folder)
    recorded = "the same with Ray's `MLflowLoggerCallback`, which records each trial as a run too"
    rows = [
        row(samples, args.trials, "plain Tune", "Ray Tune with `reuse_actors`", 1.2),
        row(samples, args.trials, "recorded Tune", recorded, None),
    ]
    command = f"python -m benchmarks.sweep_overhead --repetitions {args.repetitions} --trials {args.trials}"
    save(Report("sweep_overhead_cpu", "Sweeps", command, rows))
    for one in rows:
        print(f"against {one.against}: {one.measured}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
