"""The job that fits residual scales to a frozen model. See `python -m jobs.residual_scale --help`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from jobs import entry
from steerline.config.kinds import JobSpec
from steerline.config.load import Loaded
from steerline.config.residual_fit import ResidualFitSpec

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
  130 stopped on request; submit again to start over
Each error names its page under docs/errors/. The run's folder holds `profiles.json`, and `outcome.json` for programs.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job; returns the exit code."""
    return entry.main("jobs.residual_scale", HELP, carry_out, arguments)


def carry_out(loaded: Loaded[JobSpec]) -> int:
    """Check the config against the cluster and fit; returns the exit code.

    Raises:
        SteerlineError: whatever stood in the way.
    """
    return entry.check_and_run(loaded.of(ResidualFitSpec), _driver)


def _driver(loaded: Loaded[ResidualFitSpec]) -> entry.Driver:
    from steerline.training.one_worker_driver import OneWorkerDriver
    from steerline.training.ray_trainer import in_one_worker
    from steerline.training.residual_fit_job import fit_and_judge

    return OneWorkerDriver(loaded, fit_and_judge, in_one_worker)


if __name__ == "__main__":
    sys.exit(main())
