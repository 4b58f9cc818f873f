"""The job that plays simulations: one, or a grid of them over seeds. See `python -m jobs.simulate --help`."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from steerline.config.load import Loaded, load
from steerline.config.render import run_name
from steerline.config.simulate import SimulateSpec
from steerline.errors import SteerlineError

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
    parser = argparse.ArgumentParser(
        prog="python -m jobs.simulate", description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="the config, a YAML file")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="override a key; repeatable")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        return _run(given.file, given.set)
    except KeyboardInterrupt:
        return 130
    except SteerlineError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return error.exit_code


def _run(file: Path, overrides: Sequence[str]) -> int:
    loaded = load(file, overrides).of(SimulateSpec)
    from steerline.training.driver import close_if_unstarted

    try:
        return _carry_out(loaded)
    except SteerlineError as error:
        close_if_unstarted(loaded.spec, error)
        raise


def _carry_out(loaded: Loaded[SimulateSpec]) -> int:
    from steerline.experiments.driver import SimulateDriver
    from steerline.orchestration.preflight import ClusterResources, preflight
    from steerline.training.ray_trainer import cluster_nodes, in_workers

    cluster = ClusterResources.from_ray(cluster_nodes())
    report = preflight(loaded.spec, cluster=cluster, provenance=loaded.provenance)
    report.raise_for_problems(run_name(loaded.spec))
    for finding in report.warnings:
        sys.stderr.write(f"warning: {finding.problem}\n")
    # As Ctrl-C would: the run is closed as stopped, and Ray ends the workers with this process.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return SimulateDriver(loaded, in_workers).run()


if __name__ == "__main__":
    sys.exit(main())
