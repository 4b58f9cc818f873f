"""Any server with OpenAI's interface, through httpx."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
from pydantic import ValidationError

from steerline.config.inference import OpenAIBackendSpec
from steerline.errors import InferenceError
from steerline.inference.backends.openai_answer import Answer, Chunk, ending
from steerline.inference.request import (
    BackendLimits,
    Delta,
    Failure,
    GenRequest,
    GenResult,
    TokenLogprob,
    Usage,
)

_BUSY = {429, 503, 529}
_UNAVAILABLE = {500, 502, 504}
_SHOWN = 300  # characters of a server's message
_STEERLESS = Failure("refused", "this server does not steer (`steering: true` says that it does)")


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

    async def stream(self, request: GenRequest) -> AsyncGenerator[Delta, None]:
        """The pieces of one answer, as the server sends them. Closing the generator closes its connection."""
        if self._refuses(request):
            yield _failed(_STEERLESS, 0.0)
            return
        started = time.monotonic()
        answer = _Pieces()
        body = self._body(request) | {"stream": True, "stream_options": {"include_usage": True}}
        try:
            async with self._client.stream("POST", _path(request), json=body) as response:
                if response.status_code != httpx.codes.OK:
                    await response.aread()
                    yield _failed(_failure(response), time.monotonic() - started)
                    return
                lines = response.aiter_lines()
                while (line := await _next(lines, started + self._spec.timeout_s)) is not None:
                    delta = answer.read(line)
                    if delta is not None:
                        yield delta
        except (TimeoutError, httpx.TimeoutException, httpx.TransportError) as error:
            yield _failed(self._interrupted(error), time.monotonic() - started)
            return
        yield answer.last(time.monotonic() - started)

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    def _refuses(self, request: GenRequest) -> bool:
        return request.steering is not None and not self._spec.steering

    async def _ask(self, request: GenRequest) -> GenResult:
        if self._refuses(request):
            return GenResult.failed(_STEERLESS)
        started = time.monotonic()
        try:
            # httpx limits the pauses between bytes; this is the whole time.
            async with asyncio.timeout(self._spec.timeout_s):
                response = await self._client.post(_path(request), json=self._body(request))
        except (TimeoutError, httpx.TimeoutException, httpx.TransportError) as error:
            return GenResult.failed(self._interrupted(error), time.monotonic() - started)
        seconds = time.monotonic() - started
        if response.status_code != httpx.codes.OK:
            return GenResult.failed(_failure(response), seconds)
        return _result(response, seconds)

    def _interrupted(self, error: Exception) -> Failure:
        if isinstance(error, TimeoutError | httpx.TimeoutException):
            return Failure("timeout", f"no answer within {self._spec.timeout_s:g} s")
        return Failure("unavailable", f"the connection failed: {type(error).__name__} {error}".rstrip())

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
        if request.top_logprobs is not None:
            plain = request.prompt is not None
            body |= (
                {"logprobs": request.top_logprobs}
                if plain
                else {"logprobs": True, "top_logprobs": request.top_logprobs}
            )
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
        answer = Answer.model_validate_json(response.content)
    except ValidationError as error:
        return GenResult.failed(_other_form(error), seconds)
    choice = answer.choices[0]
    end, usage = ending(choice.finish_reason), answer.usage.usage()
    if isinstance(end, Failure):
        return GenResult.failed(end, seconds, usage)
    return GenResult(choice.content, end, usage, seconds, logprobs=choice.told)


def _other_form(error: ValidationError) -> Failure:
    first = error.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"]))
    return Failure("refused", f"the server's answer has another form: {place} {first['msg']}".strip())


def _path(request: GenRequest) -> str:
    return "completions" if request.prompt is not None else "chat/completions"


def _failed(failure: Failure, seconds: float) -> Delta:
    return Delta("", (), GenResult.failed(failure, seconds))


async def _next(lines: AsyncIterator[str], deadline: float) -> str | None:
    """The next line, by a time of the monotonic clock; none at the end."""
    async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
        return await anext(lines, None)


class _Pieces:
    """An answer while it comes, as server-sent events."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._logprobs: list[TokenLogprob] = []
        self._usage = Usage()
        self._reason: str | None = None
        self._failure: Failure | None = None
        self._done = False

    def read(self, line: str) -> Delta | None:
        """A piece, where this line has one."""
        if not line.startswith("data:") or self._failure is not None:
            return None  # a comment, an event's name, the end of an event
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            self._done = True
            return None
        try:
            chunk = Chunk.model_validate_json(data)
        except ValidationError as error:
            self._failure = _other_form(error)
            return None
        if chunk.error is not None:
            said = " ".join(str(chunk.error.get("message", chunk.error)).split())[:_SHOWN]
            self._failure = Failure("unavailable", f"the server broke off: {said}")
        if chunk.usage is not None:
            self._usage = chunk.usage.usage()
        if not chunk.choices:
            return None
        choice = chunk.choices[0]
        self._reason = choice.finish_reason or self._reason
        self._text.append(choice.content)
        self._logprobs += choice.told
        return Delta(choice.content, choice.told) if choice.content or choice.told else None

    def last(self, seconds: float) -> Delta:
        """The piece with the result."""
        end = self._failure or ending(self._reason)
        if self._reason is None and not self._done and not isinstance(end, Failure):
            end = Failure("unavailable", "the server's answer ended before its end")
        if isinstance(end, Failure):
            return Delta("", (), GenResult.failed(end, seconds, self._usage))
        text = "".join(self._text)
        return Delta("", (), GenResult(text, end, self._usage, seconds, logprobs=tuple(self._logprobs)))
