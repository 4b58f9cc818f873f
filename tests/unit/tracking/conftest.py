"""Unit tests of the spool do not wait for a disk."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="session")
def _no_fsync() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("steerline.tracking.journal.os.fsync", lambda fd: None)
        yield
