"""The sweep job: many runs of one config along the axes of a space. See `python -m jobs.sweep --help`."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from steerline.config.load import load
from steerline.config.render import run_name
from steerline.config.sweep import SweepSpec
from steerline.errors import SteerlineError

HELP = """\
Run a base config at every point that a search proposes, with every seed, under Ray Tune; choose and report honestly.

  ray job submit --working-dir . -- python -m jobs.sweep jobs/configs/sweep_infosteer.yaml
  python -m jobs.sweep FILE --set budget.trials=12 --set base.cluster.use_gpu=true

The same config again goes on where the sweep stopped, whatever ended it: trials that have ended are not repeated.
`steerline validate FILE` checks every point, `steerline schema sweep` lists every key, and
`steerline promote SWEEP --alias champion` registers the model of the best point.

exit codes:
  0 finished   2 config   3 preflight   10 tracking   17 sweep   130 stopped on request
A trial that fails is recorded with its cause and fails nothing else. The sweep's folder holds `table.md`,
`results.json`, `best.yaml` and `outcome.json`.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sweep; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs.sweep", description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="the config, a YAML file")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="override a key; repeatable")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        return _run(given.file, given.set)
    except SteerlineError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return error.exit_code


def _run(file: Path, overrides: Sequence[str]) -> int:
    loaded = load(file, overrides).of(SweepSpec)
    from steerline.orchestration.preflight import ClusterResources, preflight
    from steerline.sweeps.sweep import Sweep
    from steerline.training.driver import close_if_unstarted
    from steerline.training.ray_trainer import cluster_nodes

    try:
        report = preflight(
            loaded.spec, cluster=ClusterResources.from_ray(cluster_nodes()), provenance=loaded.provenance
        )
        report.raise_for_problems(run_name(loaded.spec))
        for finding in report.warnings:
            sys.stderr.write(f"warning: {finding.problem}\n")
        sweep = Sweep(loaded)
        signal.signal(signal.SIGTERM, lambda *_: sweep.request_stop())
        return sweep.run()
    except SteerlineError as error:
        close_if_unstarted(loaded.spec, error)
        raise


if __name__ == "__main__":
    sys.exit(main())
