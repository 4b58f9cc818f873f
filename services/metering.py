"""Counts what the models are asked and answer, for Prometheus."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence

from ray.serve import metrics

from services.inference.port import Inference, ModelCard
from steerline.inference.request import Delta, GenRequest, GenResult

_LATENCIES_MS = [10.0, 30.0, 100.0, 300.0, 1_000.0, 3_000.0, 10_000.0, 30_000.0, 100_000.0]
# Whatever callers make up must not become a series of its own.
_UNKNOWN = "unknown"


class Metered:
    """The port to the models, counted. Make it inside a replica, whose name each series then carries.

    Args:
        inference: the port.
        known: names of models that have series of their own from the start; others have them once they have answered.
    """

    def __init__(self, inference: Inference, known: Collection[str] = ()) -> None:
        self._inference = inference
        self._known = set(known)
        self._waiting = 0
        self._requests = metrics.Counter(
            "steerline_requests", "Requests for text, by how they ended.", tag_keys=("model", "outcome")
        )
        self._tokens = metrics.Counter("steerline_tokens", "Tokens of answered requests.", tag_keys=("model", "kind"))
        self._latency = metrics.Histogram(
            "steerline_request_latency_ms", "Until the whole answer.", boundaries=_LATENCIES_MS, tag_keys=("model",)
        )
        self._now = metrics.Gauge("steerline_requests_waiting", "Requests for text that have no whole answer yet.")

    async def models(self) -> list[ModelCard]:
        """Those that may be asked."""
        return await self._inference.models()

    async def generate(self, requests: Sequence[GenRequest]) -> list[GenResult]:
        """One result for each request, in order."""
        self._wait(len(requests))
        try:
            results = await self._inference.generate(requests)
        finally:
            self._wait(-len(requests))
        for request, result in zip(requests, results, strict=True):
            self._count(request, result)
        return results

    async def stream(self, request: GenRequest) -> AsyncGenerator[Delta, None]:
        """The pieces of one answer."""
        self._wait(1)
        pieces = self._inference.stream(request)
        try:
            async for piece in pieces:
                if piece.result is not None:
                    self._count(request, piece.result)
                yield piece
        finally:
            self._wait(-1)
            await pieces.aclose()

    def _wait(self, change: int) -> None:
        self._waiting += change
        self._now.set(self._waiting)

    def _count(self, request: GenRequest, result: GenResult) -> None:
        outcome = result.finish_reason if result.failure is None else result.failure.kind
        if result.failure is None:
            self._known.add(request.model)
        model = request.model if request.model in self._known else _UNKNOWN
        self._requests.inc(tags={"model": model, "outcome": outcome})
        if result.failure is None:
            self._latency.observe(result.seconds * 1000, tags={"model": model})
            # Counters take only what is above 0.
            for kind, tokens in (
                ("prompt", result.usage.prompt_tokens),
                ("cached", result.usage.cached_tokens),
                ("completion", result.usage.completion_tokens),
            ):
                if tokens:
                    self._tokens.inc(tokens, tags={"model": model, "kind": kind})
