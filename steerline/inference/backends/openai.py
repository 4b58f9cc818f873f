"""Any server with OpenAI's interface, through httpx."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
from pydantic import BaseModel, Field, ValidationError

from steerline.config.inference import OpenAIBackendSpec
from steerline.errors import InferenceError
from steerline.inference.request import BackendLimits, Failure, GenRequest, GenResult, Usage

_BUSY = {429, 503, 529}
_UNAVAILABLE = {500, 502, 504}
_SHOWN = 300  # characters of a server's message


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message | None = None
    text: str | None = None
    finish_reason: str | None = None


class _CachedTokens(BaseModel):
    cached_tokens: int | None = None


class _Used(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _CachedTokens | None = None


class _Answer(BaseModel):
    """What is read of an answer; whatever else a server sends is passed over."""

    choices: list[_Choice] = Field(min_length=1)
    usage: _Used = _Used()


class OpenAIBackend:
    """One HTTP call for each request. What a server turns away for the moment comes back as a failure to repeat.

    Args:
        spec: where, which model, which key.
        transport: in place of the network, for tests.

    Raises:
        InferenceError: the key is not where the spec says.
    """

    def __init__(self, spec: OpenAIBackendSpec, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._spec = spec
        key = _key(spec)
        self._client = httpx.AsyncClient(
            base_url=spec.url.rstrip("/") + "/",
            headers={} if key is None else {"Authorization": f"Bearer {key}"},
            timeout=httpx.Timeout(spec.timeout_s, pool=None),
            limits=httpx.Limits(max_connections=spec.max_in_flight, max_keepalive_connections=spec.max_in_flight),
            transport=transport,
        )

    @property
    def limits(self) -> BackendLimits:
        """What `generate` takes: one request a call, so that none waits for the slowest of a batch."""
        return BackendLimits(max_batch=1, in_flight=self._spec.max_in_flight, adaptive=True)

    async def generate(self, requests: Sequence[GenRequest]) -> list[GenResult]:
        """One answer or failure for each request."""
        return list(await asyncio.gather(*map(self._ask, requests)))

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    async def _ask(self, request: GenRequest) -> GenResult:
        if request.steering is not None and not self._spec.steering:
            return GenResult.failed(
                Failure("refused", "this server does not steer (`steering: true` says that it does)")
            )
        started = time.monotonic()
        path = "completions" if request.prompt is not None else "chat/completions"
        try:
            # httpx limits the pauses between bytes; this is the whole time.
            async with asyncio.timeout(self._spec.timeout_s):
                response = await self._client.post(path, json=self._body(request))
        except (TimeoutError, httpx.TimeoutException):
            failure = Failure("timeout", f"no answer within {self._spec.timeout_s:g} s")
            return GenResult.failed(failure, time.monotonic() - started)
        except httpx.TransportError as error:
            failure = Failure("unavailable", f"the connection failed: {type(error).__name__} {error}".rstrip())
            return GenResult.failed(failure, time.monotonic() - started)
        seconds = time.monotonic() - started
        if response.status_code != httpx.codes.OK:
            return GenResult.failed(_failure(response), seconds)
        return _result(response, seconds)

    def _body(self, request: GenRequest) -> dict[str, Any]:
        sampling = request.sampling
        body: dict[str, Any] = {
            "model": self._spec.model,
            "temperature": sampling.temperature,
            "max_tokens": sampling.max_tokens,
        }
        if request.prompt is not None:
            body["prompt"] = request.prompt
        else:
            body["messages"] = request.canonical["messages"]
        if sampling.temperature > 0:
            body |= {"top_p": sampling.top_p, "seed": request.seed}
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if request.response_schema is not None:
            schema = {"name": "answer", "schema": dict(request.response_schema), "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        if request.steering is not None:
            body["steering"] = request.canonical["steering"]
        return body


def _key(spec: OpenAIBackendSpec) -> str | None:
    if spec.key_env is not None:
        key = os.environ.get(spec.key_env, "").strip()
        where = f"environment variable {spec.key_env}"
    elif spec.key_file is not None:
        path = Path(spec.key_file).expanduser()
        key = path.read_text().strip() if path.is_file() else ""
        where = str(path)
    else:
        return None
    if not key:
        raise InferenceError("there is no key for the server", where=where, fix="put the key there, and only there")
    return key


def _failure(response: httpx.Response) -> Failure:
    code = response.status_code
    said = _message(response)
    what = f"the server answered {code}" + (f": {said}" if said else "")
    if code in _BUSY:
        return Failure("busy", what, _retry_after(response.headers))
    if code in _UNAVAILABLE:
        return Failure("unavailable", what)
    if code == httpx.codes.REQUEST_TIMEOUT:
        return Failure("timeout", what)
    too_long = "context_length" in response.text or "maximum context" in response.text
    return Failure("too_long" if too_long else "refused", what)


def _message(response: httpx.Response) -> str:
    try:
        error = response.json()["error"]
        text = str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError):
        text = response.text
    return " ".join(text.split())[:_SHOWN]


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, which the header gives as such or as a date."""
    value = headers.get("retry-after", "").strip()
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


def _result(response: httpx.Response, seconds: float) -> GenResult:
    try:
        answer = _Answer.model_validate_json(response.content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        failure = Failure("refused", f"the server's answer has another form: {place} {first['msg']}".strip())
        return GenResult.failed(failure, seconds)
    choice = answer.choices[0]
    if choice.finish_reason == "content_filter":
        return GenResult.failed(Failure("refused", "the server's filter held the answer back"), seconds)
    text = choice.text if choice.message is None else choice.message.content
    cached = answer.usage.prompt_tokens_details
    usage = Usage(
        answer.usage.prompt_tokens, answer.usage.completion_tokens, 0 if cached is None else cached.cached_tokens or 0
    )
    return GenResult(text or "", "length" if choice.finish_reason == "length" else "stop", usage, seconds)
