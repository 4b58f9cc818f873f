"""Simulations over HTTP: made once, listed, controlled, looked into; what does not fit is refused and says why."""

from __future__ import annotations

import asyncio
import io
import json
import time
import zipfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import httpx

from steerline.config.simulation import SimulationSpec
from steerline.serving.keys import SCOPES, KeyBook
from steerline.serving.paying import PAYER
from steerline.serving.usage import usage_beside
from steerline.simulation.bundle import read_bundle
from steerline.simulation.runner import play
from steerline.simulation.store.base import SimulationRecord, Store
from tests.unit.services.simulation_service import ROUNDS, game, llm, models, reached, service
from tests.unit.simulation.worlds import Server

SIMS = "/v1/simulations"
JSON = {"Content-Type": "application/json"}
SCRIPTED = game("conditional", "free_rider")
ASKING = game(llm(), "conditional")


def with_service(
    folder: Path, story: Callable[[httpx.AsyncClient, Store], Awaitable[None]], *, plays: bool = True, **changes: Any
) -> None:
    async def told() -> None:
        async with service(folder, models() if plays else None, **changes) as (client, store):
            await story(client, store)

    asyncio.run(told())


def error_of(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    error: dict[str, Any] = answer.json()["error"]
    return error


def test_a_simulation_is_made_played_and_found(tmp_path: Path) -> None:
    async def story(client: httpx.AsyncClient, store: Store) -> None:
        made = await client.post(SIMS, json=ASKING)
        assert made.status_code == 202, made.text
        sim = made.json()["id"]
        view = await reached(client, sim, "ended")
        assert view["tick"] == ROUNDS
        spec = (await client.get(f"{SIMS}/{sim}")).json()["spec"]
        assert spec["models"]["m"]["backend"] == {"kind": "served", "name": "m"}
        listed = (await client.get(SIMS)).json()["data"]
        assert [one["id"] for one in listed] == [sim]

    with_service(tmp_path, story)


def test_the_same_request_under_the_same_key_makes_one_simulation(tmp_path: Path) -> None:
    async def story(client: httpx.AsyncClient, store: Store) -> None:
        key = {"Idempotency-Key": "abc"}
        first, second = [(await client.post(SIMS, json=SCRIPTED, headers=key)).json() for _ in range(2)]
        assert first["id"] == second["id"]
        other = await client.post(SIMS, json={**SCRIPTED, "seed": 3}, headers=key)
        assert error_of(other, 409)["code"] == "idempotency_key_reused"
        assert (await client.post(SIMS, json=SCRIPTED)).json()["id"] != first["id"]
        assert len((await client.get(SIMS)).json()["data"]) == 2

    with_service(tmp_path, story, plays=False)


def test_pages_follow_each_other_and_can_be_narrowed(tmp_path: Path) -> None:
    async def story(client: httpx.AsyncClient, store: Store) -> None:
        made = [(await client.post(f"{SIMS}?start=false", json=SCRIPTED)).json()["id"] for _ in range(5)]
        found: list[str] = []
        query: dict[str, Any] = {"limit": 2}
        while True:
            page = (await client.get(SIMS, params=query)).json()
            found += [one["id"] for one in page["data"]]
            if page["next"] is None:
                break
            query["cursor"] = page["next"]
        assert found == made[::-1]
        assert (await client.get(SIMS, params={"status": "ended"})).json()["data"] == []
        assert (await client.get(SIMS, params={"status": ["ended", "created"]})).json()["data"][0]["id"] == made[-1]

    with_service(tmp_path, story, plays=False)


REFUSED: list[tuple[str, dict[str, Any], str | None]] = [
    ("code", {**SCRIPTED, "scenario": "os:system"}, "scenario"),
    ("unknown scenario", {**SCRIPTED, "scenario": "chess"}, None),
    ("unknown setting", {**SCRIPTED, "params": {"weather": 1}}, None),
    ("unknown policy", game("conditional", "no_such"), None),
    ("custom brain", game({"kind": "custom", "name": "os:system"}, "conditional"), "agents.0.brain.name"),
    ("custom topology", {**SCRIPTED, "topology": {"kind": "custom", "name": "os:system"}}, "topology.name"),
    ("backend", {**ASKING, "models": {"m": {"backend": {"kind": "local"}}}}, "models.m.model"),
    ("models", {**SCRIPTED, "models": {f"m{number}": "m" for number in range(65)}}, "models"),
    ("unserved", game(llm("nobody"), "conditional"), "models.nobody"),
    (
        "file",
        {
            **SCRIPTED,
            "population": {"kind": "table", "path": "/etc/passwd", "brain": {"kind": "scripted", "policy": "x"}},
        },
        "population",
    ),
    ("tokens", game(llm(sampling={"max_tokens": 100_000}), "conditional"), "agents.0.brain.sampling.max_tokens"),
    *(
        ("items", {**SCRIPTED, "scenario": "recommender", "params": {"items": number}}, "params.items")
        for number in (10**9, 1e9, "1_000_000_000")
    ),
    (
        "contacts",
        {**SCRIPTED, "scenario": "epidemic", "params": {"contact": {"kind": "regular", "degree": 10**6}}},
        "params.contact.degree",
    ),
    ("links", {**SCRIPTED, "topology": {"kind": "ring", "reach": 10**9}}, "topology.reach"),
    ("stops", game(llm(sampling={"stop": ["a"] * 17}), "conditional"), "agents.0.brain.sampling.stop"),
    ("stop", game(llm(sampling={"stop": ["a" * 1001]}), "conditional"), "agents.0.brain.sampling.stop"),
    ("ticks", {**SCRIPTED, "max_ticks": 10**9}, "max_ticks"),
    ("replay", {**SCRIPTED, "replay": {"kind": "strict"}}, "replay.kind"),
    (
        "pattern",
        {**SCRIPTED, "interceptors": [{"kind": "drop", "match": {"pattern": "(a+)+$"}}]},
        "interceptors.0.match.pattern",
    ),
    *(
        ("pattern", {**SCRIPTED, "interceptors": [{"kind": "edit", "replacement": "", "pattern": pattern}]}, None)
        for pattern in ("((a+)c?)+$", "(a|aa)+$", "(" * 900 + ")" * 900, "a{99999999999}", "a" * 400_000)
    ),
    (
        "replacement",
        {**SCRIPTED, "interceptors": [{"kind": "edit", "pattern": "a", "replacement": "a" * 1001}]},
        "interceptors.0.replacement",
    ),
    ("half a character", {**SCRIPTED, "agents": [{"id": "a", "profile": {"role": "\ud800"}}]}, None),
    (
        "an array of the log's own",
        {**SCRIPTED, "workflow": [{"kind": "inject", "at": 1, "state": {"x": {"__array__": 5}}}]},
        None,
    ),
    ("longest text", {**SCRIPTED, "max_text": 10**9}, "max_text"),
    ("gate", game(llm(steering={"vmask": {}}), "conditional"), "agents.0.brain.steering.vmask"),
    ("unknown key", {**SCRIPTED, "agentz": []}, "agentz"),
]


def test_what_may_not_be_posted_is_refused_at_its_place(tmp_path: Path) -> None:
    async def story(client: httpx.AsyncClient, store: Store) -> None:
        for what, form, param in REFUSED:
            error = error_of(await client.post(SIMS, content=json.dumps(form), headers=JSON), 400)
            assert param is None or error["param"] == param, (what, error)
        assert (await client.get(SIMS)).json()["data"] == []

    with_service(tmp_path, story, plays=False)


def test_all_that_is_to_mend_in_a_spec_is_listed_at_its_places(tmp_path: Path) -> None:
    unreadable = {**game(llm(sampling={"max_tokens": 0}), "conditional"), "max_ticks": -1}
    unplayable = {**game(llm("nobody"), llm("noone")), "models": {"x": {"model": "nobody"}, "y": {"model": "noone"}}}

    async def story(client: httpx.AsyncClient, store: Store) -> None:
        for form, paths in (
            (unreadable, {"agents.0.brain.sampling.max_tokens", "max_ticks"}),
            (unplayable, {"models.x", "models.y"}),
        ):
            answer = await client.post(SIMS, json=form)
            assert error_of(answer, 400).keys() == {"message", "type", "param", "code"}
            problems = answer.json()["problems"]
            assert {one["path"] for one in problems} >= paths, problems
            assert all(one["message"] and not one["message"].startswith(one["path"]) for one in problems)
            inside = await client.post("/v1/experiments", json={"simulation": form})
            assert {one["path"].removeprefix("simulation.") for one in inside.json()["problems"]} >= paths
        many = {**SCRIPTED, "agents": [{"id": "?"}] * 60}
        assert len((await client.post(SIMS, json=many)).json()["problems"]) == 50

    with_service(tmp_path, story, plays=False)


def test_more_may_take_part_where_not_everybody_hears_everybody(tmp_path: Path) -> None:
    rule = {"kind": "scripted", "policy": "conditional"}
    crowd = {**SCRIPTED, "agents": [{"id": f"a{number}", "brain": rule} for number in range(1001)]}

    async def story(client: httpx.AsyncClient, store: Store) -> None:
        error = error_of(await client.post(SIMS, json=crowd), 400)
        assert error["param"] == "topology"
        assert "1001000 edges" in error["message"]
        for topology in ({"kind": "none"}, {"kind": "ring"}):
            made = await client.post(f"{SIMS}?start=false", json={**crowd, "topology": topology})
            assert made.status_code == 202, made.text

    with_service(tmp_path, story, plays=False)


def test_a_simulation_is_paused_stepped_resumed_and_stopped(tmp_path: Path) -> None:
    async def story(client: httpx.AsyncClient, store: Store) -> None:
        sim = (await client.post(f"{SIMS}?start=false", json=game("conditional", "punisher", rounds=100))).json()["id"]
        await client.post(f"{SIMS}/{sim}:step", json={"ticks": 2})
        view = await reached(client, sim, "paused")
        assert view["tick"] == 2
        again = await client.post(f"{SIMS}/{sim}:step")
        assert again.status_code == 202
        async with asyncio.timeout(10):
            while (await reached(client, sim, "paused"))["tick"] != 3:
                pass
        await client.post(f"{SIMS}/{sim}:stop")
        view = await reached(client, sim, "stopped")
        assert view["tick"] == 3
        for verb in ("pause", "resume", "step"):
            error = error_of(await client.post(f"{SIMS}/{sim}:{verb}"), 409)
            assert "is stopped" in error["message"]
        assert (await client.post(f"{SIMS}/{sim}:stop")).status_code == 202

    with_service(tmp_path, story)


def test_one_that_is_put_off_may_be_stepped(tmp_path: Path) -> None:
    async def story(client: httpx.AsyncClient, store: Store) -> None:
        sim = (await client.post(SIMS, json=SCRIPTED)).json()["id"]
        lease = store.acquire(sim, "a host", 30.0)
        store.stand_still(lease, "paused", "its key has used its day", served=1, again_at=time.time() + 3600)
        assert (await client.post(f"{SIMS}/{sim}:step", json={"ticks": 2})).status_code == 202
        hosted = store.hosted(sim)
        assert hosted is not None
        assert hosted.until == 2
        # Nobody has played it yet, and steps add up.
        await client.post(f"{SIMS}/{sim}:step")
        assert store.hosted(sim).until == 3  # type: ignore[union-attr]

    with_service(tmp_path, story, plays=False)


def test_unknown_simulations_agents_and_ticks_are_404(tmp_path: Path) -> None:
    async def story(client: httpx.AsyncClient, store: Store) -> None:
        for path in ("", "/events", "/state", "/metrics", "/graph", "/questions", "/export", "/transcript"):
            assert error_of(await client.get(f"{SIMS}/nobody{path}"), 404)["code"] == "simulation_not_found"
        for verb in ("pause", "resume", "step", "stop"):
            error_of(await client.post(f"{SIMS}/nobody:{verb}"), 404)
        sim = (await client.post(f"{SIMS}?start=false", json=SCRIPTED)).json()["id"]
        error_of(await client.get(f"{SIMS}/{sim}/agents/eve/memory"), 404)
        error_of(await client.get(f"{SIMS}/{sim}/state?tick=9"), 404)
        error_of(await client.post(f"{SIMS}/{sim}/agents/eve/interview", json={"question": "?"}), 404)
        error_of(await client.post(f"{SIMS}/{sim}/questions/0.0.a:answer", json={"text": "x"}), 404)

    with_service(tmp_path, story, plays=False)


def test_state_metrics_graph_and_memory_show_what_happened(tmp_path: Path) -> None:
    async def story(client: httpx.AsyncClient, store: Store) -> None:
        debate = {
            "scenario": "debate",
            "max_ticks": 2,
            "params": {"rounds": 2},
            "agents": [
                {"id": n, "brain": {"kind": "scripted", "policy": "independent"}, "memory": {"kind": "window"}}
                for n in "ab"
            ],
        }
        sim = (await client.post(SIMS, json=debate)).json()["id"]
        view = await reached(client, sim, "ended")
        state = (await client.get(f"{SIMS}/{sim}/state")).json()
        assert state["tick"] == view["tick"]
        assert [agent["id"] for agent in state["agents"]] == ["a", "b"]
        first = (await client.get(f"{SIMS}/{sim}/state", params={"tick": 1})).json()
        assert first["tick"] == 1
        assert first["state"] != state["state"]
        metrics = (await client.get(f"{SIMS}/{sim}/metrics")).json()
        assert metrics["ticks"] == list(range(1, view["tick"] + 1))
        assert all(len(series) == view["tick"] for series in metrics["metrics"].values())
        graph = (await client.get(f"{SIMS}/{sim}/graph")).json()
        assert graph["nodes"] == ["a", "b"]
        assert {(edge["sender"], edge["receiver"]) for edge in graph["edges"]} == {("a", "b"), ("b", "a")}
        memory = (await client.get(f"{SIMS}/{sim}/agents/a/memory")).json()
        assert any(record["kind"] == "message" and record["about"] == "b" for record in memory["records"])

    with_service(tmp_path, story)


def test_an_export_is_a_bundle_that_replays_and_a_transcript_has_a_line_for_each_turn(tmp_path: Path) -> None:
    async def story(client: httpx.AsyncClient, store: Store) -> None:
        sim = (await client.post(SIMS, json=ASKING)).json()["id"]
        view = await reached(client, sim, "ended")
        packed = await client.get(f"{SIMS}/{sim}/export")
        assert packed.headers["content-type"] == "application/zip"
        with zipfile.ZipFile(io.BytesIO(packed.content)) as archive:
            archive.extractall(tmp_path / "out")
        bundle = read_bundle(tmp_path / "out" / sim)
        assert bundle.events[-1].hash == view["hash"]
        lines = (await client.get(f"{SIMS}/{sim}/transcript")).text.splitlines()
        assert len([json.loads(line) for line in lines]) == 2 * ROUNDS

    with_service(tmp_path, story)


def test_a_strength_that_is_moved_reaches_the_next_turns_of_its_agent_alone(tmp_path: Path) -> None:
    served = models()

    async def story() -> None:
        async with service(tmp_path, served) as (client, _):
            # At temperature 0 the two would share one answer.
            warm = llm(sampling={"temperature": 0.7})
            sim = (await client.post(f"{SIMS}?start=false", json=game(warm, warm))).json()["id"]
            await client.post(f"{SIMS}/{sim}:step")
            await reached(client, sim, "paused")
            moved = await client.post(f"{SIMS}/{sim}/agents/a/steering", json={"strength": 0.5})
            assert moved.status_code == 202, moved.text
            await client.post(f"{SIMS}/{sim}:resume")
            await reached(client, sim, "ended")
            applied = [
                json.loads(line)
                for line in (await client.get(f"{SIMS}/{sim}/events?kinds=control.applied")).text.splitlines()
            ]
            assert [event["payload"]["id"] for event in applied] == [moved.json()["id"]]

    asyncio.run(story())
    strengths = {
        (request.agent, int(request.call.split("/")[0])): request.steering and request.steering.boost
        for request in served["m"].asked
    }
    assert strengths["a", 0] is None
    assert strengths["a", 1].strength == 0.5  # type: ignore[union-attr]
    assert all(strengths["b", tick] is None for tick in range(ROUNDS))


def test_steering_that_cannot_act_is_refused_at_once(tmp_path: Path) -> None:
    async def story(client: httpx.AsyncClient, store: Store) -> None:
        sim = (await client.post(f"{SIMS}?start=false", json=ASKING)).json()["id"]
        scripted = await client.post(f"{SIMS}/{sim}/agents/b/steering", json={"strength": 1})
        assert "asks no model" in error_of(scripted, 400)["message"]
        error_of(await client.post(f"{SIMS}/{sim}/agents/a/steering", json={"strength": -1}), 400)
        error_of(await client.post(f"{SIMS}/{sim}/agents/a/steering", json={}), 400)
        error_of(await client.post(f"{SIMS}/{sim}/agents/a/steering", json={"steering": {"vmask": {}}}), 400)

    with_service(tmp_path, story, plays=False)


def test_a_state_of_another_kind_is_refused_with_an_event_and_the_simulation_goes_on(tmp_path: Path) -> None:
    async def story(client: httpx.AsyncClient, store: Store) -> None:
        sim = (await client.post(f"{SIMS}?start=false", json=SCRIPTED)).json()["id"]
        for name, value in (("round", "soon"), ("weather", 1)):
            posted = await client.post(f"{SIMS}/{sim}:inject", json={"state": {name: value}})
            assert posted.status_code == 202
        await client.post(f"{SIMS}/{sim}:resume")
        await reached(client, sim, "ended")
        events = (await client.get(f"{SIMS}/{sim}/events?kinds=control.refused")).text.splitlines()
        assert len(events) == 2

    with_service(tmp_path, story)


def test_a_key_of_somebody_else_or_for_something_else_swallows_no_control(tmp_path: Path) -> None:
    ann, bob = (
        {"Authorization": f"Bearer {KeyBook(tmp_path / 'keys.json').create(name, SCOPES)[0]}", "Idempotency-Key": "1"}
        for name in ("ann", "bob")
    )

    async def story(client: httpx.AsyncClient, store: Store) -> None:
        sim = (await client.post(f"{SIMS}?start=false", json=SCRIPTED, headers=ann)).json()["id"]
        told, other = {"message": "hello"}, {"message": "goodbye"}
        for headers, form in ((ann, told), (ann, told), (bob, told), (ann, other)):
            await client.post(f"{SIMS}/{sim}:inject", json=form, headers=headers)
        await client.post(f"{SIMS}/{sim}/agents/a/interview", json={"question": "Who?"}, headers=ann)
        posted = [control.payload.get("text", "interview") for control in store.controls(sim)]
        assert posted == ["hello", "hello", "goodbye", "interview"]

    with_service(tmp_path, story, plays=False, access={"required": True})


def test_what_the_log_could_not_hold_is_not_injected(tmp_path: Path) -> None:
    async def story(client: httpx.AsyncClient, store: Store) -> None:
        sim = (await client.post(f"{SIMS}?start=false", json=SCRIPTED)).json()["id"]
        for state in ({"__array__": 5}, {"x": [{"__array__": ["|O", [1], ""]}]}, {"x": "\ud800"}):
            error_of(await client.post(f"{SIMS}/{sim}:inject", content=json.dumps({"state": state}), headers=JSON), 400)
        for number in ("NaN", "1e999"):
            content = f'{{"state": {{"spent": {number}}}}}'
            error_of(await client.post(f"{SIMS}/{sim}:inject", content=content, headers=JSON), 400)
        told = await client.post(f"{SIMS}/{sim}:inject", json={"message": 'a "__array__": as text'})
        assert told.status_code == 202

    with_service(tmp_path, story, plays=False)


def test_an_interview_is_answered_by_an_event_of_its_id(tmp_path: Path) -> None:
    talkative = Server(lambda request: "Nobody." if "trust" in str(request.prefix) else "ANSWER: 4")

    async def story() -> None:
        async with service(tmp_path, {"m": talkative}) as (client, _):
            sim = (await client.post(f"{SIMS}?start=false", json=ASKING)).json()["id"]
            asked = await client.post(f"{SIMS}/{sim}/agents/a/interview", json={"question": "Whom do you trust?"})
            await client.post(f"{SIMS}/{sim}:resume")
            await reached(client, sim, "ended")
            lines = (await client.get(f"{SIMS}/{sim}/events?kinds=interview.answered&agent=a")).text.splitlines()
            (event,) = map(json.loads, lines)
            assert (event["payload"]["id"], event["payload"]["answer"]) == (asked.json()["id"], "Nobody.")

    asyncio.run(story())


def test_a_person_is_asked_and_the_first_answer_counts(tmp_path: Path) -> None:
    async def story(client: httpx.AsyncClient, store: Store) -> None:
        seat = game({"kind": "human"}, "conditional", rounds=1)
        sim = (await client.post(SIMS, json=seat)).json()["id"]
        await reached(client, sim, "waiting")
        (question,) = (await client.get(f"{SIMS}/{sim}/questions")).json()
        assert question["agent"] == "a"
        path = f"{SIMS}/{sim}/questions/{question['id']}:answer"
        assert (await client.post(path, json={"text": "ANSWER: 9"})).status_code == 200
        await reached(client, sim, "ended")
        assert error_of(await client.post(path, json={"text": "ANSWER: 1"}), 409)["code"] == "question_closed"
        taken = [event.payload["payload"] for event in store.events(sim, kinds=("action.taken",), agent="a")]
        assert taken == [9]

    with_service(tmp_path, story)


def test_a_fork_shares_the_past_and_goes_its_own_way(tmp_path: Path) -> None:
    async def story(client: httpx.AsyncClient, store: Store) -> None:
        sim = (await client.post(SIMS, json=SCRIPTED)).json()["id"]
        await reached(client, sim, "ended")
        generous = {"id": "b", "brain": {"kind": "scripted", "policy": "conditional"}}
        form, key = {"at": 1, "agents": {"b": generous}}, {"Idempotency-Key": "k"}
        forks = [(await client.post(f"{SIMS}/{sim}:fork", json=form, headers=key)).json()["id"] for _ in range(2)]
        assert forks[0] == forks[1]
        await reached(client, forks[0], "ended")
        names = [one["name"] for one in (await client.get(SIMS)).json()["data"]]
        assert names == ["simulation-fork-at-1", "simulation"]
        named = await client.post(f"{SIMS}/{sim}:fork", json={"at": 2, "name": "generous", "start": False})
        assert named.json()["name"] == "generous"
        compared = (await client.get(f"{SIMS}/{sim}/compare/{forks[0]}")).json()
        assert compared["differ_at"] == 2
        assert len(compared["metrics"]["mean_contribution"][0]) == ROUNDS
        error_of(await client.post(f"{SIMS}/{sim}:fork", json={"at": 99}), 409)
        stranger = {"at": 1, "agents": {"eve": {**generous, "id": "eve"}}}
        error_of(await client.post(f"{SIMS}/{sim}:fork", json=stranger), 404)
        custom = {"at": 1, "agents": {"b": {"id": "b", "brain": {"kind": "custom", "name": "os:system"}}}}
        assert error_of(await client.post(f"{SIMS}/{sim}:fork", json=custom), 400)["param"] == "agents.b.brain.name"

    with_service(tmp_path, story)


def test_an_experiment_plays_its_grid_and_sums_it_up_over_seeds(tmp_path: Path) -> None:
    async def story(client: httpx.AsyncClient, store: Store) -> None:
        form = {
            "simulation": game({"kind": "stub", "policy": "conditional", "wrong": 0.3}, "conditional"),
            "grid": {"params.punishment": [False, True]},
            "seeds": [0, 1, 2],
        }
        made = await client.post("/v1/experiments", json=form, headers={"Idempotency-Key": "e"})
        assert made.status_code == 202, made.text
        again = await client.post("/v1/experiments", json=form, headers={"Idempotency-Key": "e"})
        assert again.json()["id"] == made.json()["id"]
        path = f"/v1/experiments/{made.json()['id']}"
        async with asyncio.timeout(20):
            while (detail := (await client.get(path)).json())["states"] != {"ended": 6}:
                await asyncio.sleep(0.01)
        assert [point["values"] for point in detail["points"]] == [
            {"params.punishment": False},
            {"params.punishment": True},
        ]
        interval = detail["points"][0]["metrics"]["mean_contribution"]
        assert interval["n"] == 3
        assert interval["low"] <= interval["mean"] <= interval["high"]
        assert (detail["grid"], detail["seeds"]) == (form["grid"], form["seeds"])
        assert [one["id"] for one in (await client.get("/v1/experiments")).json()["data"]] == [detail["id"]]
        assert len((await client.get(SIMS)).json()["data"]) == 6

    with_service(tmp_path, story)


def test_an_experiment_is_stopped_in_one_go_and_what_has_ended_stays(tmp_path: Path) -> None:
    person = {"kind": "human"}
    form = {
        "simulation": game(person, "conditional"),
        "grid": {"agents.0.brain": [person, {"kind": "scripted", "policy": "free_rider"}]},
        "seeds": [0, 1],
    }

    async def stands(client: httpx.AsyncClient, path: str, states: dict[str, int]) -> None:
        async with asyncio.timeout(20):
            while (await client.get(path)).json()["states"] != states:
                await asyncio.sleep(0.01)

    async def story(client: httpx.AsyncClient, store: Store) -> None:
        path = f"/v1/experiments/{(await client.post('/v1/experiments', json=form)).json()['id']}"
        await stands(client, path, {"ended": 2, "waiting": 2})
        for _ in range(2):
            stopped = await client.post(f"{path}:stop")
            assert stopped.status_code == 202, stopped.text
            await stands(client, path, {"ended": 2, "stopped": 2})
        error_of(await client.post("/v1/experiments/none:stop"), 404)

    with_service(tmp_path, story)


def test_an_experiment_that_is_stopped_while_it_is_made_makes_no_more(tmp_path: Path) -> None:
    form = {"simulation": game({"kind": "human"}, "conditional"), "seeds": [0, 1, 2, 3]}
    headers = {"Idempotency-Key": "e"}

    async def story(client: httpx.AsyncClient, store: Store) -> None:
        loop, made, create = asyncio.get_running_loop(), set[str](), store.create

        def stopping(sim: str, spec: Mapping[str, Any], fingerprint: str) -> SimulationRecord:
            fresh = sim not in made  # hosts do the same again
            made.add(sim)
            if fresh and len(made) == 2:
                stop = client.post(f"/v1/experiments/{sim.rpartition('-')[0]}:stop")
                answer = asyncio.run_coroutine_threadsafe(stop, loop).result(20)
                assert answer.json()["stopped"] is True
            return create(sim, spec, fingerprint)

        store.create = stopping  # type: ignore[method-assign]
        for _ in range(2):  # the second finds it stopped
            answer = await client.post("/v1/experiments", json=form, headers=headers)
            assert answer.status_code == 202, answer.text
            assert (answer.json()["stopped"], answer.json()["simulations"]) == (True, 4)
        assert len(made) == 2
        for sim in made:
            assert (await reached(client, sim, "stopped", "ended"))["status"] == "stopped"

    with_service(tmp_path, story)


def test_a_grid_reaches_nothing_that_a_form_may_not(tmp_path: Path) -> None:
    grids: list[dict[str, Any]] = [
        {"scenario": ["os:system"]},
        {"models.m.backend": [{"kind": "openai", "url": "http://10.0.0.1/v1", "model": "x"}]},
        {"agents.1.brain": [{"kind": "custom", "name": "os:system"}]},
        {"params.rounds": list(range(1, 2000))},
        {"no.such": [1]},
        {"seed": [1]},
        {"params.rounds": []},
    ]

    async def story(client: httpx.AsyncClient, store: Store) -> None:
        for grid in grids:
            answer = await client.post("/v1/experiments", json={"simulation": ASKING, "grid": grid})
            error_of(answer, 400)
            assert answer.json()["problems"], grid
        assert (await client.get(SIMS)).json()["data"] == []

    with_service(tmp_path, story, plays=False)


def test_every_scenario_has_a_form_and_an_example_that_can_be_posted(tmp_path: Path) -> None:
    async def story(client: httpx.AsyncClient, store: Store) -> None:
        names = [one["name"] for one in (await client.get("/v1/scenarios")).json()["data"]]
        assert "public_goods" in names
        for name in names:
            detail = (await client.get(f"/v1/scenarios/{name}")).json()
            assert detail["about"]
            assert detail["policies"]
            assert "scenario" in detail["form"]["properties"]
            if detail["example"] is not None:
                made = await client.post(f"{SIMS}?start=false", json=detail["example"])
                assert made.status_code == 202, (name, made.text)
        error_of(await client.get("/v1/scenarios/chess"), 404)

    with_service(tmp_path, story, plays=False)


def test_a_served_simulation_is_the_one_that_is_played_alone(tmp_path: Path) -> None:
    async def story(client: httpx.AsyncClient, store: Store) -> None:
        sim = (await client.post(SIMS, json=game(llm("other"), llm("m")))).json()["id"]
        view = await reached(client, sim, "ended")
        record = store.find(sim)
        assert record is not None
        alone = await play(SimulationSpec.model_validate(record.spec), backends=models())
        assert alone.hash == view["hash"]

    with_service(tmp_path, story)


def test_a_version_of_a_registered_model_may_be_named_and_an_alias_may_not(tmp_path: Path) -> None:
    async def story(client: httpx.AsyncClient, store: Store) -> None:
        made = await client.post(SIMS, json=game(llm("models:/judge/3"), "conditional"))
        assert made.status_code == 202, made.text
        spec = (await client.get(f"{SIMS}/{made.json()['id']}")).json()["spec"]
        assert spec["models"]["models:/judge/3"]["revision"] == "models:/judge/3"
        for name in ("models:/judge@prod", "models:/other/1", "models:/judge/latest", f"models:/judge/1{'0' * 10}"):
            error_of(await client.post(SIMS, json=game(llm(name), "conditional")), 400)

    with_service(tmp_path, story, plays=False, registry={"allow": ["judge"]})


def test_a_key_that_has_used_its_day_has_nothing_played_and_still_looks_and_pauses(tmp_path: Path) -> None:
    async def story(client: httpx.AsyncClient, store: Store) -> None:
        book = KeyBook(tmp_path / "keys.json")
        whole, key = book.create("ann", SCOPES, tokens_per_day=10)
        client.headers["Authorization"] = f"Bearer {whole}"
        sim = (await client.post(SIMS, json=ASKING)).json()["id"]
        assert [o.payload for o in store.operations(sim) if o.kind == PAYER] == [{"key": key.id}]
        usage_beside(book.file).add(key.id, 10)
        for path, form in (
            ("", ASKING),
            (f"/{sim}:resume", None),
            (f"/{sim}:step", None),
            (f"/{sim}:fork", {"at": 0}),
            (f"/{sim}/agents/a/interview", {"question": "Who?"}),
            ("/../experiments", {"name": "e", "seeds": [0], "simulation": ASKING}),
        ):
            answer = await client.post(f"{SIMS}{path}".replace("simulations/../", ""), json=form)
            assert error_of(answer, 429)["code"] == "token_quota_exceeded", path
            assert 0 < int(answer.headers["Retry-After"]) <= 86_401
        assert (await client.get(f"{SIMS}/{sim}")).json()["status"] == "queued"
        for verb in ("pause", "stop"):
            assert (await client.post(f"{SIMS}/{sim}:{verb}")).status_code == 202

    with_service(tmp_path, story, plays=False, access={"required": True})


def test_whoever_asked_last_to_have_it_played_pays(tmp_path: Path) -> None:
    async def story(client: httpx.AsyncClient, store: Store) -> None:
        book = KeyBook(tmp_path / "keys.json")
        (ann, first), (bob, second) = (book.create(name, SCOPES) for name in ("ann", "bob"))
        by_ann, by_bob = ({"Authorization": f"Bearer {whole}"} for whole in (ann, bob))
        sim = (await client.post(f"{SIMS}?start=false", json=ASKING, headers=by_ann)).json()["id"]
        await client.post(f"{SIMS}/{sim}:step", headers=by_ann)
        await client.post(f"{SIMS}/{sim}:resume", headers=by_bob)
        experiment = {"name": "e", "seeds": [0, 1], "simulation": ASKING}
        made = (await client.post("/v1/experiments", json=experiment, headers=by_bob)).json()
        payers = {
            one: [o.payload["key"] for o in store.operations(one) if o.kind == PAYER]
            for one in (sim, *made["points"][0]["simulations"])
        }
        assert list(payers.values()) == [[first.id, second.id], [second.id], [second.id]]
        shown = (await client.get(f"{SIMS}/{sim}", headers=by_bob)).text
        assert first.id not in shown
        assert second.id not in shown

    with_service(tmp_path, story, plays=False, access={"required": True})


def test_reading_and_writing_take_their_scopes(tmp_path: Path) -> None:
    async def story() -> None:
        async with service(tmp_path, None, access={"required": True}) as (client, _):
            book = KeyBook(tmp_path / "keys.json")
            key, _ = book.create("reader", ("simulations.read",))
            client.headers["Authorization"] = f"Bearer {key}"
            assert (await client.get(SIMS)).status_code == 200
            assert error_of(await client.post(SIMS, json=SCRIPTED), 403)["code"] == "missing_scope"
            del client.headers["Authorization"]
            error_of(await client.get(SIMS), 401)

    asyncio.run(story())
