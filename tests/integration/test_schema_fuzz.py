"""Requests made of the OpenAPI document, fit and unfit: none meets a fault, none is answered in an undocumented way."""

from __future__ import annotations

from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from services.app import web_app
from services.parts import Parts
from steerline.config.serving import ServingSpec
from steerline.config.simulation import SimulationSpec
from steerline.serving.keys import KeyBook
from steerline.serving.models import ServedModels
from steerline.simulation.runner import run
from steerline.simulation.scenarios.public_goods import game
from steerline.simulation.store.base import Store
from steerline.simulation.store.memory import MemoryStore
from tests.unit.services.openai_service import Speaker
from tests.unit.services.stand_in import Bell

PLAYED, STANDING, AGENT = "sim-played", "sim-standing", "ann"
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


def _store() -> Store:
    """A store with a simulation that has ended, and one that nobody plays and that takes controls."""
    store = MemoryStore()
    spec: SimulationSpec = game([(AGENT, "conditional"), ("bob", "punisher")], rounds=3, punishment=True)
    run(spec, store=store, sim=PLAYED)
    run(spec, store=store, sim=STANDING, ticks=1)
    for sim in (PLAYED, STANDING):
        store.enlist(sim)
    return store


def _schema() -> Any:
    access = {"required": False, "hosts": ["testserver"]}
    spec = ServingSpec.model_validate(
        {"models": {"small": {"kind": "noisy"}}, "tracking": None, "access": access, "console": False}
    )
    keys = KeyBook(Path(mkdtemp(prefix="steerline-fuzz-")) / "keys.json")
    app = web_app(Parts(spec, ServedModels(spec, {"small": Speaker()}), _store(), Bell(), keys))
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)

    @schema.hook
    def map_path_parameters(context: Any, path_parameters: Any) -> Any:
        # Whoever follows one that has ended comes to an end too.
        sim = PLAYED if context.operation.method.upper() == "GET" else STANDING
        for name, value in {"sim": sim, "agent": AGENT, "model_id": "small"}.items():
            # An even length stands for what is there, another one for what is not.
            if name in (path_parameters or {}) and len(str(path_parameters[name])) % 2 == 0:
                path_parameters[name] = value
        return path_parameters

    @schema.hook
    def map_body(context: Any, body: Any) -> Any:
        if isinstance(body, dict) and isinstance(body.get("model"), str) and len(body["model"]) % 2 == 0:
            body["model"] = "small"
        if isinstance(body, dict) and isinstance(body.get("scenario"), str):
            body |= {"scenario": "public_goods", "params": {}}
        return body

    return schema


schema = _schema()


@schema.parametrize()
@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@pytest.mark.slow
def test_every_answer_is_documented_and_none_is_a_fault(case: Any) -> None:
    case.call_and_validate(checks=CHECKS)
