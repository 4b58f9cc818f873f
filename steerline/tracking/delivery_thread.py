"""The background thread that keeps delivering, so that the caller never waits for the server."""

from __future__ import annotations

import threading
import time

from steerline.tracking.delivery import Deliverer
from steerline.tracking.journal import Journal

# The longest a single request may take (connection.py) and a little more.
_REQUEST_S = 20.0


class DeliveryThread(threading.Thread):
    """Delivers in the background, about every `buffer_s` seconds, until stopped.

    A daemon, so that a process that never closes its recorder can still end; what it leaves is in the journal.
    """

    def __init__(self, deliverer: Deliverer, journal: Journal, *, buffer_s: float) -> None:
        super().__init__(name="steerline-tracking", daemon=True)
        self._deliverer = deliverer
        self._journal = journal
        self._buffer_s = buffer_s
        self._changed = threading.Condition()
        self._deadline: float | None = None
        self._flushing = False

    def run(self) -> None:
        """Deliver, wait, and deliver again."""
        while True:
            wait_s = self._deliverer.deliver()
            with self._changed:
                if wait_s is None:
                    self._flushing = False
                    self._changed.notify_all()
                if self._deadline is not None:
                    left_s = self._deadline - time.monotonic()
                    if (wait_s is None and self._journal.pending == 0) or left_s <= 0:
                        return
                    # Somebody waits for the end: look more often than in a long absence.
                    self._changed.wait(min(wait_s or 0.0, 1.0, left_s))
                elif not self._flushing or wait_s is not None:
                    self._changed.wait(self._buffer_s if wait_s is None else wait_s)

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything recorded so far is delivered. Returns whether it is."""
        last = self._journal.last_seq
        with self._changed:
            self._flushing = True
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._journal.acknowledged >= last, timeout_s)

    def stop(self, timeout_s: float) -> bool:
        """Deliver the rest for at most `timeout_s` seconds and end. Returns whether the thread has ended."""
        with self._changed:
            self._deadline = time.monotonic() + timeout_s
            self._deliverer.deadline = self._deadline
            self._changed.notify_all()
        # A request under way ends by its own time limit.
        self.join(timeout_s + _REQUEST_S)
        return not self.is_alive()
