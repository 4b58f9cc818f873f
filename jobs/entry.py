"""What the entry points of all jobs share: arguments, the config, preflight, signals, and the exit codes of errors."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from steerline.config.kinds import JobSpec
from steerline.config.load import Loaded, load
from steerline.config.render import run_name
from steerline.errors import SteerlineError

STOPPED_EXIT_CODE = 130
S = TypeVar("S", bound=JobSpec)


class Driver(Protocol):
    """The process of a job: it opens the run, has the work done, and closes the run."""

    def run(self) -> int:
        """Do it; returns the exit code."""


def parser(module: str, help_text: str) -> argparse.ArgumentParser:
    """What a job understands: its config, and values laid over it.

    Args:
        module: what follows `python -m`.
        help_text: what `--help` says first.
    """
    understood = argparse.ArgumentParser(
        prog=f"python -m {module}", description=help_text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    understood.add_argument("file", type=Path, help="the config, a YAML file")
    understood.add_argument(
        "--set", action="append", default=[], metavar="PATH=VALUE", help="override a key; repeatable"
    )
    return understood


def main(
    module: str, help_text: str, carry_out: Callable[[Loaded[JobSpec]], int], arguments: Sequence[str] | None
) -> int:
    """Read the config that the command line names and carry it out; returns the exit code.

    Args:
        module: what follows `python -m`.
        help_text: what `--help` says first.
        carry_out: takes the config; returns the exit code. Its errors go to stderr and become their exit codes.
        arguments: the command line; none takes the process's.
    """
    given = parser(module, help_text).parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        return carry_out(load(given.file, given.set))
    except KeyboardInterrupt:
        return STOPPED_EXIT_CODE
    except SteerlineError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return error.exit_code


def check_and_run(loaded: Loaded[S], driver: Callable[[Loaded[S]], Driver]) -> int:
    """Look at everything that can be known before the job runs, then run it; returns the exit code.

    From then on SIGTERM does what Ctrl-C does: the run is closed as stopped, and Ray ends the workers with this
    process. A driver that saves before it stops says so in place of that, with `on_sigterm`.

    Args:
        loaded: the config.
        driver: makes what runs it.

    Raises:
        SteerlineError: whatever stood in the way; a run that `steerline submit` scheduled says so in MLflow.
    """
    from steerline.orchestration.preflight import ClusterResources, preflight
    from steerline.training.opening import close_if_unstarted
    from steerline.training.ray_trainer import cluster_nodes

    try:
        cluster = ClusterResources.from_ray(cluster_nodes())
        report = preflight(loaded.spec, cluster=cluster, provenance=loaded.provenance)
        report.raise_for_problems(run_name(loaded.spec))
        for finding in report.warnings:
            sys.stderr.write(f"warning: {finding.problem}\n")
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        return driver(loaded).run()
    except SteerlineError as error:
        close_if_unstarted(loaded.spec, error)
        raise


def on_sigterm(act: Callable[[], None]) -> None:
    """Have SIGTERM call a function, such as one that asks workers to save and end."""
    signal.signal(signal.SIGTERM, lambda *_: act())
