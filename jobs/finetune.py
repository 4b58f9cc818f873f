"""The main job: fine-tune a language model. See `python -m jobs.finetune --help`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from jobs import entry, residual_scale
from steerline.config.finetune import FinetuneSpec
from steerline.config.kinds import JobSpec
from steerline.config.load import Loaded
from steerline.config.residual_fit import ResidualFitSpec

HELP = """\
Fine-tune a language model under DeepSpeed ZeRO on Ray, track it in MLflow, export it and evaluate it.

  ray job submit --working-dir . -- python -m jobs.finetune jobs/configs/infosteer_smollm2.yaml
  python -m jobs.finetune FILE --set training.num_steps=40 --set cluster.num_workers=2

The run's name is the config's `name` and a hash of all that decides its result. The same config again resumes the run
where it stopped, also with another number of workers; a finished run is evaluated again if its evaluation changed.
`steerline validate FILE` checks a config, `steerline schema finetune` lists every key.

exit codes:
  0 finished   2 config   3 preflight   4 data   5 model   6 steering   7 checkpoint   8 loss not finite
  9 training   10 tracking   12 evaluation   130 stopped on request, after saving
Each error names its page under docs/errors/. The run's folder holds `outcome.json` for programs.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job; returns the exit code."""
    return entry.main("jobs.finetune", HELP, _carry_out, arguments)


def _carry_out(loaded: Loaded[JobSpec]) -> int:
    if isinstance(loaded.spec, ResidualFitSpec):
        return residual_scale.carry_out(loaded)
    return entry.check_and_run(loaded.of(FinetuneSpec), _driver)


def _driver(loaded: Loaded[FinetuneSpec]) -> entry.Driver:
    from steerline.training.driver import Driver

    driver = Driver(loaded)
    entry.on_sigterm(driver.request_stop)
    return driver


if __name__ == "__main__":
    sys.exit(main())
