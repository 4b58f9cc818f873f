"""What goes wrong, as HTTP: one shape for every error, which is OpenAI's, and all of it in the OpenAPI document."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from fastapi import FastAPI, Request, WebSocket
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send

from steerline import errors

log = logging.getLogger("steerline.http")

ErrorType = Literal[
    "invalid_request_error", "authentication_error", "permission_error", "rate_limit_error", "server_error"
]
# Statuses that any call under a key may have, whatever it does.
EVERYWHERE = (400, 401, 403, 413, 429, 500, 503)
# Close codes of WebSockets: what was asked breaks the endpoint's policy, and the endpoint cannot go on.
_POLICY_VIOLATION = 1008
_INTERNAL_ERROR = 1011
_LONGEST_REASON_BYTES = 120
# A crowd may be wrong ten thousand times in the same way.
_MOST_PROBLEMS = 50
_MOST_SAID = 8
# A store or a file that another process holds is free again soon.
_AWAY_S = 1.0
_MEANINGS: Mapping[int, str] = {
    400: "The request does not fit: a missing or wrong field, or a value that is not allowed.",
    401: "No key, or one that is unknown, revoked or expired.",
    403: "The key lacks the scope. Where no keys are asked for: a page of another web site calls.",
    404: "There is no such thing.",
    405: "This path takes another method.",
    409: "What is asked for does not go with what is there now.",
    410: "It was there, and is gone.",
    413: "The request body is too long.",
    429: "Too much at once, in this minute, or of this day. `Retry-After` says in how many seconds to try again.",
    500: "A fault of the endpoint. The log has it under the request's id.",
    502: "The model's server failed.",
    503: "Not ready now. Try again later, after `Retry-After` seconds where it is there.",
    504: "The model did not answer in time.",
}
_TYPES: Mapping[int, ErrorType] = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
# The first class that fits counts.
_STATUS_OF: tuple[tuple[type[errors.SteerlineError], int], ...] = (
    (errors.OverloadedError, 429),
    (errors.LeaseError, 409),
    (errors.StoreAwayError, 503),
    (errors.CorruptLogError, 500),
    (errors.ReplayError, 409),
    (errors.SimulationError, 400),
    (errors.ConfigError, 400),
    (errors.SteeringError, 400),
    (errors.InferenceError, 400),
    (errors.ModelError, 400),
    (errors.TrackingError, 503),
)


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    """For people: what, and how to mend it."""
    type: ErrorType
    param: str | None
    """The field that is meant, as a dotted path."""
    code: str | None
    """For programs; it stays the same when the message is worded anew."""


class ErrorBody(BaseModel):
    """The body of every answer that is no success."""

    error: ErrorDetail


class FieldProblem(BaseModel):
    """One thing to mend."""

    path: str
    """Dotted path of the field, as it was sent; empty where all of it is meant."""
    message: str


class RefusedBody(ErrorBody):
    """The body of an answer to a spec that does not fit: OpenAI's shape, and beside it all that is to mend."""

    problems: list[FieldProblem] = []
    """The first 50. None where the request failed for another reason."""


class ApiError(HTTPException):
    """An answer other than success. Raise it anywhere below a route.

    Args:
        status: HTTP status.
        code: for programs, e.g. `model_not_found`.
        message: for people: what, got, expected, fix.
        param: the field that is meant, as a dotted path.
        retry_after_s: seconds after which the same request may succeed.
        problems: all that is to mend, where the route says that it lists that (`RefusedBody`).
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: float | None = None,
        problems: Sequence[FieldProblem] = (),
    ) -> None:
        headers = {}
        if status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        if retry_after_s is not None:
            headers["Retry-After"] = str(max(1, round(retry_after_s + 0.5)))
        super().__init__(status, message, headers)
        self.code = code
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        self.problems = tuple(problems[:_MOST_PROBLEMS])

    def body(self) -> dict[str, Any]:
        """In OpenAI's shape; also what a stream that has begun sends as its last event."""
        kind = _TYPES.get(self.status_code, "server_error" if self.status_code >= 500 else "invalid_request_error")
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        listed = {"problems": [problem.model_dump() for problem in self.problems]} if self.problems else {}
        return {"error": error, **listed}

    def response(self) -> JSONResponse:
        """The whole answer."""
        return JSONResponse(self.body(), self.status_code, self.headers)

    @classmethod
    def unfit(cls, problems: Sequence[FieldProblem], *, listed: bool = True) -> ApiError:
        """The answer to a request that does not fit.

        Args:
            problems: all that is to mend; the first that has a path is the one that is meant.
            listed: whether the body lists them beside the message.
        """
        shown = [f"{one.path}: {one.message}" if one.path else one.message for one in problems[:_MOST_SAID]]
        param = next((one.path for one in problems if one.path), None)
        return cls(400, "invalid_request", " | ".join(shown), param=param, problems=problems if listed else ())

    @classmethod
    def of(cls, error: errors.SteerlineError) -> ApiError:
        """The answer to an error of the library. Paths of this machine stay here, and what servers behind it say."""
        status = next((status for kind, status in _STATUS_OF if isinstance(error, kind)), 500)
        if status == 500:
            return cls.fault()
        parts = {} if status > 500 else {"got": error.got, "expected": error.expected, "fix": error.fix}
        message = "; ".join([error.what, *(f"{name}: {value}" for name, value in parts.items() if value is not None)])
        if isinstance(error, errors.ProblemsError) and error.problems:
            message = "; ".join(f"{problem.path or 'the config'}: {problem.what}" for problem in error.problems)
        code = type(error).page.replace("-", "_")
        retry = _AWAY_S if isinstance(error, errors.StoreAwayError) else None
        retry = error.retry_after_s if isinstance(error, errors.OverloadedError) else retry
        return cls(status, code, message, retry_after_s=retry)

    @classmethod
    def of_stream(cls, error: Exception) -> ApiError:
        """What fails in a stream that has begun. The log has what its reader cannot mend."""
        if isinstance(error, ApiError):
            return error
        told = cls.of(error) if isinstance(error, errors.SteerlineError) else cls.fault()
        if told.status_code >= 500:
            log.error("a stream met a fault", exc_info=error)
        return told

    @classmethod
    def fault(cls) -> ApiError:
        """The answer to a fault in the code, of which nobody outside is told more."""
        return cls(500, "internal_error", "the endpoint met a fault; its log says more")


def responses(*statuses: int, refuses: type[ErrorBody] = ErrorBody) -> dict[int | str, dict[str, Any]]:
    """For FastAPI's `responses=`: these statuses, and those that any call under a key may have.

    Args:
        statuses: of answers that are no success.
        refuses: body of the answer to what does not fit; `RefusedBody` where a spec is taken.
    """
    found: dict[int | str, dict[str, Any]] = {status: _response(status) for status in sorted({*EVERYWHERE, *statuses})}
    found[400]["model"] = refuses
    return found


def _response(status: int) -> dict[str, Any]:
    described: dict[str, Any] = {"model": ErrorBody, "description": _MEANINGS[status]}
    if status in (429, 503):
        described["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    if status == 401:
        described["headers"] = {"WWW-Authenticate": {"description": "`Bearer`.", "schema": {"type": "string"}}}
    return described


def install(app: FastAPI) -> None:
    """Give every error of this application the one shape."""
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(RequestValidationError, _answer_unfit)
    app.add_exception_handler(WebSocketRequestValidationError, _answer_unfit)
    app.add_exception_handler(errors.SteerlineError, _answer_library)
    app.add_exception_handler(Exception, _answer_fault)


async def refuse(error: ApiError, scope: Scope, receive: Receive, send: Send) -> None:
    """End a connection that goes no further than a middleware."""
    if scope["type"] == "websocket":
        await close(WebSocket(scope, receive, send), error)
    else:
        await error.response()(scope, receive, send)


async def close(websocket: WebSocket, error: ApiError) -> None:
    """End a WebSocket with the reason: before `accept` this is an HTTP 403, afterwards a close frame."""
    reason = error.message.encode()[:_LONGEST_REASON_BYTES].decode(errors="ignore")
    await websocket.close(_POLICY_VIOLATION if error.status_code < 500 else _INTERNAL_ERROR, reason)


async def _answer(connection: HTTPConnection, error: ApiError) -> JSONResponse | None:
    if isinstance(connection, WebSocket):
        await close(connection, error)
        return None
    return error.response()


async def _answer_http(connection: Request, error: Exception) -> Any:
    if isinstance(error, ApiError):
        return await _answer(connection, error)
    assert isinstance(error, HTTPException)
    named = {
        404: ("not_found", f"there is nothing at {connection.scope['path']}; /openapi.json lists what there is"),
        405: ("method_not_allowed", "this path takes another method; /openapi.json says which"),
    }
    code, message = named.get(error.status_code, ("http_error", str(error.detail)))
    answer = ApiError(error.status_code, code, message)
    answer.headers = {**(error.headers or {}), **(answer.headers or {})}
    return await _answer(connection, answer)


async def _answer_unfit(connection: Request, error: Exception) -> Any:
    assert isinstance(error, RequestValidationError | WebSocketRequestValidationError)
    problems = error.errors()
    body = error.body if isinstance(error, RequestValidationError) else None
    found = [FieldProblem(path=_place(problem, body), message=problem["msg"]) for problem in problems]
    return await _answer(connection, ApiError.unfit(found, listed=_lists_problems(connection)))


def _lists_problems(connection: HTTPConnection) -> bool:
    """Whether the route takes a spec; the answers of OpenAI's own routes hold what OpenAI's hold."""
    route = connection.scope.get("route")
    return isinstance(route, APIRoute) and route.responses.get(400, {}).get("model") is RefusedBody


def _place(problem: Mapping[str, Any], body: Any) -> str:
    """Dotted path of a field, as its sender wrote it: without names of types, which stand there for unions.

    `body`, `query` and the like say where a field travels, which the caller knows.
    """
    source, *parts = problem["loc"]
    if source != "body":
        return ".".join(map(str, parts))
    path: list[str] = []
    for part in parts:
        if (isinstance(body, dict) and part in body) or (isinstance(body, list) and isinstance(part, int)):
            body = body[part]
        elif not (problem["type"] == "missing" and part is parts[-1]):
            continue
        path.append(str(part))
    return ".".join(path)


async def _answer_library(connection: Request, error: Exception) -> Any:
    assert isinstance(error, errors.SteerlineError)
    answer = ApiError.of(error)
    if answer.status_code >= 500:
        log.error("a call failed: %s %r", connection.scope.get("method", ""), connection.scope["path"], exc_info=error)
    return await _answer(connection, answer)


async def _answer_fault(connection: Request, error: Exception) -> Any:  # the server logs what was raised  # noqa: ARG001
    return await _answer(connection, ApiError.fault())
