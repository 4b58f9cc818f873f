"""Why a tick is broken off without a trace, to be played again later."""

from __future__ import annotations

from typing import Literal


class Interruption(Exception):  # noqa: N818 (no error: the run stands still in good order)
    """A tick cannot go on now: a budget is reached, a person has not answered, a brain fails.

    What models have answered is in the journal, so that playing the tick again asks none of it again.
    """

    def __init__(self, status: Literal["paused", "waiting"], reason: str, again_s: float | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.again_s = again_s
        """Seconds after which a host plays on by itself, where what stood in the way passes."""
