"""Spans of what models are asked, in OpenTelemetry's terms for generative AI. What is said stays out of them.

Serve has spans of its own and sets tracing up in each process, once its config says so: `tracing_config` with
`exporter_import_path: services.tracing:processors`. Without it all of this costs next to nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import entry_points

from opentelemetry import trace
from opentelemetry.environment_variables import OTEL_TRACES_EXPORTER
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, Status, StatusCode, Tracer

from services.inference.asking import used
from services.inference.port import Inference, ModelCard
from steerline.errors import ConfigError
from steerline.inference.request import Delta, GenRequest, GenResult

_EXPORTERS = "opentelemetry_traces_exporter"


class Traced:
    """The port to the models, with a span for each call. Make it inside a replica.

    Args:
        inference: the port.
        tracer: makes the spans; none takes that of the process.
    """

    def __init__(self, inference: Inference, tracer: Tracer | None = None) -> None:
        self._inference = inference
        self._tracer = trace.get_tracer("steerline") if tracer is None else tracer

    async def models(self) -> list[ModelCard]:
        """Those that may be asked."""
        return await self._inference.models()

    async def generate(self, requests: Sequence[GenRequest]) -> list[GenResult]:
        """One result for each request, in order; all of them ask one model."""
        with self._span(requests[0]) as span, _faults_of(span):
            results = await self._inference.generate(requests)
            if span.is_recording():
                _tell(span, requests, results)
        return results

    async def stream(self, request: GenRequest) -> AsyncGenerator[Delta, None]:
        """The pieces of one answer."""
        # A generator may be closed in another context than it was begun in, so the span is not made the current one.
        span = self._span(request)
        began = time.monotonic()
        is_first = True
        pieces = self._inference.stream(request)
        try:
            with _faults_of(span):
                async for piece in pieces:
                    if is_first:
                        is_first = False
                        span.set_attribute("gen_ai.response.time_to_first_chunk", time.monotonic() - began)
                    if piece.result is not None and span.is_recording():
                        _tell(span, [request], [piece.result])
                    yield piece
        finally:
            span.end()
            await pieces.aclose()

    def _span(self, request: GenRequest) -> Span:
        operation = "chat" if request.messages else "text_completion"
        sampling = request.sampling
        return self._tracer.start_span(
            f"{operation} {request.model}",
            # The message of an exception may hold what was said.
            record_exception=False,
            set_status_on_exception=False,
            attributes={
                "gen_ai.operation.name": operation,
                "gen_ai.provider.name": "steerline",
                "gen_ai.request.model": request.model,
                "gen_ai.request.max_tokens": sampling.max_tokens,
                "gen_ai.request.temperature": sampling.temperature,
                "gen_ai.request.top_p": sampling.top_p,
                "gen_ai.request.seed": request.seed,
                "gen_ai.output.type": "text" if request.response_schema is None else "json",
                "steerline.steered": request.steering is not None,
            },
        )


def processors() -> list[SpanProcessor]:
    """Where spans go: to the exporters that `OTEL_TRACES_EXPORTER` names, each of which reads `OTEL_*` variables.

    Raises:
        ConfigError: one is not installed.
    """
    installed = entry_points(group=_EXPORTERS)
    wanted = [name.strip() for name in os.environ.get(OTEL_TRACES_EXPORTER, "otlp").split(",")]
    missing = [name for name in wanted if name not in {*installed.names, "none"}]
    if missing:
        raise ConfigError(
            "this exporter of spans is not installed",
            where=OTEL_TRACES_EXPORTER,
            got=", ".join(missing),
            expected=", ".join(sorted(installed.names)),
            fix="pip install opentelemetry-exporter-otlp",
        )
    return [BatchSpanProcessor(installed[name].load()()) for name in wanted if name != "none"]


@contextmanager
def _faults_of(span: Span) -> Iterator[None]:
    """A fault inside is an error of the span, by its class alone."""
    try:
        yield
    except Exception as error:
        span.set_attribute("error.type", type(error).__qualname__)
        span.set_status(Status(StatusCode.ERROR))
        raise


def _tell(span: Span, requests: Sequence[GenRequest], results: Sequence[GenResult]) -> None:
    """How a call ended, and what it took."""
    failure = next((result.failure for result in results if result.failure is not None), None)
    if failure is not None:
        span.set_attribute("error.type", failure.kind)
        span.set_status(Status(StatusCode.ERROR))
        return
    usage = used(requests, results)
    if len(requests) > 1:
        span.set_attribute("gen_ai.request.choice.count", len(requests))
    span.set_attributes(
        {
            "gen_ai.response.finish_reasons": [result.finish_reason for result in results],
            "gen_ai.usage.input_tokens": usage.prompt_tokens,
            "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
            "gen_ai.usage.output_tokens": usage.completion_tokens,
        }
    )
