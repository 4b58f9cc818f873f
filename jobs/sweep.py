"""The sweep job: many runs of one config along the axes of a space. See `python -m jobs.sweep --help`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from jobs import entry
from steerline.config.kinds import JobSpec
from steerline.config.load import Loaded
from steerline.config.sweep import SweepSpec

HELP = """\
Run a base config at every point that a search proposes, with every seed, under Ray Tune; choose and report honestly.

  ray job submit --working-dir . -- python -m jobs.sweep jobs/configs/sweep_infosteer.yaml
  python -m jobs.sweep FILE --set budget.trials=12 --set base.cluster.use_gpu=true

The same config again goes on where the sweep stopped, whatever ended it: trials that have ended are not repeated.
`steerline validate FILE` checks every point, `steerline schema sweep` lists every key, and
`steerline promote SWEEP --alias champion` registers the model of the best point.

exit codes:
  0 finished   2 config   3 preflight   10 tracking   17 sweep   130 stopped on request
A trial that fails is recorded with its cause and fails nothing else. An MLflow that goes away on the way changes no
exit code; the last line then says what it lacks and which command sends it. The sweep's folder holds `table.md`,
`results.json`, `best.yaml` and `outcome.json`.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sweep; returns the exit code."""
    return entry.main("jobs.sweep", HELP, _carry_out, arguments)


def _carry_out(loaded: Loaded[JobSpec]) -> int:
    return entry.check_and_run(loaded.of(SweepSpec), _driver)


def _driver(loaded: Loaded[SweepSpec]) -> entry.Driver:
    from steerline.sweeps.sweep import Sweep

    sweep = Sweep(loaded)
    entry.on_sigterm(sweep.request_stop)
    return sweep


if __name__ == "__main__":
    sys.exit(main())
