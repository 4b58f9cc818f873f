"""Events as they happen: each once, in order, to any number of readers, none of whom costs the simulation anything."""

from __future__ import annotations

import asyncio
import json
import socket
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from services.http import standing
from services.http.access import SOCKET_KEY_PREFIX, SOCKET_PROTOCOL
from steerline.config.simulation import SimulationSpec
from steerline.errors import StoreAwayError
from steerline.simulation.event import Event, EventDraft, seal
from steerline.simulation.game import Game
from steerline.simulation.runner import run
from steerline.simulation.store.base import Control, Store
from steerline.simulation.store.sqlite import SqliteStore
from tests.unit.services.simulation_service import LocalHosts, application, game, listening, parts_of
from tests.unit.simulation.worlds import spec

PLAYED = spec("conditional", "punisher", punishment=True)
SSE = {"Accept": "text/event-stream"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = SqliteStore(tmp_path / "simulations.db", sync=False)
    yield opened
    opened.close()


@pytest.fixture
def address(store: Store, tmp_path: Path) -> Iterator[str]:
    with listening(application(parts_of(store, tmp_path, LocalHosts()))) as address:
        yield address


def kept(store: Store, sim: str = "s", *, played: bool = True, of: SimulationSpec = PLAYED) -> list[Event]:
    store.create(sim, of.model_dump(mode="json"), Game.of(of).fingerprint)
    store.enlist(sim)
    if played:
        run(of, store=store, sim=sim)
    return list(store.events(sim))


def sse(text: str) -> list[dict[str, str]]:
    """The blocks of an event stream."""
    blocks = [block for block in text.split("\n\n") if block]
    return [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]


def test_lines_are_the_log_and_their_hashes_hold(store: Store, address: str) -> None:
    events = kept(store)
    lines = httpx.get(f"{address}/v1/simulations/s/events").text.splitlines()
    assert [json.loads(line)["hash"] for line in lines] == [event.hash for event in events]
    some = httpx.get(f"{address}/v1/simulations/s/events?kinds=action.taken,metric.recorded&after=3&agent=a").text
    assert {(json.loads(line)["kind"], json.loads(line)["agent"]) for line in some.splitlines()} == {
        ("action.taken", "a")
    }
    refused = httpx.get(f"{address}/v1/simulations/s/events?kinds=weather")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "kinds")


def test_a_stream_replays_then_ends_with_how_it_ended(store: Store, address: str) -> None:
    events = kept(store)
    blocks = sse(httpx.get(f"{address}/v1/simulations/s/events", headers=SSE).text)
    assert "retry" in blocks[0]
    assert [int(block["id"]) for block in blocks[1:-1]] == [event.seq for event in events]
    assert blocks[-1]["event"] == "end"
    end = json.loads(blocks[-1]["data"])
    assert (end["status"], end["hash"]) == ("ended", events[-1].hash)


def test_a_reader_that_comes_again_gets_each_event_once(store: Store, address: str) -> None:
    events = kept(store)
    seen: list[int] = []
    while len(seen) < len(events):
        headers = {**SSE, **({"Last-Event-ID": str(seen[-1])} if seen else {})}
        with httpx.stream("GET", f"{address}/v1/simulations/s/events", headers=headers) as answer:
            fresh = [line for line in answer.iter_lines() if line.startswith("id: ")][:7]
        seen += [int(line.removeprefix("id: ")) for line in fresh]
    assert seen == [event.seq for event in events]


def test_a_stream_follows_what_comes(store: Store, address: str) -> None:
    kept(store, played=False)
    with httpx.stream("GET", f"{address}/v1/simulations/s/events", headers=SSE, timeout=20) as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("retry")
        run(PLAYED, store=store, sim="s", ticks=1)
        first = next(line for line in lines if line.startswith("data"))
        assert json.loads(first.removeprefix("data: "))["kind"] == "sim.created"
        run(PLAYED, store=store, sim="s")
        *_, last = (line for line in lines if line.startswith("data"))
    assert json.loads(last.removeprefix("data: "))["status"] == "ended"


def test_a_reader_that_goes_away_leaves_the_others_and_the_simulation_alone(store: Store, address: str) -> None:
    kept(store, played=False)
    path = f"{address}/v1/simulations/s/events"
    with httpx.stream("GET", path, headers=SSE, timeout=20) as stays:
        lines = stays.iter_lines()
        with httpx.stream("GET", path, headers=SSE, timeout=20) as goes:
            run(PLAYED, store=store, sim="s", ticks=1)
            assert next(line for line in goes.iter_lines() if line.startswith("id"))
        run(PLAYED, store=store, sim="s")
        assert sum(line.startswith("id") for line in lines) == len(list(store.events("s")))


def long_log(store: Store, text_bytes: int, count: int) -> None:
    of = SimulationSpec.model_validate(game("conditional", "conditional"))
    kept(store, "long", played=False, of=of)
    lease = store.acquire("long", "me", 60.0)
    seq, last = 0, "0" * 64
    for _ in range(count // 100):
        drafts = [EventDraft("resolve", "env.changed", {"text": "x" * text_bytes}) for _ in range(100)]
        events = list(seal(drafts, 0, seq, last, 0.0))
        store.append(lease, events)
        seq, last = events[-1].seq, events[-1].hash


def test_slow_readers_cost_bounded_memory(store: Store, address: str) -> None:
    """Ten readers of 20 MB of events who read nothing: what they hold is pages and buffers, not the log."""
    long_log(store, 10_000, 2000)
    place = urlsplit(address)
    assert place.hostname is not None
    tracemalloc.start()
    sockets = [socket.create_connection((place.hostname, place.port or 80)) for _ in range(10)]
    try:
        for one in sockets:
            one.sendall(
                b"GET /v1/simulations/long/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n"
            )
            assert one.recv(20).startswith(b"HTTP/1.1 200")
        settled, before = 0, -1
        while settled < 5:  # until nothing moves any more
            time.sleep(0.05)
            now = tracemalloc.get_traced_memory()[0]
            settled, before = (settled + 1, now) if abs(now - before) < 50_000 else (0, now)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
        for one in sockets:
            one.close()


def test_a_log_that_is_longer_than_an_answer_comes_whole_to_who_comes_again(store: Store, address: str) -> None:
    long_log(store, 10_000, 1200)
    store.set_status(store.acquire("long", "me", 60.0), "ended", "")
    for headers in ({}, SSE):
        seen: list[int] = []
        answers = 0
        while not seen or seen[-1] < 1200:
            query = {"after": seen[-1]} if seen else {}
            text = httpx.get(f"{address}/v1/simulations/long/events", params=query, headers=headers, timeout=20).text
            assert len(text) < 10_000_000
            lines = [line.removeprefix("data: ") for line in text.splitlines()]
            seen += [json.loads(line)["seq"] for line in lines if line.startswith("{") and '"prev_hash"' in line]
            answers += 1
        assert seen == list(range(1, 1201))
        assert answers == 2


def test_heartbeats_keep_a_quiet_stream_alive(store: Store) -> None:
    from steerline.serving.following import Following

    kept(store, played=False)

    async def first_two() -> list[Any]:
        following = Following(store, heartbeat_s=0.01)
        parts = following.follow("s")
        return [await anext(parts), await anext(parts)]

    assert asyncio.run(first_two()) == [None, None]


def test_a_socket_sends_events_and_takes_answers(tmp_path: Path, store: Store) -> None:
    from steerline.serving.keys import KeyBook

    parts = parts_of(store, tmp_path, LocalHosts(), access={"required": True})
    key, _ = KeyBook(tmp_path / "keys.json").create("person", ("simulations.read", "simulations.write"))
    seat = SimulationSpec.model_validate(game({"kind": "human"}, "conditional", rounds=1))
    kept(store, of=seat)
    with listening(application(parts)) as address:
        url = f"{address.replace('http', 'ws')}/v1/simulations/s/ws"
        offered: list[Any] = [SOCKET_PROTOCOL, f"{SOCKET_KEY_PREFIX}{key}"]
        with connect(url, subprotocols=offered) as line:
            assert line.subprotocol == SOCKET_PROTOCOL
            assert json.loads(line.recv())["event"]["kind"] == "sim.created"
            long = json.dumps({"type": "answer", "question": "0.0.a", "text": "x" * 20_001})
            line.send("x" * 1_048_577)
            assert json.loads(line.recv())["error"]["code"] == "body_too_long"
            no_text = '{"type": "answer", "question": "0.0.a", "text": "\\ud800"}'
            for unfit in ("not json", b"\xff", "[" * 100_000, "5", '{"type": "answer"}', long, no_text):
                line.send(unfit)
                assert json.loads(line.recv())["error"]["code"] == "invalid_request"
            line.send(json.dumps({"type": "answer", "question": "0.0.a", "text": "ANSWER: 5"}))
            assert json.loads(line.recv()) == {"type": "answered", "question": "0.0.a"}
            run(seat, store=store, sim="s")
            received = [json.loads(message) for message in line]
        assert received[-1]["type"] == "end"
        taken = [
            m["event"] for m in received[:-1] if m["event"]["kind"] == "action.taken" and m["event"]["agent"] == "a"
        ]
        assert [event["payload"]["payload"] for event in taken] == [5]
        with pytest.raises(Exception, match="403"):
            connect(url, subprotocols=[SOCKET_PROTOCOL])  # type: ignore[list-item]


@pytest.mark.timeout(60)  # streams that do not end show signs of life for ever
def test_streams_of_a_key_that_is_revoked_end_and_say_why(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from steerline.serving.keys import KeyBook

    monkeypatch.setattr(standing, "CHECK_EVERY_S", 0.02)
    parts = parts_of(store, tmp_path, LocalHosts(), access={"required": True})
    book = KeyBook(tmp_path / "keys.json")
    gone, kept_on = (book.create(name, ("simulations.read",))[0] for name in ("gone", "kept on"))
    seat = SimulationSpec.model_validate(game({"kind": "human"}, "conditional", rounds=1))
    kept(store, of=seat)
    with listening(application(parts)) as address:
        events, by = f"{address}/v1/simulations/s/events", {"Authorization": f"Bearer {gone}"}
        url = f"{address.replace('http', 'ws')}/v1/simulations/s/ws"
        with (
            httpx.stream("GET", events, headers={**SSE, **by}, timeout=20) as sent,
            httpx.stream("GET", events, params={"follow": "true"}, headers=by, timeout=20) as lines,
            httpx.stream("GET", events, headers={**SSE, "Authorization": f"Bearer {kept_on}"}, timeout=20) as other,
            connect(url, additional_headers=by) as line,
        ):
            others = other.iter_lines()
            assert next(others).startswith("retry")
            book.revoke("gone")
            *_, event, data, _ = sent.iter_lines()
            assert (event, json.loads(data.removeprefix("data: "))["error"]["code"]) == (
                "event: error",
                "invalid_api_key",
            )
            assert json.loads([line for line in lines.iter_lines() if line][-1])["error"]["code"] == "invalid_api_key"
            messages: list[dict[str, Any]] = []
            with pytest.raises(ConnectionClosedError):
                messages.extend(json.loads(message) for message in line)
            assert messages[-1]["error"]["code"] == "invalid_api_key"
            assert line.close_code == 1008
            # Those of others go on.
            store.post("s", Control("stop", "stop", {}))
            run(seat, store=store, sim="s")
            assert "event: end" in list(others)


@pytest.mark.parametrize(
    ("asked", "fault", "code"),
    [
        ("events", StoreAwayError("the simulation store does not answer"), "store"),
        ("events", RuntimeError("a secret"), "internal_error"),
        ("find", RuntimeError("a secret"), "internal_error"),
    ],
)
@pytest.mark.timeout(60)
def test_streams_that_a_fault_ends_say_so(
    store: Store, address: str, monkeypatch: pytest.MonkeyPatch, asked: str, fault: Exception, code: str
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise fault

    kept(store)
    monkeypatch.setattr(store, asked, broken)
    path = f"{address}/v1/simulations/s/events"
    *_, last = sse(httpx.get(path, headers=SSE, timeout=20).text)
    assert (last["event"], json.loads(last["data"])["error"]["code"]) == ("error", code)
    for follow in ("false", "true"):
        last_line = httpx.get(path, params={"follow": follow}, timeout=20).text.splitlines()[-1]
        assert json.loads(last_line)["error"]["code"] == code
    with connect(f"{address.replace('http', 'ws')}/v1/simulations/s/ws") as line:
        told = json.loads(line.recv(20))["error"]
        assert (told["code"], "secret" in told["message"]) == (code, False)
        with pytest.raises(ConnectionClosedError) as closed:
            line.recv(20)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1011, told["message"])


@pytest.mark.timeout(60)
def test_an_answer_over_a_socket_at_which_the_endpoint_fails_is_told_so(
    store: Store, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def error_of(sent: object) -> dict[str, str]:
        line.send(json.dumps(sent))
        error: dict[str, str] = next(told["error"] for told in map(json.loads, line) if told["type"] == "error")
        return error

    def broken(_: str) -> None:
        raise fault

    kept(store, of=SimulationSpec.model_validate(game({"kind": "human"}, "conditional", rounds=1)))
    said = {"type": "answer", "question": "0.0.a", "text": "ANSWER: 5"}
    with connect(f"{address.replace('http', 'ws')}/v1/simulations/s/ws") as line:
        assert json.loads(line.recv(20))["type"] == "event"
        monkeypatch.setattr(store, "hosted", broken)
        fault: Exception = StoreAwayError("the simulation store does not answer")
        assert error_of(said)["code"] == "store"
        fault = RuntimeError("a secret")
        told = error_of(said)
        assert (told["code"], "secret" in told["message"]) == ("internal_error", False)
        with pytest.raises(ConnectionClosedError) as closed:
            line.recv(20)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1011, told["message"])


def test_answers_over_a_socket_count_and_need_a_key_that_is_still_good(tmp_path: Path, store: Store) -> None:
    from steerline.serving.keys import KeyBook

    parts = parts_of(store, tmp_path, LocalHosts(), access={"required": True})
    book = KeyBook(tmp_path / "keys.json")
    seat = SimulationSpec.model_validate(game({"kind": "human"}, "conditional", rounds=1))
    kept(store, of=seat)
    write, _ = book.create("busy", ("simulations.read", "simulations.write"), requests_per_minute=2)
    read, _ = book.create("reader", ("simulations.read",))
    gone, _ = book.create("gone", ("simulations.read", "simulations.write"))
    with listening(application(parts)) as address:
        for key, codes in (
            (write, ["invalid_request", "rate_limit_exceeded"]),
            (read, ["missing_scope"]),
            (gone, ["invalid_api_key"]),
        ):
            url = f"{address.replace('http', 'ws')}/v1/simulations/s/ws"
            with connect(url, additional_headers={"Authorization": f"Bearer {key}"}) as line:
                assert json.loads(line.recv())["type"] == "event"
                if key == gone:
                    book.revoke("gone")
                for code in codes:
                    line.send("{}")
                    assert json.loads(line.recv())["error"]["code"] == code
