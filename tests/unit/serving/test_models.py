"""The models of one process: by the names of a spec, and by references to the registry."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from steerline.config.serving import ServingSpec
from steerline.errors import ModelError, TrackingError
from steerline.inference.request import ChatMessage, Failure, GenRequest, GenResult, StreamingBackend
from steerline.serving.models import ServedModels
from steerline.serving.registry import RegisteredModels, Room, Weights
from steerline.serving.versions import RegistryAccess, Versions
from steerline.tracking.registry import Registered
from tests.unit.services.openai_service import Endless, Speaker

SPEC = ServingSpec(tracking=None)


@dataclass
class Registry:
    """Versions by reference, and what was made of them."""

    versions: dict[str, str] = field(default_factory=lambda: {"a@champion": "1", "a/1": "1", "a/2": "2", "b/1": "1"})
    away: bool = False
    looked_up: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    on_disk: list[str] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    broken: set[str] = field(default_factory=lambda: {"broken"})
    gate: threading.Event | None = None
    disk_full: bool = False
    now: float = 0.0

    def find(self, reference: str) -> Registered | None:
        self.looked_up.append(reference)
        if self.away:
            raise TrackingError("the server is away")
        path = reference.removeprefix("models:/")
        version = self.versions.get(path)
        name = path.partition("@")[0].partition("/")[0]
        return None if version is None else Registered(name, version, None, "/weights")

    def aliases(self, name: str) -> Mapping[str, str]:
        if self.away:
            raise TrackingError("the server is away")
        return {path.partition("@")[2]: v for path, v in self.versions.items() if path.startswith(f"{name}@")}

    @contextmanager
    def weights(self, version: Registered) -> Iterator[Weights]:
        self.fetched.append(version.uri)
        if self.disk_full:
            raise OSError(errno.ENOSPC, "a path of this machine")
        self.on_disk.append(version.uri)
        try:
            yield Weights(self.sizes.get(version.uri, 1), partial(self.load, version))
        finally:
            self.on_disk.remove(version.uri)

    def load(self, version: Registered) -> StreamingBackend:
        if self.gate is not None:
            assert self.gate.wait(10)
        self.loaded.append(version.uri)
        if version.name in self.broken:
            raise ModelError("files are altered")
        if version.name == "faulty":
            raise RuntimeError("a secret shape")
        return Named(version.uri, self.closed)

    def models(self, *allow: str, room: Room = Room(1), wait_s: float = 10.0) -> RegisteredModels:  # noqa: B008
        versions = Versions(allow or ("a", "b"), RegistryAccess(self.find, self.aliases), clock=lambda: self.now)
        return RegisteredModels(versions, self.weights, room, wait_s=wait_s, clock=lambda: self.now)


class Named(Speaker):
    """Says which version it is."""

    def __init__(self, uri: str, closed: list[str]) -> None:
        super().__init__(lambda _: uri)
        self._uri, self._closed = uri, closed

    async def close(self) -> None:
        self._closed.append(self._uri)


def request(model: str, text: str = "hello") -> GenRequest:
    return GenRequest(model, (ChatMessage("user", text),))


def said(result: GenResult) -> str:
    return result.text if result.failure is None else result.failure.kind


async def one(models: ServedModels, model: str) -> str:
    return said((await models.generate([request(model)]))[0])


def test_requests_of_many_models_are_answered_in_order_and_in_batches_that_fit() -> None:
    class Batches(Speaker):
        sizes: list[int] = []  # noqa: RUF012

        async def generate(self, requests: Any) -> list[GenResult]:
            self.sizes.append(len(requests))
            return await super().generate(requests)

    models = ServedModels(SPEC, {"x": Batches(), "y": Speaker(lambda _: "y")})
    asked = [request("x", "1"), request("y"), request("x", "2"), request("z"), request("x", "3")]
    results = asyncio.run(models.generate(asked))
    assert [said(result) for result in results] == ["1", "y", "2", "unknown_model", "3"]
    assert Batches.sizes == [2, 1]


def test_a_stream_ends_with_its_result_and_closing_it_ends_it_in_the_model() -> None:
    async def play() -> None:
        endless = Endless(1)
        models = ServedModels(SPEC, {"x": Speaker(), "endless": endless})
        pieces = [piece async for piece in models.stream(request("x", "one two"))]
        assert "".join(piece.text for piece in pieces) == "one two"
        assert pieces[-1].result is not None
        (unknown,) = [piece async for piece in models.stream(request("z"))]
        assert unknown.result is not None
        assert said(unknown.result) == "unknown_model"
        stream = models.stream(request("endless"))
        await anext(stream)
        waiting = asyncio.ensure_future(anext(stream))
        while not endless.begun.is_set():
            await asyncio.sleep(0)
        assert models.rows == 1
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert endless.ended.is_set()
        assert models.rows == 0

    asyncio.run(play())


def test_the_spec_of_an_endpoint_opens_its_models_and_tells_no_path(tmp_path: Path) -> None:
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 4}
    source = {"kind": "random", "architecture": "llama", "overrides": {**shape, "intermediate_size": 64}}
    spec = ServingSpec.model_validate(
        {"models": {"stub": {"kind": "noisy"}, "tiny": {"model": {"source": source}, "kind": "local"}}}
    )

    async def play() -> None:
        models = ServedModels(spec)
        stub, tiny = await models.models()
        assert (stub.id, stub.fingerprint, tiny.id) == ("stub", None, "tiny")
        assert tiny.fingerprint is not None
        assert tiny.fingerprint.startswith("fp_")
        results = await models.generate([GenRequest("tiny", prompt="x"), request("stub")])
        assert all(result.failure is None for result in results)
        # The stub has none: it computes nothing here.
        assert {name: (load.running, load.waiting) for name, load in models.loads.items()} == {"tiny": (0, 0)}
        await models.close()

    asyncio.run(play())


def test_an_alias_that_moves_changes_who_answers_and_the_model_unused_for_longest_makes_room() -> None:
    async def play() -> None:
        registry = Registry()
        models = ServedModels(SPEC, {}, registry.models())
        assert await one(models, "models:/a@champion") == "models:/a/1"
        assert await one(models, "models:/a/1") == "models:/a/1"
        registry.versions["a@champion"] = "2"
        assert await one(models, "models:/a@champion") == "models:/a/1"
        registry.now = 11.0
        assert await one(models, "models:/a@champion") == "models:/a/2"
        assert registry.loaded == ["models:/a/1", "models:/a/2"]
        assert registry.closed == ["models:/a/1"]
        registry.away, registry.now = True, 100.0
        assert await one(models, "models:/a@champion") == "models:/a/2"
        assert await one(models, "models:/b/1") == "unavailable"
        assert [card.id for card in await models.models()] == []
        registry.away, registry.now = False, 105.0
        assert [card.id for card in await models.models()] == ["models:/a@champion"]
        await models.close()
        assert registry.closed == ["models:/a/1", "models:/a/2"]

    asyncio.run(play())


@pytest.mark.parametrize(
    "model",
    [
        "models:/secret@champion",
        "models:/secret/1",
        "models:/a",
        "models:/a/../secret/1",
        "models:/a@x/../../y",
        "models:/a/latest",
        "models:/a@champion\n",
        "models://a/1",
        "a@champion",
        "a/1",
        "/a/1",
        "https://example.org/a/1",
    ],
)
def test_a_name_that_is_not_allowed_reaches_nothing(model: str) -> None:
    registry = Registry()
    assert asyncio.run(one(ServedModels(SPEC, {}, registry.models()), model)) == "unknown_model"
    assert registry.looked_up == []


def test_a_version_that_is_not_there_is_unknown() -> None:
    assert asyncio.run(one(ServedModels(SPEC, {}, Registry().models()), "models:/a/7")) == "unknown_model"


def test_who_waits_too_long_for_a_model_is_told_to_come_again_and_finds_it_loaded() -> None:
    async def play() -> None:
        registry = Registry(gate=threading.Event())
        registered = registry.models(wait_s=0.0)
        models = ServedModels(SPEC, {}, registered)
        (result,) = await models.generate([request("models:/a/1")])
        assert result.failure is not None
        assert (result.failure.kind, result.failure.retry_after_s) == ("busy", 5.0)
        assert registry.gate is not None
        registry.gate.set()
        while await one(models, "models:/a/1") == "busy":
            await asyncio.sleep(0)
        assert registry.loaded == ["models:/a/1"]

    asyncio.run(play())


def test_who_waits_for_a_model_when_all_end_is_told_so() -> None:
    async def play() -> None:
        registry = Registry(gate=threading.Event())
        registered = registry.models()
        waiting = asyncio.create_task(one(ServedModels(SPEC, {}, registered), "models:/a/1"))
        while not registry.fetched:
            await asyncio.sleep(0)
        await registered.close()
        assert await waiting == "unavailable"
        assert registry.gate is not None
        registry.gate.set()

    asyncio.run(play())


def test_a_model_that_is_being_asked_is_not_thrown_out() -> None:
    async def play() -> None:
        registry = Registry()
        registered = registry.models()
        models = ServedModels(SPEC, {}, registered)
        async with registered.use("models:/a/1"):
            assert await one(models, "models:/b/1") == "busy"
            assert await one(models, "models:/a/1") == "models:/a/1"
        assert await one(models, "models:/b/1") == "models:/b/1"

    asyncio.run(play())


def test_a_model_that_cannot_be_loaded_is_not_fetched_for_each_request_but_tried_again_later() -> None:
    async def play() -> None:
        registry = Registry(versions={"broken/1": "1", "a/1": "1", "a/2": "2"}, sizes={"models:/a/2": 11})
        models = ServedModels(SPEC, {}, registry.models("broken", "a", room=Room(1, size=10)))
        for unfit in ("models:/broken/1", "models:/a/2"):
            assert [await one(models, unfit) for _ in range(2)] == ["unavailable"] * 2
            assert await one(models, "models:/a/1") == "models:/a/1"
            # Nobody makes room for it again.
            assert await one(models, unfit) == "unavailable"
            assert (registry.fetched.count(unfit), registry.closed) == (1, [])
            assert registry.on_disk == ["models:/a/1"]
        registry.now = 61.0
        assert await one(models, "models:/broken/1") == "unavailable"
        assert registry.fetched.count("models:/broken/1") == 2

    asyncio.run(play())


def test_a_model_that_fails_again_and_again_makes_others_leave_more_and_more_rarely() -> None:
    async def play() -> None:
        registry = Registry(versions={"broken/1": "1", "a/1": "1"})
        models = ServedModels(SPEC, {}, registry.models("broken", "a"))
        tried_at = []
        for minute in range(200):
            registry.now, tries = 60.0 * minute, registry.fetched.count("models:/broken/1")
            await one(models, "models:/a/1")
            await one(models, "models:/broken/1")
            if registry.fetched.count("models:/broken/1") > tries:
                tried_at.append(minute)
        assert tried_at == [0, 1, 3, 7, 15, 31, 63, 123, 183]
        assert registry.closed == ["models:/a/1"] * 9

    asyncio.run(play())


def test_a_model_that_can_be_loaded_again_is_held_off_no_longer_than_at_first_when_it_fails_anew() -> None:
    async def play() -> None:
        registry = Registry(versions={"broken/1": "1", "a/1": "1"}, broken={"broken"})
        models = ServedModels(SPEC, {}, registry.models("broken", "a"))
        seen = []
        for now, broken in ((0.0, True), (61.0, False), (62.0, True), (123.0, False)):
            registry.now, registry.broken = now, {"broken"} if broken else set()
            seen.append(await one(models, "models:/broken/1"))
            await one(models, "models:/a/1")
        assert seen == ["unavailable", "models:/broken/1"] * 2

    asyncio.run(play())


def test_nobody_leaves_for_a_model_that_would_find_too_little_room_even_so() -> None:
    async def play() -> None:
        registry = Registry(sizes={"models:/a/1": 1, "models:/a/2": 7, "models:/b/1": 5})
        registered = registry.models(room=Room(8, size=10))
        models = ServedModels(SPEC, {}, registered)
        assert await one(models, "models:/a/1") == "models:/a/1"
        async with registered.use("models:/a/2"):
            assert await one(models, "models:/b/1") == "busy"
        assert registry.closed == []

    asyncio.run(play())


def test_a_model_at_which_a_library_fails_is_unavailable_and_tells_no_more() -> None:
    registry = Registry(versions={"faulty/1": "1"})
    models = ServedModels(SPEC, {}, registry.models("faulty"))
    (result,) = asyncio.run(models.generate([request("models:/faulty/1")]))
    assert result.failure is not None
    assert (result.failure.kind, "secret" in result.failure.what) == ("unavailable", False)


def test_a_full_disk_is_not_held_against_the_model_that_finds_it() -> None:
    async def play() -> None:
        registry = Registry(disk_full=True)
        models = ServedModels(SPEC, {}, registry.models("a"))
        for _ in range(2):
            (result,) = await models.generate([request("models:/a/1")])
            assert result.failure == Failure(
                "unavailable", "models:/a/1 cannot be loaded: this machine's disk is full", 5
            )
        assert len(registry.fetched) == 2
        registry.disk_full = False
        assert await one(models, "models:/a/1") == "models:/a/1"

    asyncio.run(play())


def test_a_model_that_could_not_be_loaded_leaves_room_for_others() -> None:
    async def play() -> None:
        registry = Registry(versions={"broken/1": "1", "b/1": "1"}, gate=threading.Event())
        registered = registry.models("broken", "b", wait_s=0.0)
        models = ServedModels(SPEC, {}, registered)
        assert await one(models, "models:/broken/1") == "busy"
        assert registry.gate is not None
        registry.gate.set()
        # Nobody waits for it any more when it fails.
        while await one(models, "models:/b/1") == "busy":
            await asyncio.sleep(0)
        assert await one(models, "models:/b/1") == "models:/b/1"

    asyncio.run(play())


def test_weights_in_memory_take_no_more_than_they_may() -> None:
    async def play() -> None:
        sizes = {"models:/a/1": 4, "models:/a/2": 5, "models:/b/1": 6, "models:/b/2": 11}
        registry = Registry(versions={"a/1": "1", "a/2": "2", "b/1": "1", "b/2": "2"}, sizes=sizes)
        registered = registry.models(room=Room(8, size=10))
        models = ServedModels(SPEC, {}, registered)
        for model in ("models:/a/1", "models:/a/2", "models:/a/1"):
            assert await one(models, model) == model
        assert models.registered == {"models:/a/1": 4, "models:/a/2": 5}
        assert await one(models, "models:/b/1") == "models:/b/1"
        assert registry.closed == ["models:/a/2"]
        async with registered.use("models:/a/1"), registered.use("models:/b/1"):
            assert await one(models, "models:/a/2") == "busy"
        (whole,) = await models.generate([request("models:/b/2")])
        assert whole.failure is not None
        assert (whole.failure.kind, "GiB" in whole.failure.what) == ("unavailable", True)
        assert models.registered == {"models:/a/1": 4, "models:/b/1": 6}
        # Of what is in memory alone are files held.
        assert sorted(registry.on_disk) == ["models:/a/1", "models:/b/1"]
        await models.close()
        assert registry.on_disk == []

    asyncio.run(play())
