"""The job that judges one model under one steering, or many strengths of it. See `python -m jobs.evaluate --help`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from jobs import entry
from steerline.config.evaluate import EvaluateSpec
from steerline.config.kinds import JobSpec
from steerline.config.load import Loaded

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
    return entry.main("jobs.evaluate", HELP, _carry_out, arguments)


def _carry_out(loaded: Loaded[JobSpec]) -> int:
    return entry.check_and_run(loaded.of(EvaluateSpec), _driver)


def _driver(loaded: Loaded[EvaluateSpec]) -> entry.Driver:
    from steerline.training.evaluate_job import evaluate_and_record
    from steerline.training.one_worker_driver import OneWorkerDriver
    from steerline.training.ray_trainer import in_one_worker

    return OneWorkerDriver(loaded, evaluate_and_record, in_one_worker)


if __name__ == "__main__":
    sys.exit(main())
