"""The last part of `make demo`: the model that was just trained debates with itself, one side of it steered."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import ray
from ray import serve

from services.deployments import build
from steerline.config.serving import ServingSpec
from steerline.config.steering import SteeringSpec
from steerline.errors import TrainingError
from steerline.orchestration import auth
from steerline.orchestration.ports import free_ports
from steerline.orchestration.stack import Stack
from steerline.serving.keys import KeyBook

MODEL = "just-trained"
OPERANDS = (7, 2, 8)
_ROUTE = "/demo"
_POLL_S = 0.3
_WITHIN_S = 180.0
_OPEN = {"created", "queued", "running"}

Tell = Callable[[str], None]


def debate(stack: Stack, run: str, steering: SteeringSpec, tell: Tell) -> None:
    """Serve what a run has exported, have two agents debate over HTTP, and print what they say.

    Args:
        stack: a running one.
        run: name of the run.
        steering: acts in one of the two.
        tell: prints a line.

    Raises:
        TrainingError: the debate did not come to its end.
    """
    keys = KeyBook(stack.folder / "keys.json")
    key, entry = keys.create(f"demo-{time.time_ns()}", ["simulations.read", "simulations.write"])
    try:
        with _endpoint(stack, run) as url, httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
            client.headers["Authorization"] = f"Bearer {key}"
            tell(f"endpoint {url}/v1 serves {MODEL}: {run}")
            _play(client, steering, tell)
    finally:
        keys.revoke(entry.id)


@contextmanager
def _endpoint(stack: Stack, run: str) -> Iterator[str]:
    """An endpoint with the run's model beside whatever the stack serves already."""
    source = {"kind": "run", "run": run}
    models = {MODEL: {"kind": "local", "model": {"source": source}, "dtype": "bfloat16"}}
    # A store of its own: the stack's own endpoint does not know the model.
    spec = ServingSpec.model_validate({"models": models, "store": str(stack.folder / "demo.db"), "console": False})
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    head = stack.environment()["RAY_ADDRESS"]
    ray.init(address=head, namespace="serve", log_to_driver=False, logging_level=logging.WARNING)
    try:
        port = stack.endpoint_port or free_ports(1)[0]
        serve.start(http_options={"host": "127.0.0.1", "port": port}, proxy_location="HeadOnly")
        serve.run(build(spec), name="demo", route_prefix=_ROUTE)
        yield f"http://127.0.0.1:{port}{_ROUTE}"
    finally:
        serve.delete("demo")
        ray.shutdown()
        if stack.endpoint is None:
            # Asked of the head: a driver would be told how the controller goes down.
            httpx.delete(
                f"{stack.address}/api/serve/applications/", headers=auth.headers(stack.environment()), timeout=60
            ).raise_for_status()


def _play(client: httpx.Client, steering: SteeringSpec, tell: Tell) -> None:
    brain = {"kind": "llm", "model": MODEL, "sampling": {"max_tokens": 40}}
    form = {
        "scenario": "debate",
        "name": "demo-debate",
        "max_ticks": 2,
        "params": {"rounds": 1, "operands": OPERANDS},
        "agents": [
            {"id": "plain", "brain": brain},
            {"id": "steered", "brain": {**brain, "steering": steering.model_dump(mode="json")}},
        ],
    }
    made = client.post("/v1/simulations", json=form)
    if made.status_code != httpx.codes.ACCEPTED:
        raise TrainingError("the endpoint refused the debate", got=made.text)
    sim = str(made.json()["id"])
    a, b, c = OPERANDS
    tell(f"  {'question':<8} {a} + {b} * {c} = ?")
    after, recorded, deadline = 0, None, time.monotonic() + _WITHIN_S
    # The address of its run in MLflow comes a moment after the end.
    while recorded is None:
        for event in _events(client, sim, after):
            after = event["seq"]
            _show(event, tell)
        view = client.get(f"/v1/simulations/{sim}").json()
        recorded = next((entry["payload"]["at"] for entry in view["operations"] if entry["kind"] == "recorded"), None)
        stopped = view["status"] not in _OPEN | {"ended"}
        if stopped or time.monotonic() > deadline:
            raise TrainingError("the debate did not end", got=f"{view['status']}: {view['reason']}")
        time.sleep(_POLL_S)
    tell(f"{'debate':<10} {recorded}")


def _events(client: httpx.Client, sim: str, after: int) -> list[dict[str, Any]]:
    lines = client.get(f"/v1/simulations/{sim}/events", params={"after": after}).text.splitlines()
    return [json.loads(line) for line in lines if line]


def _show(event: dict[str, Any], tell: Tell) -> None:
    if event["kind"] in {"action.taken", "action.invalid"}:
        said = " ".join(str(event["payload"].get("text", "")).split())
        tell(f"  {event['agent']:<8} {said}")
    elif event["kind"] == "env.changed" and event["payload"].get("vote") is not None:
        tell(f"  {'vote':<8} {event['payload']['vote']}")
