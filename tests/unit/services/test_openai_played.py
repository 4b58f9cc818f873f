"""Teams and agents behind the chat endpoint: answers that simulations give."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.app import web_app
from services.inference import played
from services.parts import Parts
from steerline.config.serving import ServingSpec
from steerline.errors import ConfigError, SimulationError, StoreAwayError
from steerline.inference.backends.scripted import ScriptedBackend
from steerline.inference.request import Failure, GenRequest
from steerline.serving import teams
from steerline.serving.keys import KeyBook
from steerline.serving.models import ServedModels
from steerline.serving.paying import Purses
from steerline.serving.usage import usage_beside
from steerline.simulation.store.memory import MemoryStore
from tests.unit.services.openai_service import CHATS, Failing, Speaker
from tests.unit.services.simulation_service import LocalHosts
from tests.unit.serving.hosting import host, until

QUESTION = "How many legs has a spider?"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    # Whether a simulation stands still is looked at with each sign of life.
    monkeypatch.setattr(played, "_HEARTBEAT_S", 0.05)


def policy(request: GenRequest) -> str:
    said = request.messages[-1].content
    if "Write the one answer" in said:
        return "eight"
    return "I feel well." if "How are you" in said else "I think eight."


def agents(*names: str) -> list[dict[str, Any]]:
    brain = {"kind": "llm", "model": "m", "sampling": {"max_tokens": 20}}
    return [{"id": name, "brain": brain, "profile": {"role": "editor" if name == "editor" else ""}} for name in names]


def discussion(**more: Any) -> dict[str, Any]:
    models = {"m": {"backend": {"kind": "served", "name": "small"}}}
    form = {"scenario": "discussion", "params": {"rounds": 2}, "max_ticks": 9, "models": models}
    return {**form, "agents": agents("ann", "bob", "editor"), **more}


TEAMS: dict[str, Any] = {"panel": {"about": "Two who talk, one who writes", "simulation": discussion()}}


class Service:
    """An endpoint with one host of simulations, which is there once `play` is set."""

    def __init__(self, folder: Path, model: Any, spec: dict[str, Any]) -> None:
        self.store, self.hosts = MemoryStore(), LocalHosts()
        self.spec = ServingSpec.model_validate(
            {
                "models": {"small": {"kind": "noisy"}},
                "teams": TEAMS,
                "tracking": None,
                "access": {"required": False},
                "console": False,
                **spec,
            }
        )
        self.keys = KeyBook(folder / "keys.json")
        served = ServedModels(self.spec, {"small": model})
        self.app = web_app(Parts(self.spec, served, self.store, self.hosts, self.keys))


@asynccontextmanager
async def endpoint(
    folder: Path, model: Any = None, purses: Purses | None = None, **spec: Any
) -> AsyncIterator[tuple[httpx.AsyncClient, Service]]:
    model = model or ScriptedBackend(policy)
    service = Service(folder, model, spec)
    transport = httpx.ASGITransport(service.app, raise_app_exceptions=False)
    async with (
        httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=20) as client,
        host(service.store, backends={"small": model}, purses=purses) as service.hosts.host,
    ):
        yield client, service


def chat(model: str, text: str = QUESTION, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


def test_a_team_answers_and_its_usage_is_that_of_all_its_calls(tmp_path: Path) -> None:
    async def play() -> None:
        async with endpoint(tmp_path) as (client, service):
            response = await client.post(CHATS, json=chat("team:panel", seed=3))
            answer = response.json()
            assert response.status_code == 200, answer
            assert answer["choices"][0]["message"]["content"] == "eight"
            sim = answer["x_steerline"]["simulation"]
            record = service.store.find(sim)
            assert record is not None
            assert (record.status, record.spec["params"]["question"], record.spec["seed"]) == ("ended", QUESTION, 3)
            calls = list(service.store.calls(sim))
            assert len(calls) == 2 * 2 + 1
            completion = sum(call.result["usage"]["completion_tokens"] for call in calls)
            assert answer["usage"]["completion_tokens"] == completion == 4 * 3 + 1
            listed = (await client.get("/v1/models")).json()["data"]
            assert [(card["id"], card["about"]) for card in listed][-1] == (
                "team:panel",
                "Two who talk, one who writes",
            )

    asyncio.run(play())


@pytest.mark.parametrize("shown", [True, False])
def test_a_stream_of_a_team_may_show_what_each_agent_says(tmp_path: Path, shown: bool) -> None:
    async def play() -> None:
        async with endpoint(tmp_path) as (client, _):
            more: dict[str, Any] = {
                "stream": True,
                "stream_options": {"include_usage": True},
                "x_steerline": {"agents": shown},
            }
            response = await client.post(CHATS, json=chat("team:panel", **more))
        data = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line.startswith("data: ")]
        assert data.pop() == "[DONE]"
        chunks = [json.loads(one) for one in data]
        text = "".join(c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"])
        assert text == "eight"
        said = [(c["x_steerline"]["agent"], c["x_steerline"]["text"]) for c in chunks if c["x_steerline"]["agent"]]
        round_ = [("ann", "I think eight."), ("bob", "I think eight.")]
        assert said == ([*round_, *round_, ("editor", "eight")] if shown else [])
        assert chunks[-1]["usage"]["completion_tokens"] == 13

    asyncio.run(play())


def test_a_team_whose_model_fails_has_no_answer_and_says_why(tmp_path: Path) -> None:
    async def play() -> None:
        failing = Failing(Failure("refused", "because"))
        async with endpoint(tmp_path, failing) as (client, _):
            whole = await client.post(CHATS, json=chat("team:panel"))
            streamed = await client.post(CHATS, json=chat("team:panel", stream=True))
        assert (whole.status_code, whole.json()["error"]["code"]) == (503, "no_answer")
        assert "because" in whole.json()["error"]["message"]
        assert '"code": "no_answer"' in streamed.text

    asyncio.run(play())


@pytest.mark.parametrize("stream", [False, True])
def test_a_team_whose_key_has_used_its_day_meanwhile_is_answered_as_a_completion_is(
    tmp_path: Path, stream: bool
) -> None:
    async def play() -> None:
        purses = Purses(KeyBook(tmp_path / "keys.json"), usage_beside(tmp_path / "keys.json"))
        async with endpoint(tmp_path, purses=purses, access={"required": True}) as (client, service):
            key, _ = service.keys.create("k", ("inference",), tokens_per_day=1)
            client.headers["Authorization"] = f"Bearer {key}"
            team = await client.post(CHATS, json=chat("team:panel", stream=stream))
            plain = await client.post(CHATS, json=chat("small"))
        assert plain.status_code == 429
        if stream:
            *_, error, done, _ = team.text.split("\n\n")
            assert (json.loads(error.removeprefix("data: ")), done) == (plain.json(), "data: [DONE]")
        else:
            assert (team.status_code, team.json()) == (429, plain.json())
            assert int(team.headers["Retry-After"]) == pytest.approx(int(plain.headers["Retry-After"]), abs=60)

    asyncio.run(play())


@pytest.mark.parametrize(
    ("error", "code"), [(StoreAwayError("the store is busy"), "store"), (RuntimeError("a secret"), "internal_error")]
)
def test_a_stream_of_a_team_that_meets_a_fault_says_so_and_comes_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, code: str
) -> None:
    def fails(*_: object) -> None:
        raise error

    async def play() -> str:
        monkeypatch.setattr(teams, "_outcome", fails)
        async with endpoint(tmp_path) as (client, _):
            return (await client.post(CHATS, json=chat("team:panel", stream=True))).text

    *_, told, done, _ = asyncio.run(play()).split("\n\n")
    assert (json.loads(told.removeprefix("data: "))["error"]["code"], done) == (code, "data: [DONE]")


def test_a_client_that_goes_away_stops_no_team_and_pays_for_it(tmp_path: Path) -> None:
    async def play() -> None:
        usage = usage_beside(tmp_path / "keys.json")
        purses = Purses(KeyBook(tmp_path / "keys.json"), usage)
        async with endpoint(tmp_path, purses=purses, access={"required": True}) as (client, service):
            key, entry = service.keys.create("k", ("inference",), tokens_per_day=10_000)
            host, service.hosts.host = service.hosts.host, None
            headers = {"Authorization": f"Bearer {key}"}
            asking = asyncio.create_task(client.post(CHATS, json=chat("team:panel"), headers=headers))
            await until(lambda: service.hosts.woken)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            (sim,) = service.hosts.woken
            assert host is not None
            host.wake()
            await until(lambda: (record := service.store.find(sim)) is not None and record.status == "ended")
            asked = [call.result["usage"] for call in service.store.calls(sim)]
            # They are written down beside what goes on. An answer that two agents share counts once.
            await until(lambda: usage.today(entry.id) > 13)
            assert usage.today(entry.id) <= sum(one["prompt_tokens"] + one["completion_tokens"] for one in asked)

    asyncio.run(play())


def test_an_agent_of_a_running_simulation_answers_as_itself(tmp_path: Path) -> None:
    async def play() -> None:
        # Agents that never come to an end, so that there is time to ask.
        forever = {"params": {"rounds": 100_000}, "max_ticks": 100_000}
        async with endpoint(tmp_path) as (client, service):
            made = await client.post("/v1/simulations", json=discussion(models={"m": {"model": "small"}}, **forever))
            assert made.status_code == 202, made.text
            sim = made.json()["id"]
            response = await client.post(CHATS, json=chat(f"agent:{sim}/bob", "How are you?"))
            assert response.status_code == 200, response.text
            answer = response.json()
            assert answer["choices"][0]["message"]["content"] == "I feel well."
            assert answer["usage"]["completion_tokens"] == 3
            stranger = await client.post(CHATS, json=chat(f"agent:{sim}/nobody"))
            assert stranger.status_code == 503
            assert "nobody" in stranger.json()["error"]["message"]
            await client.post(f"/v1/simulations/{sim}:stop")
            await until(lambda: (record := service.store.find(sim)) is not None and record.status == "stopped")
            over = await client.post(CHATS, json=chat(f"agent:{sim}/bob"))
            assert over.status_code == 400

    asyncio.run(play())


def test_how_answers_are_drawn_reaches_every_turn_of_a_team_and_the_agent_that_is_asked(tmp_path: Path) -> None:
    asked: list[GenRequest] = []

    def kept(request: GenRequest) -> str:
        asked.append(request)
        return policy(request)

    async def play() -> None:
        drawn = {"temperature": 0.5, "top_p": 0.9, "max_completion_tokens": 7, "seed": 4}
        async with endpoint(tmp_path, ScriptedBackend(kept)) as (client, _):
            assert (await client.post(CHATS, json=chat("team:panel", **drawn))).status_code == 200
            team = [(one.sampling.temperature, one.sampling.top_p, one.sampling.max_tokens) for one in asked]
            assert team == [(0.5, 0.9, 7)] * 5
            forever = {"params": {"rounds": 100_000}, "max_ticks": 100_000}
            form = discussion(models={"m": {"model": "small"}}, **forever)
            sim = (await client.post("/v1/simulations", json=form)).json()["id"]
            answer = await client.post(CHATS, json=chat(f"agent:{sim}/bob", "How are you?", **drawn))
            assert answer.status_code == 200, answer.text
            await client.post(f"/v1/simulations/{sim}:stop")
        interviews = [one.sampling for one in asked if "How are you" in one.messages[-1].content]
        assert [(one.temperature, one.top_p, one.max_tokens) for one in interviews] == [(0.5, 0.9, 7)]

    asyncio.run(play())


@pytest.mark.parametrize("model", ["team:other", "agent:none/ann", "agent:../x", "agent:", "team:"])
def test_who_is_not_there_is_not_found(tmp_path: Path, model: str) -> None:
    async def play() -> None:
        async with endpoint(tmp_path, Speaker()) as (client, _):
            response = await client.post(CHATS, json=chat(model))
        assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")

    asyncio.run(play())


@pytest.mark.parametrize("field", [{"steering": 1}, {"n": 2}, {"stop": "x"}, {"logprobs": True}, {"max_tokens": 9999}])
def test_what_does_not_act_on_a_team_is_refused(tmp_path: Path, field: dict[str, Any]) -> None:
    async def play() -> None:
        async with endpoint(tmp_path, Speaker()) as (client, service):
            response = await client.post(CHATS, json=chat("team:panel", **field))
            assert not service.hosts.woken
        assert (response.status_code, response.json()["error"]["param"]) == (400, next(iter(field)))

    asyncio.run(play())


def test_what_says_nothing_may_stand_in_a_question_to_a_team_or_a_model(tmp_path: Path) -> None:
    says_nothing: dict[str, Any] = {
        "n": 1,
        "stop": [],
        "logprobs": False,
        "top_logprobs": 0,
        "response_format": {"type": "text"},
        "tools": [],
        "tool_choice": "none",
        "steering": 0,
    }

    async def play() -> None:
        async with endpoint(tmp_path) as (client, _):
            for model in ("team:panel", "small"):
                for fields in (says_nothing, dict.fromkeys(says_nothing), {"tool_choice": "auto", "steering": {}}):
                    response = await client.post(CHATS, json=chat(model, **fields))
                    assert response.status_code == 200, response.json()

    asyncio.run(play())


@pytest.mark.parametrize(
    ("team", "error"),
    [
        ({"question": "params.topic"}, SimulationError),
        ({"question": "nothing.there"}, ConfigError),
        ({"simulation": discussion(models={"m": {"backend": {"kind": "served", "name": "large"}}})}, SimulationError),
        ({"simulation": discussion(models={"m": {"backend": {"kind": "noisy"}}})}, SimulationError),
        ({"simulation": discussion(params={"rounds": 0})}, SimulationError),
    ],
)
def test_a_team_that_could_not_be_asked_is_refused_at_the_start(
    tmp_path: Path, team: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        Service(tmp_path, Speaker(), {"teams": {"panel": {**TEAMS["panel"], **team}}})


def test_asking_an_agent_needs_the_scope_to_write(tmp_path: Path) -> None:
    async def play() -> None:
        async with endpoint(tmp_path, access={"required": True}) as (client, service):
            key, _ = service.keys.create("k", ("inference", "simulations.read"))
            service.store.create("s", {}, "f")
            service.store.enlist("s")
            response = await client.post(CHATS, json=chat("agent:s/ann"), headers={"Authorization": f"Bearer {key}"})
        assert (response.status_code, response.json()["error"]["code"]) == (403, "missing_scope")

    asyncio.run(play())
