"""A host plays what somebody wants played, holds nothing that stands still, and loses nothing when it dies."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from steerline.config.inference import ClientSpec
from steerline.config.simulation import SimulationSpec
from steerline.errors import StoreAwayError, TrackingError
from steerline.inference.request import Failure, GenRequest, GenResult
from steerline.serving import simulations
from steerline.serving.simulations import LEFT, MOST_DEATHS, RECORDED, TAKEN, HostLimits
from steerline.simulation import asking
from steerline.simulation.action import Action
from steerline.simulation.control import Controls
from steerline.simulation.rng import CounterRng
from steerline.simulation.runner import run
from steerline.simulation.scenario import Resolution, State
from steerline.simulation.scenarios.public_goods import PublicGoods
from steerline.simulation.store.base import Lease, Store
from steerline.simulation.store.memory import MemoryStore
from steerline.simulation.store.sqlite import SqliteStore
from tests.unit.serving.hosting import QUICK, host, is_idle, posted, status, until
from tests.unit.simulation.worlds import Server, drawn, llm, spec

GAME = spec(llm(), "conditional", "punisher", punishment=True)
SEAT = spec("conditional", {"kind": "human"})
PATIENT = replace(QUICK, lease_s=600.0)
"""No lease runs out, however long a busy machine leaves its owner without a turn."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = SqliteStore(tmp_path / "simulations.db", sync=False)
    yield opened
    opened.close()


class Records:
    """Remembers what it recorded; fails as often as asked."""

    def __init__(self, failures: int = 0) -> None:
        self.recorded: list[str] = []
        self._failures = failures

    def record(self, store: Store, sim: str) -> str:
        # The real one plays a simulation again, and may wait for a server: where no event loop runs.
        asyncio.run(asyncio.sleep(0))
        if self._failures:
            self._failures -= 1
            raise TrackingError("the server is away")
        self.recorded.append(sim)
        return f"runs/{sim}"


def kinds(store: Store, sim: str) -> list[str]:
    return [operation.kind for operation in store.operations(sim)]


def test_what_is_wanted_is_played_to_its_end_as_it_would_be_alone(store: Store) -> None:
    async def play() -> None:
        async with host(store) as one:
            for number in range(4):
                posted(store, f"s{number}", GAME)
            one.wake()
            await until(lambda: all(is_idle(store, f"s{n}") for n in range(4)))

    asyncio.run(play())
    alone = run(GAME, backends={"m": Server()})
    assert {store.find(f"s{n}").hash for n in range(4)} == {alone.hash}  # type: ignore[union-attr]
    assert status(store, "s0") == "ended"


def test_what_nobody_wants_is_left_alone(store: Store) -> None:
    posted(store, "wanted", GAME)
    store.create("only-kept", GAME.model_dump(mode="json"), "f" * 64)
    store.enlist("only-kept")

    async def play() -> None:
        async with host(store):
            await until(lambda: status(store, "wanted") == "ended")

    asyncio.run(play())
    assert status(store, "only-kept") == "created"


def host_that_gets(number: signal.Signals, after: int, path: Path, limits: HostLimits = QUICK) -> int:
    """A host in a process of its own, which gets a signal while a model gives its so-many-th answer; how it ended."""
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    answers = 0

    def answer(request: GenRequest) -> str:
        nonlocal answers
        answers += 1
        if answers == after:
            os.kill(os.getpid(), number)
        return drawn(request)

    async def play() -> None:
        told = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
        async with host(SqliteStore(path, sync=False), backends={"m": Server(answer, max_batch=1)}, limits=limits):
            await told.wait()

    asyncio.run(play())
    os._exit(0)


@pytest.mark.parametrize("after", [1, 5, 9])
def test_killing_a_host_loses_no_event_and_no_simulation(after: int, tmp_path: Path) -> None:
    path = tmp_path / "simulations.db"
    store, sims = SqliteStore(path, sync=False), [f"s{number}" for number in range(4)]
    for sim in sims:
        posted(store, sim, GAME)
    how = host_that_gets(signal.SIGKILL, after, path)
    assert os.WIFSIGNALED(how)
    assert os.WTERMSIG(how) == signal.SIGKILL
    assert any(status(store, sim) != "ended" for sim in sims)
    before = {sim: [event.hash for event in store.events(sim)] for sim in sims}

    async def go_on() -> None:
        async with host(store):
            await until(lambda: all(status(store, sim) == "ended" for sim in sims))

    asyncio.run(go_on())
    alone = run(GAME, backends={"m": Server()})
    for sim in sims:
        hashes = [event.hash for event in store.events(sim)]
        assert hashes[: len(before[sim])] == before[sim]
        assert hashes[-1] == alone.hash
    store.close()


def test_a_host_process_that_is_told_to_end_hands_over_long_before_its_leases_run_out(tmp_path: Path) -> None:
    path = tmp_path / "simulations.db"
    store = SqliteStore(path, sync=False)
    posted(store, "s", GAME)
    assert host_that_gets(signal.SIGTERM, 3, path, PATIENT) == 0
    assert status(store, "s") == "running"

    async def go_on() -> None:
        async with host(store, limits=PATIENT):
            await until(lambda: status(store, "s") == "ended")

    asyncio.run(go_on())
    assert store.find("s").hash == run(GAME, backends={"m": Server()}).hash  # type: ignore[union-attr]
    assert kinds(store, "s").count("handed_over") == 1
    store.close()


def test_a_simulation_that_kills_its_hosts_is_left_alone_until_somebody_asks(store: Store) -> None:
    posted(store, "deadly", GAME)
    for number in range(MOST_DEATHS):
        store.operate("deadly", TAKEN, {"by": f"host {number}", "ticks": 0})

    async def play() -> None:
        async with host(store) as one:
            await until(lambda: is_idle(store, "deadly"))
            assert status(store, "deadly") == "failed"
            assert "5 processes that played this simulation died in tick 0" in store.find("deadly").reason  # type: ignore[union-attr]
            store.want("deadly")
            one.wake()
            await until(lambda: status(store, "deadly") == "ended")

    asyncio.run(play())


def test_a_host_that_is_closed_in_a_tick_does_not_count_as_killed(store: Store) -> None:
    posted(store, "s", GAME)

    async def play_for_a_while() -> None:
        asked = asyncio.Event()

        class Stuck(Server):
            async def generate(self, requests: Sequence[GenRequest]) -> list[GenResult]:
                asked.set()
                return await asyncio.Future()

        async with host(store, backends={"m": Stuck()}, grace_s=0.0):
            await until(asked.is_set)

    for _ in range(MOST_DEATHS + 1):
        asyncio.run(play_for_a_while())
    assert status(store, "s") == "running"
    assert kinds(store, "s") == [TAKEN, LEFT] * (MOST_DEATHS + 1)


@pytest.mark.parametrize("error", [StoreAwayError("the disk is full"), sqlite3.OperationalError("no such table")])
def test_what_cannot_be_played_now_is_left_for_a_while_and_the_others_are_played(error: Exception) -> None:
    class Broken(MemoryStore):
        attempts = 0

        def acquire(self, sim: str, *args: Any, **more: Any) -> Lease:
            if sim == "broken":
                self.attempts += 1
                raise error
            return super().acquire(sim, *args, **more)

    store = Broken()
    posted(store, "broken", GAME)

    async def play() -> None:
        async with host(store, limits=replace(QUICK, look_every_s=60.0)) as one:
            await until(lambda: store.attempts and not one.playing)
            posted(store, "whole", GAME)
            one.wake()
            await until(lambda: status(store, "whole") == "ended" and not one.playing)

    asyncio.run(play())
    # A failure that is none of the store's is to be noted as one, which needs the lease as well.
    assert store.attempts == (1 if isinstance(error, StoreAwayError) else 2)
    assert status(store, "broken") == "created"


def test_two_hosts_share_the_work_and_none_is_played_twice(store: Store) -> None:
    servers = Server(), Server()

    async def play() -> None:
        hosts = [host(store, backends={"m": server}, limits=PATIENT) for server in servers]
        async with hosts[0], hosts[1]:
            for number in range(8):
                posted(store, f"s{number}", GAME)
            await until(lambda: all(is_idle(store, f"s{n}") for n in range(8)))

    asyncio.run(play())
    assert {kinds(store, f"s{n}").count(TAKEN) for n in range(8)} == {1}
    places = [(request.simulation, request.call) for server in servers for request in server.asked]
    assert len(places) == len(set(places)) == 8 * 2 * GAME.max_ticks  # points, then punishment


def test_a_pause_stands_still_and_holds_nothing_until_it_is_resumed(store: Store) -> None:
    async def play() -> None:
        async with host(store) as one:
            posted(store, "s", GAME)
            Controls(store, "s").pause("lunch")
            await until(lambda: status(store, "s") == "paused" and not one.playing)
            assert is_idle(store, "s")
            store.release(store.acquire("s", "somebody else", 1.0))
            store.want("s")
            one.wake()
            await until(lambda: status(store, "s") == "ended")

    asyncio.run(play())
    assert store.find("s").hash == run(GAME, backends={"m": Server()}).hash  # type: ignore[union-attr]


def test_a_pause_that_is_taken_back_before_it_took_effect_is_none(store: Store) -> None:
    posted(store, "s", GAME)
    Controls(store, "s").pause()
    store.want("s")

    async def play() -> None:
        async with host(store):
            await until(lambda: status(store, "s") == "ended")

    asyncio.run(play())
    assert "paused" not in kinds(store, "s")


def test_a_step_plays_so_many_ticks(store: Store) -> None:
    async def play() -> None:
        async with host(store) as one:
            posted(store, "s", GAME, until=1)
            await until(lambda: is_idle(store, "s"))
            assert store.hosted("s").ticks == 1  # type: ignore[union-attr]
            store.want("s", 3)
            one.wake()
            await until(lambda: is_idle(store, "s"))

    asyncio.run(play())
    hosted = store.hosted("s")
    assert hosted is not None
    assert (hosted.ticks, hosted.record.status) == (3, "paused")


def test_a_simulation_that_waits_for_a_person_holds_nothing_and_goes_on_with_the_answer(store: Store) -> None:
    async def play() -> None:
        async with host(store) as one:
            posted(store, "s", SEAT)
            for _ in range(SEAT.max_ticks):
                await until(lambda: is_idle(store, "s") and not one.playing)
                assert status(store, "s") == "waiting"
                controls = Controls(store, "s")
                controls.answer(controls.questions()[0].id, "ANSWER: 7")
                store.nudge("s")
                one.wake()
            await until(lambda: status(store, "s") == "ended")

    asyncio.run(play())
    taken = [event for event in store.events("s") if event.kind == "action.taken" and event.agent == "b"]
    assert [event.payload["payload"] for event in taken] == [7] * SEAT.max_ticks


def test_a_question_whose_deadline_passes_is_answered_by_its_default(store: Store) -> None:
    seat = spec("conditional", {"kind": "human", "deadline_s": 0.05, "default": "ANSWER: 3"})
    posted(store, "s", seat)

    async def play() -> None:
        async with host(store):
            await until(lambda: status(store, "s") == "ended")

    asyncio.run(play())
    assert "waiting" in kinds(store, "s")


def test_a_failure_says_why_leaves_the_others_alone_and_can_be_tried_again(store: Store) -> None:
    broken = spec("conditional", "no_such_policy")

    async def play() -> None:
        async with host(store) as one:
            posted(store, "broken", broken)
            posted(store, "whole", GAME)
            await until(lambda: status(store, "whole") == "ended" and is_idle(store, "broken"))
            first = store.find("broken")
            assert first is not None
            assert first.status == "failed"
            assert "no scripted policy no_such_policy" in first.reason
            store.want("broken")
            one.wake()
            await until(lambda: is_idle(store, "broken"))

    asyncio.run(play())
    assert status(store, "broken") == "failed"


def test_a_model_that_no_host_serves_is_a_failure_and_not_an_endless_loop(store: Store) -> None:
    async def play() -> None:
        async with host(store, backends={}):
            posted(store, "s", GAME)
            await until(lambda: is_idle(store, "s"))

    asyncio.run(play())
    assert status(store, "s") == "failed"
    assert "no backend answers for the model m" in store.find("s").reason  # type: ignore[union-attr]


def test_a_store_that_goes_away_for_a_while_fails_no_simulation(tmp_path: Path) -> None:
    class Flaky(SqliteStore):
        failing = 0

        def append(self, lease, events, **more):  # type: ignore[no-untyped-def]
            if self.failing:
                self.failing -= 1
                raise StoreAwayError("the simulation store does not answer")
            super().append(lease, events, **more)

    store = Flaky(tmp_path / "simulations.db", sync=False)

    async def play() -> None:
        async with host(store):
            store.failing = MOST_DEATHS + 1
            posted(store, "s", GAME)
            await until(lambda: status(store, "s") == "ended")

    asyncio.run(play())
    assert store.find("s").hash == run(GAME, backends={"m": Server()}).hash  # type: ignore[union-attr]
    assert "failed" not in kinds(store, "s")
    store.close()


@pytest.mark.parametrize(("kind", "ends"), [("unavailable", True), ("refused", False)])
def test_a_model_that_is_away_for_a_while_needs_nobody_and_one_that_refuses_does(
    kind: Literal["unavailable", "refused"], ends: bool, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "AGAIN_S", 0.05)
    failures = iter([True] * 3)

    def answer(request: GenRequest) -> str | GenResult:
        failing = next(failures, False)
        return GenResult.failed(Failure(kind, "the replica went away")) if failing else drawn(request)

    async def play() -> None:
        backends = {"m": Server(answer, max_batch=1)}
        async with host(store, backends=backends, client=ClientSpec(max_attempts=1)):
            posted(store, "s", GAME)
            await until(lambda: is_idle(store, "s"))

    asyncio.run(play())
    assert status(store, "s") == ("ended" if ends else "paused")
    assert store.find("s").reason.endswith("has ended" if ends else "went away")  # type: ignore[union-attr]


def test_models_that_simulations_name_are_opened_once_and_let_go_when_none_of_them_is_played(store: Store) -> None:
    opened: list[str] = []
    closed: list[str] = []

    class Named(Server):
        def __init__(self, name: str, first: asyncio.Event) -> None:
            super().__init__(workers=8, max_batch=1)
            self.name, self.first = name, first

        async def generate(self, requests: Sequence[GenRequest]) -> list[GenResult]:
            if requests[0].simulation == "first":
                await self.first.wait()
            return await super().generate(requests)

        async def close(self) -> None:
            closed.append(self.name)

    def naming(*names: str) -> SimulationSpec:
        aliases = dict(zip(("m", "n"), names, strict=False))
        models = {alias: {"backend": {"kind": "served", "name": name}} for alias, name in aliases.items()}
        return spec(llm(), "conditional", models=models)

    async def play() -> None:
        models: dict[str, Named] = {}
        go_on = asyncio.Event()

        def more(name: str) -> Named | None:
            opened.append(name)
            models[name] = Named(name, go_on)
            return None if name == "unknown" else models[name]

        async with host(store, backends={"base": Server()}, more=more):
            posted(store, "unknown", naming("unknown"))
            posted(store, "first", naming("shared"))
            await until(lambda: "shared" in models)
            for number in range(8):
                posted(store, f"s{number}", naming("shared", f"own-{number}"))
            await until(lambda: len(closed) == 8)
            assert sorted(closed) == [f"own-{number}" for number in range(8)]
            go_on.set()
            await until(lambda: len(closed) == 9)

    asyncio.run(play())
    assert [status(store, sim) for sim in ("first", *(f"s{n}" for n in range(8)))] == ["ended"] * 9
    assert status(store, "unknown") == "failed"
    assert closed[-1] == "shared"
    assert sorted(opened) == sorted([*closed, "unknown"])


def test_a_host_that_closes_ends_its_tick_and_the_next_one_goes_on_at_once(store: Store) -> None:
    first_asked = asyncio.Event()

    def answer(request: GenRequest) -> str:
        first_asked.set()
        return drawn(request)

    async def play() -> None:
        async with host(store, backends={"m": Server(answer)}):
            posted(store, "s", GAME)
            await first_asked.wait()
        assert status(store, "s") == "running"
        assert store.runnable(1) == ["s"]
        async with host(store):
            await until(lambda: status(store, "s") == "ended")

    asyncio.run(play())
    assert store.find("s").hash == run(GAME, backends={"m": Server()}).hash  # type: ignore[union-attr]
    assert "handed_over" in kinds(store, "s")


class Pondering(PublicGoods):
    """Computes in its ticks until somebody lets it go on."""

    begun, free = threading.Event(), threading.Event()

    def resolve(self, state: State, actions: Mapping[str, Action], rng: CounterRng) -> Resolution:
        self.begun.set()
        assert self.free.wait(60), "nobody let it go on"
        return super().resolve(state, actions, rng)


def test_a_tick_that_computes_for_long_holds_up_neither_the_host_nor_the_others(store: Store) -> None:
    pondering = spec("conditional", "free_rider", scenario=f"{__name__}:Pondering")

    def expires(sim: str) -> float:
        return store._query("SELECT expires FROM simulations WHERE sim = ?", (sim,))[0][0]  # type: ignore[attr-defined, no-any-return]

    async def play() -> None:
        async with host(store) as one:
            posted(store, "long", pondering)
            await until(Pondering.begun.is_set)
            first = expires("long")
            posted(store, "scripted", spec("conditional", "punisher"))
            posted(store, "asking", GAME)
            one.wake()
            await until(lambda: status(store, "scripted") == status(store, "asking") == "ended")
            await until(lambda: expires("long") > first)
            assert status(store, "long") == "running"
            Pondering.free.set()
            await until(lambda: status(store, "long") == "ended")

    asyncio.run(play())


class Exiting(PublicGoods):
    """Ends its process, or means to."""

    def resolve(self, state: State, actions: Mapping[str, Action], rng: CounterRng) -> Resolution:
        raise SystemExit(1)


def test_a_scenario_that_means_to_end_its_process_fails_and_ends_nothing_else(store: Store) -> None:
    async def play() -> None:
        async with host(store):
            posted(store, "exiting", spec("conditional", "punisher", scenario=f"{__name__}:Exiting"))
            posted(store, "whole", GAME)
            await until(lambda: is_idle(store, "exiting") and status(store, "whole") == "ended")

    asyncio.run(play())
    assert status(store, "exiting") == "failed"
    assert store.find("exiting").reason.startswith("SystemExit: 1 (resolve, line ")  # type: ignore[union-attr]


def let_go_on(free: threading.Event, name: str) -> None:
    """Wait until a thread has ended that was waiting for this."""
    free.set()
    for thread in threading.enumerate():
        if thread.name == name:
            thread.join(20)


def test_a_host_that_closes_does_not_wait_for_a_tick_that_computes_on(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulations, "END_S", 0.01)
    Pondering.begun.clear()
    Pondering.free.clear()
    pondering = spec("conditional", "free_rider", scenario=f"{__name__}:Pondering")

    async def play() -> None:
        async with host(store, grace_s=0.01):
            posted(store, "long", pondering)
            await until(Pondering.begun.is_set)

    asyncio.run(play())
    assert (status(store, "long"), kinds(store, "long")) == ("running", [TAKEN])
    let_go_on(Pondering.free, "simulation long")
    assert (status(store, "long"), kinds(store, "long")) == ("running", [TAKEN, LEFT])
    assert store.runnable(1) == ["long"]


def test_no_more_are_played_at_once_than_allowed(store: Store) -> None:
    most = 0

    async def play() -> None:
        nonlocal most

        def answer(request: GenRequest) -> str:
            nonlocal most
            most = max(most, len(one.playing))
            return drawn(request)

        one = host(store, backends={"m": Server(answer)}, limits=replace(QUICK, together=2))
        async with one:
            for number in range(5):
                posted(store, f"s{number}", GAME)
            await until(lambda: all(is_idle(store, f"s{n}") for n in range(5)))

    asyncio.run(play())
    assert most == 2


def test_what_ended_is_recorded_once_by_whichever_host(store: Store) -> None:
    records = Records()

    async def play() -> None:
        hosts = [host(store, recording=records, limits=PATIENT) for _ in range(2)]
        async with hosts[0], hosts[1]:
            for number in range(4):
                posted(store, f"s{number}", GAME)
            await until(lambda: all(is_idle(store, f"s{n}") for n in range(4)))

    asyncio.run(play())
    assert sorted(records.recorded) == ["s0", "s1", "s2", "s3"]
    assert kinds(store, "s0").count(RECORDED) == 1


def test_a_host_that_closes_keeps_its_lease_while_it_records(store: Store) -> None:
    begun, free = threading.Event(), threading.Event()

    class Slow(Records):
        def record(self, store: Store, sim: str) -> str:
            begun.set()
            assert free.wait(20)
            return super().record(store, sim)

    records = Slow()
    posted(store, "s", GAME)
    run(GAME, store=store, sim="s", backends={"m": Server()})

    async def play() -> None:
        async with host(store, recording=records, grace_s=0.01):
            await until(begun.is_set)

    asyncio.run(play())
    assert store.runnable(1, ended=True) == []
    let_go_on(free, "end of simulation s")
    assert records.recorded == ["s"]
    assert is_idle(store, "s")


def test_a_recording_that_fails_is_tried_again_and_blocks_nobody(store: Store) -> None:
    records = Records(failures=2)

    async def play() -> None:
        async with host(store, recording=records):
            posted(store, "s", GAME)
            await until(lambda: is_idle(store, "s"))

    asyncio.run(play())
    assert records.recorded == ["s"]
    assert kinds(store, "s")[-3:] == ["not_recorded", "not_recorded", RECORDED]


def test_recordings_that_fail_take_no_place_from_what_is_to_be_played(store: Store) -> None:
    for number in range(3):
        posted(store, f"old{number}", GAME)
        run(GAME, store=store, sim=f"old{number}", backends={"m": Server()})

    async def play() -> None:
        limits = replace(QUICK, together=1, record_again_s=60.0)
        async with host(store, recording=Records(failures=100), limits=limits):
            posted(store, "new", GAME)
            await until(lambda: status(store, "new") == "ended")

    asyncio.run(play())
    tried = [sim for sim in ("old0", "old1", "old2", "new") if "not_recorded" in kinds(store, sim)]
    assert tried == ["old0"]


def test_what_ended_on_a_host_that_died_before_it_recorded_is_recorded_by_another(store: Store) -> None:
    posted(store, "s", GAME)
    run(GAME, store=store, sim="s", backends={"m": Server()})
    assert status(store, "s") == "ended"
    records = Records()

    async def play() -> None:
        async with host(store, recording=records):
            await until(lambda: is_idle(store, "s"))

    asyncio.run(play())
    assert records.recorded == ["s"]


def test_an_owner_that_was_replaced_stops_asking_its_models() -> None:
    store = MemoryStore()

    async def play() -> None:
        asked = asyncio.Event()

        class Stuck(Server):
            async def generate(self, requests):  # type: ignore[no-untyped-def]
                asked.set()
                await asyncio.Event().wait()

        async with host(store, backends={"m": Stuck()}) as one:
            posted(store, "s", GAME)
            await asked.wait()
            store.acquire("s", "another host", 60.0, steal=True)
            await until(lambda: not one.playing)

    asyncio.run(play())
    assert status(store, "s") == "running"


def test_what_was_recorded_by_a_host_that_died_then_is_not_recorded_again(store: Store) -> None:
    posted(store, "s", GAME)
    run(GAME, store=store, sim="s", backends={"m": Server()})
    store.operate("s", RECORDED, {"at": "runs/s"})
    records = Records()

    async def play() -> None:
        async with host(store, recording=records):
            await until(lambda: is_idle(store, "s"))

    asyncio.run(play())
    assert records.recorded == []
