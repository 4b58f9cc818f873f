"""Answers that stayed away, as HTTP errors."""

from __future__ import annotations

from services.http.errors import ApiError
from steerline.inference.request import Failure

_PAUSE_S = 1.0
STATUSES = (404, 503)
"""Statuses of errors below, beyond those of any call."""


def error_of(failure: Failure) -> ApiError:
    """The error that a failure is to whoever asked."""
    pause = _PAUSE_S if failure.retry_after_s is None else failure.retry_after_s
    match failure.kind:
        case "unknown_model":
            return ApiError(404, "model_not_found", failure.what, param="model")
        case "refused":
            return ApiError(400, "refused", failure.what)
        case "too_long":
            return ApiError(400, "context_length_exceeded", failure.what, param="messages")
        case "busy":
            return ApiError(429, "busy", failure.what, retry_after_s=pause)
        case "timeout":
            return ApiError(503, "timeout", failure.what, retry_after_s=pause)
        case "unavailable":
            return ApiError(503, "unavailable", failure.what, retry_after_s=pause)
