"""The endpoint on real Ray Serve: keys, OpenAI's client, streams, a simulation to its end, and its run in MLflow."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import openai
import pytest
import ray
from ray import serve

from services.deployments import build
from steerline.config.serving import ServingSpec
from steerline.config.simulation import SimulationSpec
from steerline.errors import TrackingError
from steerline.orchestration.ports import free_ports
from steerline.orchestration.stack import Stack
from steerline.serving.keys import SCOPES, KeyBook
from steerline.simulation.runner import run
from steerline.tracking.queries import find_run
from tests.integration.cluster import serving
from tests.unit import documentation as docs

pytestmark = [pytest.mark.integration, pytest.mark.slow]

MODEL = "smollm2-135m-instruct"
"""As the guide calls it; here a small random model answers under that name."""
SIZES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 20_000,
}
TEAM = {
    "scenario": "discussion",
    "max_ticks": 3,
    "params": {"rounds": 1},
    "models": {"m": {"backend": {"kind": "served", "name": "noisy"}}},
    "agents": [{"id": name, "brain": {"kind": "llm", "model": "m"}} for name in ("ann", "bob")],
}
SPEC = {
    "models": {
        MODEL: {
            "kind": "local",
            "model": {"source": {"kind": "random", "architecture": "llama", "overrides": SIZES}},
        },
        "noisy": {"kind": "noisy", "answers": ["ANSWER: 1"], "garble_rate": 0.2},
    },
    "teams": {"council": {"simulation": TEAM}},
    "limits": {"requests_per_minute": 6000, "lease_s": 2, "most_tokens": 16_000},
}
GUIDE = docs.ROOT / "docs" / "serving.md"


@dataclass(frozen=True)
class Endpoint:
    url: str
    key: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def get(self, path: str, **query: Any) -> httpx.Response:
        return httpx.get(self.url + path, headers=self.headers, params=query, timeout=60)

    def post(self, path: str, body: Any = None) -> httpx.Response:
        return httpx.post(self.url + path, headers=self.headers, json=body, timeout=60)

    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=self.key, max_retries=0, timeout=60)


@pytest.fixture(scope="module")
def endpoint(stack: Stack) -> Iterator[Endpoint]:
    """Deployed once for this module, with a key that may do everything."""
    (port,) = free_ports(1)
    key, _ = KeyBook(stack.folder / "keys.json").create("test", SCOPES)
    with serving(stack, port):
        serve.run(build(ServingSpec.model_validate(SPEC)), name="steerline", route_prefix="/")
        yield Endpoint(f"http://127.0.0.1:{port}", key)


def test_health_is_open_and_everything_else_wants_a_key(endpoint: Endpoint) -> None:
    with httpx.Client(base_url=endpoint.url, timeout=60) as stranger:
        assert stranger.get("/readyz").json() == {"status": "ok"}
        assert stranger.get("/healthz").json() == {"status": "ok"}
        assert stranger.get("/v1/models").status_code == 401
    assert {card["id"] for card in endpoint.get("/v1/models").json()["data"]} == {
        MODEL,
        "noisy",
        "team:council",
    }


def test_openais_client_chats_streams_and_names_its_errors(endpoint: Endpoint) -> None:
    with endpoint.client() as client:
        asked: dict[str, Any] = {
            "model": MODEL,
            "messages": [{"role": "user", "content": "hello"}],
            "temperature": 0,
            "max_tokens": 12,
        }
        whole = client.chat.completions.create(**asked)
        pieces = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
        streamed = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
        assert streamed == whole.choices[0].message.content
        assert pieces[-1].usage == whole.usage
        plain = client.chat.completions.create(**asked, extra_body={"steering": 0})
        assert plain.choices[0].message.content == whole.choices[0].message.content
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(**{**asked, "model": "nobody"})
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(**{**asked, "temperature": -1})
    with (
        openai.OpenAI(base_url=f"{endpoint.url}/v1", api_key="sk-steerline-none", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError),
    ):
        stranger.models.list()


def test_a_client_that_goes_away_stops_its_generation(endpoint: Endpoint) -> None:
    models = ray.get_actor(replica_of("Models"), namespace="serve")
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 16_000,  # which take much longer than the wait below
        "stream": True,
        "temperature": 0,
    }
    with httpx.stream(
        "POST", f"{endpoint.url}/v1/chat/completions", headers=endpoint.headers, json=body, timeout=60
    ) as answer:
        lines = answer.iter_lines()  # kept: without its reader the answer would be closed at once
        next(lines)
        assert ray.get(models.get_num_ongoing_requests.remote()) == 1
    eventually(lambda: ray.get(models.get_num_ongoing_requests.remote()) == 0 or None, within_s=10)


def test_a_team_answers_as_a_model_does(endpoint: Endpoint) -> None:
    with endpoint.client() as client:
        question = {"model": "team:council", "messages": [{"role": "user", "content": "Why do people share?"}]}
        answer = client.chat.completions.create(**question)
        assert answer.choices[0].message.content
        assert answer.choices[0].finish_reason == "stop"


def test_a_simulation_is_played_to_its_end_and_recorded(endpoint: Endpoint, stack: Stack) -> None:
    agents = [{"id": name, "brain": {"kind": "llm", "model": "noisy"}} for name in ("ann", "bob", "eve")]
    made = endpoint.post(
        "/v1/simulations",
        {
            "scenario": "public_goods",
            "name": "served",
            "params": {"rounds": 3},
            "max_ticks": 3,
            "seed": 5,
            "straggler": {"policy": "default"},
            "agents": agents,
        },
    )
    assert made.status_code == 202, made.text
    sim = made.json()["id"]
    view = settled(endpoint, sim)
    assert view["status"] == "ended", view
    events = [line for line in endpoint.get(f"/v1/simulations/{sim}/events").text.splitlines() if line]
    assert len(events) >= 3 * len(agents)
    assert eventually(lambda: recorded(stack, sim)).status == "FINISHED"


def test_a_simulation_outlives_the_replica_that_plays_it(endpoint: Endpoint) -> None:
    agents = [{"id": f"agent-{n}", "brain": {"kind": "scripted", "policy": "conditional"}} for n in range(12)]
    form = {
        "scenario": "public_goods",
        "name": "long",
        "params": {"rounds": 600},
        "max_ticks": 600,
        "seed": 7,
        "agents": agents,
    }
    replica = ray.get_actor(replica_of("Simulations"), namespace="serve")
    sim = endpoint.post("/v1/simulations", form).json()["id"]
    eventually(lambda: endpoint.get(f"/v1/simulations/{sim}").json()["tick"] > 5 or None)
    ray.kill(replica)
    assert endpoint.get(f"/v1/simulations/{sim}").json()["tick"] < 600
    view = settled(endpoint, sim)
    assert view["status"] == "ended", view
    undisturbed = run(SimulationSpec.model_validate(form))
    assert view["hash"] == undisturbed.hash


def test_a_simulation_pauses_once_its_key_has_used_its_day(endpoint: Endpoint, stack: Stack) -> None:
    key, _ = KeyBook(stack.folder / "keys.json").create("frugal", SCOPES, tokens_per_day=20)
    frugal = Endpoint(endpoint.url, key)
    agents = [{"id": name, "brain": {"kind": "llm", "model": "noisy"}} for name in ("ann", "bob")]
    form = {"scenario": "public_goods", "params": {"rounds": 50}, "max_ticks": 50, "agents": agents}
    sim = frugal.post("/v1/simulations", form).json()["id"]
    view = eventually(lambda: view if (view := frugal.get(f"/v1/simulations/{sim}").json())["reason"] else None)
    assert "the key that pays for it has used" in view["reason"]
    assert view["tick"] < 50
    refused = frugal.post("/v1/simulations", form)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "token_quota_exceeded")
    assert int(refused.headers["Retry-After"]) > 0


def test_the_stream_of_a_revoked_key_ends(endpoint: Endpoint, stack: Stack) -> None:
    keys = KeyBook(stack.folder / "keys.json")
    key, _ = keys.create("guest", SCOPES)
    agents = [
        {"id": "ann", "brain": {"kind": "human"}},
        {"id": "bob", "brain": {"kind": "scripted", "policy": "conditional"}},
    ]
    form = {"scenario": "public_goods", "params": {"rounds": 1}, "max_ticks": 1, "agents": agents}
    sim = endpoint.post("/v1/simulations", form).json()["id"]
    headers = {"Authorization": f"Bearer {key}", "Accept": "text/event-stream"}
    with httpx.stream("GET", f"{endpoint.url}/v1/simulations/{sim}/events", headers=headers, timeout=60) as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("retry")
        keys.revoke("guest")
        assert "event: error" in list(lines)


def test_what_the_guide_shows_runs(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", f"{endpoint.url}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", endpoint.key)
    shown = [block for block in docs.blocks(GUIDE) if block.language == "python"]
    assert len(shown) >= 2
    for block in shown:
        exec(compile(block.text, docs.name(GUIDE), "exec"), {})
        assert capsys.readouterr().out


def replica_of(deployment: str) -> str:
    """Name of the actor that is a deployment's one replica."""
    names = [actor["name"] for actor in ray.util.list_named_actors(all_namespaces=True)]
    (found,) = [name for name in names if f"#{deployment}#" in name]
    return found


def settled(endpoint: Endpoint, sim: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        view: dict[str, Any] = endpoint.get(f"/v1/simulations/{sim}").json()
        return None if view["status"] in {"created", "queued", "running"} else view

    return eventually(look)


def recorded(stack: Stack, sim: str) -> Any:
    try:
        found = find_run(stack.tracking_uri, sim)
    except TrackingError:
        return None
    return found if found.status == "FINISHED" else None


def eventually(look: Any, within_s: float = 300.0) -> Any:
    """What `look` finds; other processes are at work, so it is asked again for a while."""
    deadline = time.monotonic() + within_s
    while (found := look()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found
