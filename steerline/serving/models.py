"""The served models of one process: those of the spec, and those of the registry that are asked for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import partial

from steerline.config.inference import LocalBackendSpec
from steerline.config.serving import ServingSpec
from steerline.home import home
from steerline.inference.backends.open import open_backend
from steerline.inference.load import HasLoad, Load
from steerline.inference.request import Delta, Failure, GenRequest, GenResult, StreamingBackend
from steerline.serving.card import ModelCard
from steerline.serving.describing import card_of
from steerline.serving.fetched import FetchedFiles
from steerline.serving.lora import weights_of
from steerline.serving.registry import GIB, RegisteredModels, Room
from steerline.serving.versions import versions_of
from steerline.tracking.references import resolve_uri
from steerline.tracking.registry import fetch

_LISTED_WITHIN_S = 3.0


class ServedModels:
    """Models by the ids that requests use: names of the spec, and references to the registry.

    Args:
        spec: the endpoint's. Its local models are loaded here, which takes a while.
        backends: who answers, by name; none opens those of the spec.
        registered: models of the registry; none reaches those that the spec allows.

    Raises:
        ModelError: a model cannot be loaded.
        InferenceError: a key is missing, or a model cannot write text.
        TrackingError: models of the registry are allowed, and no server is named.
    """

    def __init__(
        self,
        spec: ServingSpec,
        backends: Mapping[str, StreamingBackend] | None = None,
        registered: RegisteredModels | None = None,
    ) -> None:
        if backends is None:
            backends = {name: open_backend(backend) for name, backend in spec.models.items()}
        self._backends = dict(backends)
        self._registered = _registered(spec, self._backends) if registered is None else registered
        self._began = int(time.time())
        self._rows = 0
        self._cards = [
            card_of(name, spec.models[name]) if name in spec.models else ModelCard(name, self._began)
            for name in self._backends
        ]

    async def models(self) -> list[ModelCard]:
        """The models that may be asked; those of the registry as far as it says in time."""
        return [*self._cards, *(ModelCard(name, self._began, about="in the registry") for name in await self._listed())]

    @property
    def registered(self) -> dict[str, int]:
        """Bytes of weights in memory, by version of the registry."""
        return {} if self._registered is None else self._registered.loaded

    @property
    def loads(self) -> dict[str, Load]:
        """What the models of this process have on their hands, by name; those of other servers are not among them."""
        registered = {} if self._registered is None else self._registered.backends
        here = {**self._backends, **registered}
        return {name: backend.current_load for name, backend in here.items() if isinstance(backend, HasLoad)}

    @property
    def rows(self) -> int:
        """Requests that have no whole answer yet, whether they run or wait."""
        return self._rows

    async def generate(self, requests: Sequence[GenRequest]) -> list[GenResult]:
        """One result for each request, in order; requests of one model share batches. A failure is a result."""
        places: dict[str, list[int]] = {}
        for index, request in enumerate(requests):
            places.setdefault(request.model, []).append(index)
        answers = await asyncio.gather(
            *(self._answers(model, [requests[index] for index in own]) for model, own in places.items())
        )
        results: dict[int, GenResult] = {}
        for own, found in zip(places.values(), answers, strict=True):
            results |= zip(own, found, strict=True)
        return [results[index] for index in range(len(requests))]

    async def stream(self, request: GenRequest) -> AsyncGenerator[Delta, None]:
        """The pieces of one answer; the last one has the result, also of a failure. Closing the generator stops it."""
        async with self._backend(request.model, 1) as backend:
            if isinstance(backend, Failure):
                yield Delta("", result=GenResult.failed(backend))
                return
            async with aclosing(backend.stream(request)) as deltas:
                async for delta in deltas:
                    yield delta

    async def close(self) -> None:
        """Gives back all models."""
        if self._registered is not None:
            await self._registered.close()
        for backend in self._backends.values():
            await backend.close()

    async def _answers(self, model: str, requests: Sequence[GenRequest]) -> list[GenResult]:
        async with self._backend(model, len(requests)) as backend:
            if isinstance(backend, Failure):
                return [GenResult.failed(backend) for _ in requests]
            most = backend.limits.max_batch
            calls = [backend.generate(requests[start : start + most]) for start in range(0, len(requests), most)]
            return [result for found in await asyncio.gather(*calls) for result in found]

    @asynccontextmanager
    async def _backend(self, model: str, rows: int) -> AsyncIterator[StreamingBackend | Failure]:
        self._rows += rows
        try:
            if model in self._backends:
                yield self._backends[model]
            elif self._registered is not None:
                async with self._registered.use(model) as found:
                    yield found
            else:
                yield Failure("unknown_model", f"{model} is not served here")
        finally:
            self._rows -= rows

    async def _listed(self) -> list[str]:
        if self._registered is None:
            return []
        try:
            return await asyncio.wait_for(self._registered.references(), _LISTED_WITHIN_S)
        except TimeoutError:
            return []


def _registered(spec: ServingSpec, resident: Mapping[str, StreamingBackend]) -> RegisteredModels | None:
    versions = versions_of(spec)
    if versions is None:
        return None
    assert spec.registry is not None
    assert spec.tracking is not None
    uri = resolve_uri(spec.tracking)
    local = {name: backend for name, backend in spec.models.items() if isinstance(backend, LocalBackendSpec)}
    files = FetchedFiles(home() / "served", _bytes(spec.registry.most_disk_gib), partial(fetch, uri))
    weights = partial(weights_of, served=local, resident=resident, precision=spec.registry.dtype, fetch=files.of)
    room = Room(spec.registry.most_loaded, _bytes(spec.registry.most_gib))
    return RegisteredModels(versions, weights, room)


def _bytes(gib: float | None) -> int | None:
    return None if gib is None else int(gib * GIB)
