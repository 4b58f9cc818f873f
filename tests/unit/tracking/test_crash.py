"""A process killed at any point, again and again, leaves nothing missing, doubled or reordered."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from steerline.tracking.delivery import Deliverer
from steerline.tracking.journal import Journal, Record
from tests.unit.tracking.fake import RUN, FakeBackend

NUM_STEPS = 9
CHECKPOINT_EVERY = 3


class Killed(BaseException):
    """The process ends here."""


class Fuse:
    """Burns down at each dangerous moment and kills at zero."""

    def __init__(self, moments: int) -> None:
        self.left = moments

    def __call__(self, moment: str) -> None:
        self.left -= 1
        if self.left == 0:
            raise Killed(moment)


class FragileJournal(Journal):
    def __init__(self, folder: Path, fuse: Fuse) -> None:
        self.fuse: Fuse | None = None
        super().__init__(folder, RUN, segment_bytes=250)
        self.fuse = fuse

    def _burn(self, moment: str) -> None:
        if self.fuse is not None:
            self.fuse(moment)

    def _write(self, line: bytes) -> None:
        self._burn("before write")
        try:
            self._burn("torn write")
        except Killed:
            os.write(self._fd, line[: len(line) // 2])
            raise
        super()._write(line)
        self._burn("after write")

    def acknowledge(self, records: list[Record]) -> None:  # type: ignore[override]
        self._burn("before acknowledge")
        super().acknowledge(records)
        self._burn("after acknowledge")


def attempt(folder: Path, backend: FakeBackend, attempt_number: int, first_step: int, fuse: Fuse, every: int) -> int:
    """One life of a training process: records each step, delivers now and then. Returns the step it got to."""
    step = first_step
    journal = FragileJournal(folder, fuse)
    earlier = dict(journal.last_steps)
    try:
        deliverer = Deliverer(journal, backend)
        deliverer.deliver()
        for step in range(first_step, NUM_STEPS):
            if step > earlier.get("loss", -1):
                body = {"step": step, "values": {"loss": step * 0.5, "grad": -float(step)}}
                journal.append("metrics", body, time_ms=1000 * attempt_number + step)
            if step > earlier.get("rare", -1) and step % 2 == 0:
                journal.append("metrics", {"step": step, "values": {"rare": 1.0}}, time_ms=1000 * attempt_number + step)
            if step % every == 0:
                deliverer.deliver()
        deliverer.deliver()
        step = NUM_STEPS
    except Killed:
        pass
    finally:
        journal.close()
    return step


@settings(max_examples=150, deadline=None)
@given(
    kills=st.lists(st.integers(1, 60), max_size=6),
    aways=st.lists(st.booleans(), min_size=7, max_size=7),
    every=st.integers(1, 5),
)
def test_every_step_arrives_once_and_in_order(kills: list[int], aways: list[bool], every: int) -> None:
    backend = FakeBackend()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        reached = 0
        for number, moments in enumerate(kills):
            fuse = Fuse(moments)
            backend.away = aways[number]
            backend.hook = fuse
            checkpoint = reached // CHECKPOINT_EVERY * CHECKPOINT_EVERY
            reached = attempt(folder, backend, number, checkpoint, fuse, every)
        backend.away = False
        backend.hook = lambda moment: None
        checkpoint = reached // CHECKPOINT_EVERY * CHECKPOINT_EVERY
        attempt(folder, backend, len(kills), checkpoint, Fuse(10**9), every)
    assert backend.history("loss") == [(s, s * 0.5) for s in range(NUM_STEPS)]
    assert backend.history("grad") == [(s, -float(s)) for s in range(NUM_STEPS)]
    assert backend.history("rare") == [(s, 1.0) for s in range(0, NUM_STEPS, 2)]
