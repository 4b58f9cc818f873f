"""Spans of what models are asked, and what stays out of them."""

from __future__ import annotations

import asyncio

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from services.tracing import Traced, processors
from steerline.config.inference import SamplingSpec
from steerline.errors import ConfigError
from steerline.inference.request import ChatMessage, GenRequest, GenResult
from tests.unit.services.stand_in import Parrot

CHAT = GenRequest("parrot", (ChatMessage("user", "a secret question"),), sampling=SamplingSpec(max_tokens=9), seed=5)


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def traced(spans: InMemorySpanExporter) -> Traced:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return Traced(Parrot(), provider.get_tracer("test"))


def only(spans: InMemorySpanExporter) -> ReadableSpan:
    (span,) = spans.get_finished_spans()
    assert "secret" not in span.to_json()
    return span


async def read(traced: Traced, request: GenRequest, pieces: int) -> None:
    stream = traced.stream(request)
    for _ in range(pieces):
        await anext(stream)
    await stream.aclose()


def test_a_call_is_a_span_in_the_conventions_terms(traced: Traced, spans: InMemorySpanExporter) -> None:
    asyncio.run(traced.generate([CHAT, CHAT]))
    span = only(spans)
    assert span.name == "chat parrot"
    assert dict(span.attributes or {}) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "steerline",
        "gen_ai.request.model": "parrot",
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.temperature": 0.0,
        "gen_ai.request.top_p": 1.0,
        "gen_ai.request.seed": 5,
        "gen_ai.request.choice.count": 2,
        "gen_ai.output.type": "text",
        "steerline.steered": False,
        "gen_ai.response.finish_reasons": ("stop", "stop"),
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "gen_ai.usage.output_tokens": 6,
    }


def test_a_stream_is_a_span_that_ends_with_it_or_when_it_is_left(traced: Traced, spans: InMemorySpanExporter) -> None:
    asyncio.run(read(traced, CHAT, pieces=4))
    attributes = only(spans).attributes or {}
    assert attributes["gen_ai.usage.output_tokens"] == 3
    assert "gen_ai.response.time_to_first_chunk" in attributes
    spans.clear()
    asyncio.run(read(traced, CHAT, pieces=1))
    assert "gen_ai.usage.output_tokens" not in (only(spans).attributes or {})


def test_a_failure_is_an_error_of_its_kind(traced: Traced, spans: InMemorySpanExporter) -> None:
    asyncio.run(traced.generate([GenRequest("nobody", prompt="a secret text")]))
    span = only(spans)
    assert (span.name, (span.attributes or {})["error.type"]) == ("text_completion nobody", "unknown_model")
    assert not span.status.is_ok


def test_a_fault_is_an_error_of_its_class_and_its_message_stays_out(
    traced: Traced, spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> GenResult:
        raise ValueError("a secret question")

    monkeypatch.setattr(Parrot, "_answer", fail)
    for call in (traced.generate([CHAT]), read(traced, CHAT, pieces=1)):
        with pytest.raises(ValueError, match="secret"):
            asyncio.run(call)
        span = only(spans)
        assert (span.attributes or {})["error.type"] == "ValueError"
        assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, None)
        spans.clear()


def test_exporters_are_those_that_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    (processor,) = processors()
    processor.shutdown()
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    assert processors() == []
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "carrier-pigeon")
    with pytest.raises(ConfigError, match="not installed"):
        processors()
