"""The job that fits residual scales to a frozen model. See `python -m jobs.residual_scale --help`."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from steerline.config.load import Loaded, load
from steerline.config.render import run_name
from steerline.config.residual_fit import ResidualFitSpec
from steerline.errors import SteerlineError

HELP = """\
Fit one scale for each block of a frozen model, on each of several distributions and with several seeds at once, and
judge all of them on held-out items of each distribution: InfoRidge's probe of where generalisable information lies.

  ray job submit --working-dir . -- python -m jobs.residual_scale jobs/configs/residual_scale_smollm2.yaml
  python -m jobs.residual_scale FILE --set fit.num_steps=40 --set fit.split=true

`python -m jobs.finetune FILE` does the same. The run's name is the config's `name` and a hash of all that decides its
result; a finished run is not repeated. `steerline validate FILE` checks a config, `steerline schema residual_scale`
lists every key.

exit codes:
  0 finished   2 config   3 preflight   4 data   5 model   6 steering   8 loss not finite   9 training   10 tracking
Each error names its page under docs/errors/. The run's folder holds `profiles.json`, and `outcome.json` for programs.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs.residual_scale", description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
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
    return carry_out(load(file, overrides).of(ResidualFitSpec))


def carry_out(loaded: Loaded[ResidualFitSpec]) -> int:
    """Check the config against the cluster and fit; returns the exit code.

    Raises:
        SteerlineError: whatever stood in the way.
    """
    from steerline.orchestration.preflight import ClusterResources, preflight
    from steerline.training.driver import close_if_unstarted
    from steerline.training.one_worker_driver import OneWorkerDriver
    from steerline.training.ray_trainer import cluster_nodes, in_one_worker
    from steerline.training.residual_fit_job import fit_and_judge

    try:
        cluster = ClusterResources.from_ray(cluster_nodes())
        report = preflight(loaded.spec, cluster=cluster, provenance=loaded.provenance)
        report.raise_for_problems(run_name(loaded.spec))
        for finding in report.warnings:
            sys.stderr.write(f"warning: {finding.problem}\n")
        return OneWorkerDriver(loaded, fit_and_judge, in_one_worker).run()
    except SteerlineError as error:
        close_if_unstarted(loaded.spec, error)
        raise


if __name__ == "__main__":
    sys.exit(main())
