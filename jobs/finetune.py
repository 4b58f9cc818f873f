"""The main job: fine-tune a language model. See `python -m jobs.finetune --help`."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from steerline.config.finetune import FinetuneSpec
from steerline.config.load import Loaded, load
from steerline.config.render import run_name
from steerline.config.residual_fit import ResidualFitSpec
from steerline.errors import SteerlineError

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
    parser = argparse.ArgumentParser(
        prog="python -m jobs.finetune", description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
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
    given = load(file, overrides)
    if isinstance(given.spec, ResidualFitSpec):
        from jobs.residual_scale import carry_out

        return carry_out(given.of(ResidualFitSpec))
    loaded = given.of(FinetuneSpec)
    from steerline.training.driver import close_if_unstarted

    try:
        return _carry_out(loaded)
    except SteerlineError as error:
        close_if_unstarted(loaded.spec, error)
        raise


def _carry_out(loaded: Loaded[FinetuneSpec]) -> int:
    from steerline.orchestration.preflight import ClusterResources, preflight
    from steerline.training.driver import Driver
    from steerline.training.ray_trainer import cluster_nodes

    cluster = ClusterResources.from_ray(cluster_nodes())
    report = preflight(loaded.spec, cluster=cluster, provenance=loaded.provenance)
    report.raise_for_problems(run_name(loaded.spec))
    for finding in report.warnings:
        sys.stderr.write(f"warning: {finding.problem}\n")
    driver = Driver(loaded)
    signal.signal(signal.SIGTERM, lambda *_: driver.request_stop())
    return driver.run()


if __name__ == "__main__":
    sys.exit(main())
