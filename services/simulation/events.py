"""The events of a simulation as they happen: lines of JSON, server-sent events, or a WebSocket.

The number of an event is its id everywhere, so that a reader that was cut off goes on behind the last one it has. A
reader that goes away stops its stream and nothing else.

Between this application and a slow reader there may be a proxy that takes in whatever it is given, as Serve's does. So
an answer ends after a while, without an event `end`, and the reader comes again, as browsers do by themselves.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import aclosing
from typing import Annotated, Any, Literal, get_args

from fastapi import APIRouter, Depends, Header, Query, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse

from services.http.access import SOCKET_PROTOCOL, Access
from services.http.errors import ApiError, responses
from services.http.limits import stream_slot
from services.http.standing import while_good
from services.simulation.desk import Desk, Sim
from services.simulation.forms import AnswerForm
from services.simulation.listing import Reader
from services.simulation.people import answer
from steerline.config.simulation_agents import AGENT_ID
from steerline.serving.following import Following, Line, Part, Standing, Wanted
from steerline.simulation.event import EventKind

SSE = "text/event-stream"
LINES = "application/x-ndjson"
RETRY_MS = 1000
"""What a reader waits before it comes again."""
MOST_BYTES = 8 << 20
"""Of events in one answer."""
_SENT_BYTES = 1 << 15
_COME_AGAIN = 1013
KINDS = frozenset(get_args(EventKind))

After = Annotated[int, Query(ge=0, le=2**53, description="Number of the last event that the reader has.")]
Kinds = Annotated[list[str] | None, Query(description="Only these kinds; several, or one text with commas.")]
Agent = Annotated[str | None, Query(pattern=AGENT_ID, description="Only events of this agent.")]


def routes(desk: Desk, following: Following) -> APIRouter:
    """The routes."""
    router = APIRouter()

    @router.get(
        "/v1/simulations/{sim}/events",
        response_class=StreamingResponse,
        dependencies=[Depends(stream_slot)],
        responses={
            **responses(404, 503),
            200: {
                "description": "Lines of JSON, or with `Accept: text/event-stream` events whose `id` is their number: "
                "first those that are there, then those that come, at last an event `end`; or an event `error` (a "
                "line with `error`) when the key is revoked or expires meanwhile, or the endpoint meets a fault.",
                "content": {LINES: {"schema": {"type": "string"}}, SSE: {"schema": {"type": "string"}}},
            },
        },
        summary="What happens in it, and has happened",
    )
    async def events(
        request: Request,
        sim: Sim,
        principal: Reader,
        after: After = 0,
        kinds: Kinds = None,
        agent: Agent = None,
        follow: Annotated[bool, Query(description="Lines too go on with the events that come.")] = False,
        last_event_id: Annotated[
            str | None, Header(pattern=r"^\d{1,15}$", description="As `after`, which it precedes.")
        ] = None,
    ) -> StreamingResponse:
        await asyncio.to_thread(desk.find, sim)
        wanted = Wanted(_kinds(kinds), agent)
        after = after if last_event_id is None else int(last_event_id)
        is_sse = SSE in request.headers.get("accept", "")
        how = following.follow if is_sse or follow else following.so_far
        parts = while_good(how(sim, after, wanted), principal)
        if is_sse:
            # Proxies that gather an answer would hold events back.
            headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
            return StreamingResponse(_sse(parts), media_type=SSE, headers=headers)
        return StreamingResponse(_lines(parts), media_type=LINES)

    @router.websocket("/v1/simulations/{sim}/ws")
    async def socket(
        websocket: WebSocket,
        sim: Sim,
        principal: Reader,
        _: Annotated[None, Depends(stream_slot)],
        after: After = 0,
        kinds: Kinds = None,
        agent: Agent = None,
    ) -> None:
        await asyncio.to_thread(desk.find, sim)
        wanted = Wanted(_kinds(kinds), agent)
        offered = websocket.scope.get("subprotocols", ())
        await websocket.accept(SOCKET_PROTOCOL if SOCKET_PROTOCOL in offered else None)
        await _Socket(websocket, desk, sim).serve(while_good(following.follow(sim, after, wanted), principal))

    return router


def _kinds(kinds: list[str] | None) -> tuple[str, ...]:
    named = tuple(part.strip() for text in kinds or () for part in text.split(",") if part.strip())
    unknown = next((kind for kind in named if kind not in KINDS), None)
    if unknown is not None:
        known = ", ".join(sorted(KINDS))
        raise ApiError(400, "invalid_request", f"there are no events `{unknown}`; expected: {known}", param="kinds")
    return named


async def _sse(parts: AsyncGenerator[Part, None]) -> AsyncIterator[bytes]:
    yield b"retry: %d\n\n" % RETRY_MS
    left = MOST_BYTES
    try:
        async with aclosing(parts):
            async for part in parts:
                match part:
                    case None:
                        yield b": still here\n\n"
                    case Standing():
                        yield b"event: end\ndata: %s\n\n" % _end(part)
                    case _:
                        for text in _gathered(b"id: %d\ndata: %s\n\n" % (line.seq, line.json) for line in part):
                            yield text
                            left -= len(text)
                        if left < 0:
                            return
    except Exception as error:  # noqa: BLE001  whatever it is, the reader is told in the way that it can read
        yield b"event: error\ndata: %s\n\n" % json.dumps(ApiError.of_stream(error).body()).encode()


async def _lines(parts: AsyncGenerator[Part, None]) -> AsyncIterator[bytes]:
    left = MOST_BYTES
    try:
        async with aclosing(parts):
            async for part in parts:
                match part:
                    case None:
                        # An empty line is none, and says that the connection lives.
                        yield b"\n"
                    case Standing():
                        return
                    case _:
                        for text in _gathered(line.json + b"\n" for line in part):
                            yield text
                            left -= len(text)
                        if left < 0:
                            return
    except Exception as error:  # noqa: BLE001  whatever it is, the reader is told in the way that it can read
        yield json.dumps(ApiError.of_stream(error).body()).encode() + b"\n"


def _gathered(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Pieces in texts of some length, each of which waits until the one before it is on its way."""
    text = b""
    for piece in pieces:
        text += piece
        if len(text) >= _SENT_BYTES:
            yield text
            text = b""
    if text:
        yield text


def _end(standing: Standing) -> bytes:
    fields = {"status": standing.status, "reason": standing.reason, "seq": standing.seq, "hash": standing.hash}
    return json.dumps(fields).encode()


class _Answer(AnswerForm):
    """What comes in over a WebSocket."""

    type: Literal["answer"]
    question: str


class _Socket:
    """One WebSocket: events go out, answers of people come in.

    Out: `{"type": "event", "event": {...}}`, `{"type": "heartbeat"}`, `{"type": "end", ...}`,
    `{"type": "answered", "question": "..."}`, `{"type": "error", "error": {...}}`.
    In: `{"type": "answer", "question": "...", "text": "..."}`.
    """

    def __init__(self, websocket: WebSocket, desk: Desk, sim: str) -> None:
        self._websocket = websocket
        self._desk = desk
        self._sim = sim
        self._sending = asyncio.Lock()

    async def serve(self, parts: AsyncGenerator[Part, None]) -> None:
        """Until the simulation ends, the other side goes, or its key does."""
        sender = asyncio.create_task(self._send_events(parts))
        receiver = asyncio.create_task(self._receive())
        try:
            done, _ = await asyncio.wait({sender, receiver}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            if sender in done:
                await self._websocket.close(*sender.result())
        except WebSocketDisconnect:
            return
        finally:
            for task in (sender, receiver):
                task.cancel()
            await asyncio.gather(sender, receiver, return_exceptions=True)

    async def _send_events(self, parts: AsyncGenerator[Part, None]) -> tuple[int, str]:
        """Until the end, or for so long as one connection goes; the code and the reason to close it with.

        Raises:
            ApiError: its key goes no longer, or a fault ends it, as the other side has been told.
            WebSocketDisconnect: the other side has gone.
        """
        left = MOST_BYTES
        try:
            async with aclosing(parts):
                async for part in parts:
                    match part:
                        case None:
                            await self._send({"type": "heartbeat"})
                        case Standing():
                            await self._send({"type": "end", **json.loads(_end(part))})
                        case _:
                            for line in part:
                                await self._send_event(line)
                            left -= sum(len(line.json) for line in part)
                            if left < 0:
                                return _COME_AGAIN, "come again behind the last event"
        except WebSocketDisconnect:
            raise
        except Exception as error:
            raise await self._tell(error) from error
        return 1000, ""

    async def _receive(self) -> None:
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message["code"])
            try:
                # Bytes are no text, and no message either.
                await self._send(await self._answered(message.get("text") or ""))
            except WebSocketDisconnect:
                raise
            except Exception as error:
                told = await self._tell(error)
                if told.status_code == 500:
                    raise told from error

    async def _answered(self, text: str) -> dict[str, Any]:
        # A message is a call: it counts, and the key may have been revoked since the connection began.
        access: Access = self._websocket.app.state.access
        access.admit(self._websocket, "simulations.write")
        most = self._desk.parts.spec.limits.body_bytes
        if len(text) > most:
            raise ApiError(413, "body_too_long", f"a message may have {most} characters here (`limits.body_bytes`)")
        try:
            said = _Answer.model_validate(json.loads(text))
        except (ValueError, RecursionError) as error:
            shape = '{"type": "answer", "question": "...", "text": "..."}'
            raise ApiError(400, "invalid_request", f"this is no message; expected: {shape}") from error
        await answer(self._desk, self._sim, said.question, said.text)
        return {"type": "answered", "question": said.question}

    async def _send_event(self, line: Line) -> None:
        async with self._sending:
            await self._websocket.send_text('{"type":"event","event":' + line.json.decode() + "}")

    async def _tell(self, error: Exception) -> ApiError:
        told = ApiError.of_stream(error)
        await self._send({"type": "error", **told.body()})
        return told

    async def _send(self, fields: dict[str, Any]) -> None:
        async with self._sending:
            await self._websocket.send_text(json.dumps(fields))
