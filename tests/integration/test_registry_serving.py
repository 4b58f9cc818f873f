"""A model that a run has exported and registered, asked for by its alias through OpenAI's client."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai as official
import pytest
from ray import serve

from services.deployments import Models
from services.serve_backend import ServeInference
from steerline.config.inference import SamplingSpec
from steerline.config.serving import ServingSpec
from steerline.config.tracking import TrackingSpec
from steerline.home import HOME_VARIABLE
from steerline.inference.request import GenRequest
from steerline.models.card import ModelCard
from steerline.models.export import export_model
from steerline.orchestration.ports import free_ports
from steerline.orchestration.stack import Stack
from steerline.serving.models import ServedModels
from steerline.serving.versions import versions_of
from steerline.tracking.recorder import Recorder
from steerline.tracking.registry import aliases, lookup, register
from steerline.tracking.runs import start_run
from tests.integration.cluster import serving
from tests.integration.mlflow_fixture import MlflowServer
from tests.tiny import tiny_model, tiny_tokenizer
from tests.unit.services.openai_service import application, openai

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """With version 1 of `tiny`, whose alias is `champion`, and version 2, whose weights only the server has."""
    server = MlflowServer(tmp_path_factory.mktemp("mlflow"))
    server.start()
    folder = tmp_path_factory.mktemp("run")
    export_model(None, tiny_model("llama"), tiny_tokenizer(), folder / "export", ModelCard("run", "base", "hash"))
    run = start_run(TrackingSpec(uri=server.uri, experiment="tests"), run_name="run", kind="finetune")
    recorder = Recorder(run, folder / "spool")
    recorder.exported_model("export", folder / "export", 1)
    assert recorder.close(120.0)
    register(run, "export", "tiny", "champion")
    export_model(None, tiny_model("llama"), tiny_tokenizer(), folder / "gone", ModelCard("run", "base", "hash"))
    recorder = Recorder(run, folder / "spool")
    recorder.exported_model("gone", folder / "gone", 2, upload_weights=True)
    assert recorder.close(120.0)
    register(run, "gone", "tiny")
    shutil.rmtree(folder / "gone")
    yield server
    server.kill()


def test_what_the_registry_does_not_have_is_none(server: MlflowServer) -> None:
    found = lookup(server.uri, "models:/tiny@champion")
    assert found is not None
    assert found.uri == "models:/tiny/1"
    assert lookup(server.uri, "models:/tiny/1") is not None
    for reference in ("models:/tiny@nobody", "models:/tiny/7", "models:/other@champion", "models:/other/1"):
        assert lookup(server.uri, reference) is None
    assert aliases(server.uri, "tiny") == {"champion": "1"}


def test_a_registered_model_answers_under_its_alias_and_its_version(
    server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    changes: dict[str, Any] = {"registry": {"allow": ["tiny"]}, "tracking": {"uri": server.uri}}
    served = ServedModels(ServingSpec.model_validate(changes))
    with openai(application(tmp_path, changes, inference=served)) as client:
        assert [model.id for model in client.models.list()] == ["models:/tiny@champion"]
        texts = [
            client.completions.create(model=model, prompt="hello", temperature=0, max_tokens=8).choices[0].text
            for model in ("models:/tiny@champion", "models:/tiny/1", "models:/tiny/2")
        ]
        assert texts[0] == texts[1] == texts[2] != ""
        assert [path.name for path in (tmp_path / "home" / "served").iterdir() if path.is_dir()] == ["tiny-2"]
        for model in ("models:/tiny/3", "models:/tiny@challenger", "models:/other/1"):
            with pytest.raises(official.NotFoundError):
                client.completions.create(model=model, prompt="hello")


def test_a_replica_that_has_a_registered_model_gets_the_requests_for_it(server: MlflowServer, stack: Stack) -> None:
    class Shown(Models):
        """Tells which replica it is, and what it holds."""

        async def held(self) -> tuple[str, list[str]]:
            return serve.get_replica_context().replica_id.unique_id, sorted(self._models.registered)

    spec = ServingSpec.model_validate({"registry": {"allow": ["tiny"]}, "tracking": {"uri": server.uri}})
    sampling = SamplingSpec(max_tokens=2)

    async def ask() -> dict[str, list[str]]:
        inference = ServeInference(handle, versions_of(spec))
        for model in (*["models:/tiny@champion", "models:/tiny/1"] * 5, *["models:/tiny/2"] * 5):
            (result,) = await inference.generate([GenRequest(model, prompt="hello", sampling=sampling)])
            assert result.failure is None, result.failure
        held = dict([await handle.held.remote()])
        while len(held) < 2:
            held |= [await handle.held.remote()]
        return held

    (port,) = free_ports(1)
    with serving(stack, port):
        options: Any = {"name": "Models", "num_replicas": 2, "ray_actor_options": {"num_cpus": 0}}
        handle = serve.run(serve.deployment(Shown).options(**options).bind(spec), name="registered", route_prefix=None)
        held = asyncio.run(ask())
    assert sorted(held.values()) == [["models:/tiny/1"], ["models:/tiny/2"]]
