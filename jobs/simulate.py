"""The job that plays simulations: one, or a grid of them over seeds. See `python -m jobs.simulate --help`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from jobs import entry
from steerline.config.kinds import JobSpec
from steerline.config.load import Loaded
from steerline.config.simulate import SimulateSpec

HELP = """\
Play a multi-agent simulation, or a grid of them over seeds, on the workers of a cluster, and keep all of it in MLflow:
transcript, metrics, figures, the communication graph, event log, journal of model calls, a trace of each episode.

  ray job submit --working-dir . -- python -m jobs.simulate jobs/configs/simulate_debate_smollm2.yaml
  python -m jobs.simulate FILE --set 'seeds=[0,1,2]' --set simulation.max_ticks=5

The run's name is the config's `name` and a hash of all that decides its result. The same config again goes on where
each simulation stopped; what has ended is not played again, and no model call that was recorded is made again.
`steerline validate FILE` checks a config, `steerline schema simulate` lists every key.

exit codes:
  0 finished   2 config   3 preflight   5 model   10 tracking   14 inference   16 simulation
  130 stopped, or paused by a budget or waiting for a person; submit again to go on
Each error names its page under docs/errors/. The run's folder holds a bundle of each simulation, and `outcome.json` for
programs.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job; returns the exit code."""
    return entry.main("jobs.simulate", HELP, _carry_out, arguments)


def _carry_out(loaded: Loaded[JobSpec]) -> int:
    return entry.check_and_run(loaded.of(SimulateSpec), _driver)


def _driver(loaded: Loaded[SimulateSpec]) -> entry.Driver:
    from steerline.experiments.driver import SimulateDriver
    from steerline.training.ray_trainer import in_workers

    return SimulateDriver(loaded, in_workers)


if __name__ == "__main__":
    sys.exit(main())
