"""Models behind a Serve handle, as the HTTP layer and as simulations see them. A batch is one call of the handle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError
from ray.serve.handle import DeploymentHandle

from services.http.errors import ApiError
from services.inference.port import Inference, ModelCard
from steerline.config.inference import BackendSpec, LocalBackendSpec
from steerline.inference.request import BackendLimits, Delta, Failure, GenRequest, GenResult

# A replica that died, one that is not there yet, or a queue that is full: all of them pass.
_PASSING = (RayActorError, BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError)
# Batches side by side on a replica, so that one simulation need not wait for the last token of another.
_CALLS_AT_ONCE = 8


class ServeInference:
    """The port to the models, over the handle of their deployment.

    Args:
        handle: of a deployment with `generate`, `stream` and `cards`.
    """

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        self._handle = handle
        self._streaming = handle.options(stream=True)

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
        """One result for each request, in order."""
        answer = self._handle.generate.remote(list(requests))
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
        pieces = self._streaming.stream.remote(request)
        try:
            async for piece in pieces:
                yield piece
        except _PASSING as error:
            yield Delta("", result=GenResult.failed(failure_of(error)))
        except (GeneratorExit, asyncio.CancelledError):
            pieces.cancel()
            raise


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
