"""Keeps a lease while its owner works, also while a tick that computes for long keeps the event loop busy."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from steerline.errors import LeaseError, SimulationError
from steerline.simulation.store.base import Lease, Store

log = logging.getLogger("steerline.simulation")

_END_S = 5.0


class LeaseKeeper:
    """Renews a lease in a thread of its own, inside a `with` block.

    Args:
        store: gave the lease.
        lease: the owner's.
        lease_s: seconds that the owner may be silent.
        on_lost: called in that thread once another owner has taken over.
    """

    def __init__(self, store: Store, lease: Lease, lease_s: float, on_lost: Callable[[LeaseError], None]) -> None:
        self._store = store
        self._lease = lease
        self._lease_s = lease_s
        self._on_lost = on_lost
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"lease of {lease.sim}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        # A store that does not answer must not keep whoever leaves.
        self._thread.join(_END_S)

    def _keep(self) -> None:
        while not self._over.wait(self._lease_s / 3):
            try:
                self._store.renew(self._lease, self._lease_s)
            except LeaseError as error:
                self._on_lost(error)
                return
            except SimulationError as error:
                # A store that stays away is the next commit's to report.
                log.warning("the lease of %s could not be renewed: %s", self._lease.sim, error)
