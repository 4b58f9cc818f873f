"""The job that judges one model under one steering, or many strengths of it. See `python -m jobs.evaluate --help`."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from steerline.config.evaluate import EvaluateSpec
from steerline.config.load import Loaded, load
from steerline.config.render import run_name
from steerline.errors import SteerlineError

HELP = """\
Judge a model on tasks, unsteered and under a steering, or under many strengths of it in the same batches.

  ray job submit --working-dir . -- python -m jobs.evaluate jobs/configs/evaluate_smollm2.yaml
  python -m jobs.evaluate FILE --set strengths='[0.5, 1.0]'

The run's name is the config's `name` and a hash of all that decides its result; a finished run is not repeated.
`steerline validate FILE` checks a config, `steerline schema evaluate` lists every key.

exit codes:
  0 finished   2 config   3 preflight   4 data   5 model   6 steering   9 training   10 tracking   12 evaluation
  130 stopped on request; submit again to start over
Each error names its page under docs/errors/. The run's folder holds every item's answer, and `outcome.json` for
programs.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs.evaluate", description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
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
    loaded = load(file, overrides).of(EvaluateSpec)
    from steerline.training.driver import close_if_unstarted

    try:
        return _carry_out(loaded)
    except SteerlineError as error:
        close_if_unstarted(loaded.spec, error)
        raise


def _carry_out(loaded: Loaded[EvaluateSpec]) -> int:
    from steerline.orchestration.preflight import ClusterResources, preflight
    from steerline.training.evaluate_job import evaluate_and_record
    from steerline.training.one_worker_driver import OneWorkerDriver
    from steerline.training.ray_trainer import cluster_nodes, in_one_worker

    cluster = ClusterResources.from_ray(cluster_nodes())
    report = preflight(loaded.spec, cluster=cluster, provenance=loaded.provenance)
    report.raise_for_problems(run_name(loaded.spec))
    for finding in report.warnings:
        sys.stderr.write(f"warning: {finding.problem}\n")
    # As Ctrl-C would: the run is closed as stopped, and Ray ends the worker with this process.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return OneWorkerDriver(loaded, evaluate_and_record, in_one_worker).run()


if __name__ == "__main__":
    sys.exit(main())
