"""Transformers' progress bars: for a person at a terminal, not for a log."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_bars() -> Iterator[None]:
    """Show no bars while inside, unless standard error is a terminal. The setting found before is restored."""
    from transformers.utils import logging

    if sys.stderr.isatty() or not logging.is_progress_bar_enabled():
        yield
        return
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.enable_progress_bar()
