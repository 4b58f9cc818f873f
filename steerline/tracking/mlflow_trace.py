"""Sends a trace to MLflow, with the times at which things happened and not those at which they are told.

MLflow's own tracing functions record what happens now, in the process where it happens, and export it in the
background. A record of the spool is told later, perhaps twice, so spans are built here, with ids that are hashes of
run and name; the store takes the same spans again without doubling them (MLflow 3.17).
"""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from steerline.tracking.backend import Trace, TraceSpan
from steerline.tracking.references import RunRef

if TYPE_CHECKING:
    from mlflow.entities import Span

_PREVIEW = 1000


def send(run: RunRef, trace: Trace) -> None:
    """Store a trace beside a run."""
    from mlflow.entities import TraceInfo, TraceLocation, TraceState
    from mlflow.tracing.client import TracingClient

    number = int.from_bytes(blake2b(f"{run.run_id}/{trace.name}".encode(), digest_size=16).digest(), "big")
    trace_id, whole = f"tr-{number:032x}", trace.spans[0]
    client = TracingClient(run.tracking_uri)
    client.start_trace(
        TraceInfo(
            trace_id=trace_id,
            trace_location=TraceLocation.from_experiment_id(run.experiment_id),
            request_time=whole.start_ns // 1_000_000,
            execution_duration=(whole.end_ns - whole.start_ns) // 1_000_000,
            state=TraceState.OK if trace.ok else TraceState.ERROR,
            request_preview=_preview(whole.inputs),
            response_preview=_preview(whole.outputs),
            trace_metadata={"mlflow.sourceRun": run.run_id, "mlflow.trace_schema.version": "3"},
            tags={"mlflow.traceName": trace.name},
        )
    )
    spans = [_span(number, trace_id, place, span, trace.ok) for place, span in enumerate(trace.spans, 1)]
    client.log_spans(run.experiment_id, spans)


def _span(number: int, trace_id: str, place: int, span: TraceSpan, ok: bool) -> Span:
    from mlflow.entities import Span
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags

    def context(at: int) -> SpanContext:
        return SpanContext(number, at, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))

    values = {
        "mlflow.traceRequestId": trace_id,
        "mlflow.spanType": span.kind,
        "mlflow.spanInputs": span.inputs,
        "mlflow.spanOutputs": span.outputs,
        **span.attributes,
    }
    return Span(
        ReadableSpan(
            name=span.name,
            context=context(place),
            parent=None if span.parent is None else context(span.parent + 1),
            resource=Resource.get_empty(),
            attributes={name: json.dumps(value) for name, value in values.items() if value is not None},
            status=Status(StatusCode.OK if ok else StatusCode.ERROR),
            start_time=span.start_ns,
            end_time=span.end_ns,
        )
    )


def _preview(value: Any) -> str:
    return (value if isinstance(value, str) else json.dumps(value))[:_PREVIEW]
