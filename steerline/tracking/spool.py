"""Send what earlier processes could not deliver: `python -m steerline.tracking.spool FOLDER`."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from steerline.tracking.backend import Backend
from steerline.tracking.delivery import Deliverer
from steerline.tracking.journal import Journal
from steerline.tracking.mlflow_backend import MlflowBackend
from steerline.tracking.references import RunRef

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Replayed:
    """What became of one spool."""

    run: RunRef
    num_delivered: int
    num_rejected: int
    num_pending: int


def replay(
    folder: Path,
    *,
    timeout_s: float = 60.0,
    make_backend: Callable[[RunRef], Backend] = MlflowBackend,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Replayed]:
    """Deliver the spools in a folder, in order and once.

    Args:
        folder: a run's spool, or the folder that holds those of several runs.
        timeout_s: how long to wait for a server that is away, for each run.
        make_backend: how to reach the server of a run.
        clock: monotonic seconds.
        sleep: how to wait.

    Raises:
        TrackingError: a run is still being recorded to.
    """
    homes = [folder] if (folder / "run.json").is_file() else sorted(p.parent for p in folder.glob("*/run.json"))
    return [_replay_one(home, timeout_s, make_backend, clock, sleep) for home in homes]


def _replay_one(
    home: Path,
    timeout_s: float,
    make_backend: Callable[[RunRef], Backend],
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> Replayed:
    journal = Journal(home, lock_wait_s=0.0)
    try:
        before = journal.pending
        if before:
            deliverer = Deliverer(journal, make_backend(journal.run), clock=clock)
            deadline = clock() + timeout_s
            while (wait_s := deliverer.deliver()) is not None and clock() + wait_s < deadline:
                sleep(wait_s)
            return Replayed(journal.run, before - journal.pending, deliverer.num_rejected, journal.pending)
        return Replayed(journal.run, 0, 0, 0)
    finally:
        journal.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Exit code 0 when everything was delivered."""
    parser = argparse.ArgumentParser(prog="python -m steerline.tracking.spool", description=__doc__)
    parser.add_argument("folder", type=Path, help="a run's spool, or the folder that holds several")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds to wait for a server that is away")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    results = replay(options.folder, timeout_s=options.timeout)
    for result in results:
        logger.info(
            "run %s: %d delivered, %d refused, %d still waiting",
            result.run.run_id,
            result.num_delivered - result.num_rejected,
            result.num_rejected,
            result.num_pending,
        )
    if not results:
        logger.info("no spool in %s", options.folder)
    return 1 if any(result.num_pending for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
