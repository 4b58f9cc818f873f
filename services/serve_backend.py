"""Models behind a Serve handle, as the HTTP layer and as simulations see them. A batch is one call of the handle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError
from ray.serve.handle import DeploymentHandle

from services.http.errors import ApiError
from services.inference.port import Inference, ModelCard
from steerline.config.inference import BackendSpec, LocalBackendSpec
from steerline.inference.request import BackendLimits, Delta, Failure, GenRequest, GenResult
from steerline.serving.versions import SCHEME, Versions

# A replica that died, one that is not there yet, or a queue that is full: all of them pass.
_PASSING = (RayActorError, BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError)
# Batches side by side on a replica, so that one simulation need not wait for the last token of another.
_CALLS_AT_ONCE = 8


class ServeInference:
    """The port to the models, over the handle of their deployment.

    A registered model is asked for by its version, so that Serve sends whatever means the same weights to a replica
    that has them already; what is no version is turned away here.

    Args:
        handle: of a deployment with `generate`, `stream` and `cards`.
        versions: what references to the registry stand for; none where no registered model is served.
    """

    def __init__(self, handle: DeploymentHandle[Any], versions: Versions | None = None) -> None:
        self._handle = handle
        self._versions = versions

    async def models(self) -> list[ModelCard]:
        """Those that may be asked.

        Raises:
            ApiError: no replica answers.
        """
        try:
            cards: list[ModelCard] = await self._handle.cards.remote()
        except _PASSING as error:
            failure = failure_of(error)
            raise ApiError(503, "models_unavailable", failure.what, retry_after_s=failure.retry_after_s) from error
        return cards

    async def generate(self, requests: Sequence[GenRequest]) -> list[GenResult]:
        """One result for each request, in order; all of them ask one model."""
        (model,) = {request.model for request in requests}
        found = await self._found(model)
        if isinstance(found, Failure):
            return [GenResult.failed(found) for _ in requests]
        answer = found.handle.generate.remote([found.of(request) for request in requests])
        try:
            results: list[GenResult] = await answer
        except _PASSING as error:
            return [GenResult.failed(failure_of(error)) for _ in requests]
        except asyncio.CancelledError:
            answer.cancel()
            raise
        return results

    async def stream(self, request: GenRequest) -> AsyncGenerator[Delta, None]:
        """The pieces of one answer; closing the generator stops it on its replica."""
        found = await self._found(request.model)
        if isinstance(found, Failure):
            yield Delta("", result=GenResult.failed(found))
            return
        pieces = found.handle.options(stream=True).stream.remote(found.of(request))
        try:
            async for piece in pieces:
                yield piece
        except _PASSING as error:
            yield Delta("", result=GenResult.failed(failure_of(error)))
        except (GeneratorExit, asyncio.CancelledError):
            pieces.cancel()
            raise

    async def _found(self, model: str) -> _Found | Failure:
        if self._versions is None or not model.startswith(SCHEME):
            return _Found(self._handle, model)
        version = await self._versions.find(model)
        if isinstance(version, Failure):
            return version
        return _Found(self._handle.options(multiplexed_model_id=version.uri), version.uri)


@dataclass(frozen=True, slots=True)
class _Found:
    """The way to a model, and what it is called there."""

    handle: DeploymentHandle[Any]
    name: str

    def of(self, request: GenRequest) -> GenRequest:
        return request if request.model == self.name else replace(request, model=self.name)


class ServedBackend:
    """One served model, as a backend of the client that simulations ask.

    Args:
        name: by which requests name it.
        inference: the way to it.
        limits: what one call may hold.
    """

    def __init__(self, name: str, inference: Inference, limits: BackendLimits) -> None:
        self.name = name
        self.limits = limits
        self._inference = inference

    async def generate(self, requests: Sequence[GenRequest]) -> list[GenResult]:
        """One result for each request, in order, by one call."""
        return await self._inference.generate(requests)

    def stream(self, request: GenRequest) -> AsyncGenerator[Delta, None]:
        """The pieces of one answer."""
        return self._inference.stream(request)

    async def close(self) -> None:
        """Nothing: the model is somebody else's."""


def limits_of(spec: BackendSpec | None) -> BackendLimits:
    """What one call to a served model may hold; without a spec, to one of the registry."""
    if isinstance(spec, LocalBackendSpec):
        return BackendLimits(spec.max_batch, spec.max_batch_tokens, in_flight=_CALLS_AT_ONCE)
    return BackendLimits(in_flight=_CALLS_AT_ONCE)


def failure_of(error: Exception) -> Failure:
    """Why no replica answered. The same request may be sent again: a continuation has no other effect."""
    if isinstance(error, BackPressureError):
        return Failure("busy", "too many requests wait for the models", error.retry_after_s)
    return Failure("unavailable", "the replica of the models went away, and another takes its place")
