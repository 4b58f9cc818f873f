"""A resident model under an adapter: its rows run in the base's own batch."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

from steerline.evaluation.model_facts import device_of
from steerline.inference import openmp
from steerline.inference.backends.local import LocalBackend
from steerline.inference.request import BackendLimits, Delta, GenRequest, GenResult
from steerline.models.adapter import Adapter, read_adapter


class AdaptedBackend:
    """Answers by the base's engine, in which the rows of the base and of its adapters share the running batch.

    Args:
        base: stays open when this is closed.
        adapter: read for this base.
    """

    def __init__(self, base: LocalBackend, adapter: Adapter) -> None:
        self._base = base
        self._adapter = adapter

    @classmethod
    def open(cls, base: LocalBackend, folder: Path) -> AdaptedBackend:
        """Reads an adapter that meets no `obstacle`.

        Raises:
            ModelError: it does not fit the base.
        """
        try:
            return cls(base, read_adapter(folder, base.model, base.model.dtype, device_of(base.model)))
        finally:
            openmp.release()

    @property
    def limits(self) -> BackendLimits:
        """The base's."""
        return self._base.limits

    async def generate(self, requests: Sequence[GenRequest]) -> list[GenResult]:
        """One answer for each request, as the base gives them."""
        return await self._base.generate(requests, self._adapter)

    def stream(self, request: GenRequest) -> AsyncGenerator[Delta, None]:
        """The pieces of one answer, as the base gives them."""
        return self._base.stream(request, self._adapter)

    async def close(self) -> None:
        """Nothing: what is the base's stays, and the matrices go with this."""
