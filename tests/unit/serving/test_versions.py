"""References to a registry that is slow, away, or asked for what somebody made up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from steerline.errors import TrackingError
from steerline.inference.request import Failure
from steerline.serving.versions import RegistryAccess, Versions
from steerline.tracking.registry import Registered


@dataclass
class Registry:
    """Has version 1 of every name. Look-ups of `slow` wait for its gate."""

    asked: list[str] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    listed: list[str] = field(default_factory=list)
    away: bool = False
    hangs: bool = False
    now: float = 0.0

    def find(self, reference: str) -> Registered | None:
        self.asked.append(reference)
        if self.away:
            raise TrackingError("the server is away")
        name, _, version = reference.removeprefix("models:/").replace("@champion", "/1").rpartition("/")
        if name == "slow":
            assert self.gate.wait(10)
        return Registered(name, version, None, "/weights") if version == "1" else None

    def aliases(self, name: str) -> Mapping[str, str]:
        self.listed.append(name)
        if self.hangs:
            assert self.gate.wait(10)
        return {"champion": "1"}

    def versions(self, wait_s: float = 10.0) -> Versions:
        access = RegistryAccess(self.find, self.aliases)
        return Versions(("quick", "slow"), access, wait_s=wait_s, clock=lambda: self.now)


def kind(found: Registered | Failure) -> str:
    return found.kind if isinstance(found, Failure) else found.uri


def test_made_up_versions_of_one_name_hold_nobody_up_who_asks_for_another() -> None:
    async def play() -> None:
        registry = Registry()
        versions = registry.versions()
        made_up = [asyncio.create_task(versions.find(f"models:/slow/{n}")) for n in range(2, 66)]
        assert kind(await versions.find("models:/quick/1")) == "models:/quick/1"
        assert await versions.references() == ["models:/quick@champion", "models:/slow@champion"]
        # Few wait, and the registry is asked by one at a time.
        assert sorted({kind(task.result()) for task in made_up if task.done()}) == ["busy"]
        assert sum(not task.done() for task in made_up) == 16
        assert sum("slow" in reference for reference in registry.asked) == 1
        registry.gate.set()
        assert {kind(found) for found in await asyncio.gather(*made_up)} == {"busy", "unknown_model"}
        versions.close()

    asyncio.run(play())


def test_a_reference_is_looked_up_once_for_all_who_ask() -> None:
    async def play() -> None:
        registry = Registry()
        registry.gate.set()
        versions = registry.versions()
        found = await asyncio.gather(*(versions.find("models:/slow/1") for _ in range(40)))
        assert {kind(one) for one in found} == {"models:/slow/1"}
        assert registry.asked == ["models:/slow/1"]

    asyncio.run(play())


def test_the_registry_is_asked_once_for_its_aliases_by_all_who_want_them_and_some_give_up() -> None:
    async def play() -> None:
        registry = Registry(hangs=True)
        versions = registry.versions()
        for _ in range(8):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(versions.references(), 0.001)
        registry.gate.set()
        assert await versions.references() == ["models:/quick@champion", "models:/slow@champion"]
        assert sorted(registry.listed) == ["quick", "slow"]
        for now, listed in ((4.0, 2), (5.0, 4)):
            registry.now = now
            assert await versions.references() == ["models:/quick@champion", "models:/slow@champion"]
            assert len(registry.listed) == listed
        versions.close()

    asyncio.run(play())


def test_who_lists_many_names_of_a_registry_that_hangs_holds_up_nobody_who_asks_for_a_version() -> None:
    async def play() -> None:
        registry = Registry(hangs=True)
        names = [f"name-{number}" for number in range(16)]
        versions = Versions(names, RegistryAccess(registry.find, registry.aliases), clock=lambda: registry.now)
        listing = asyncio.create_task(versions.references())
        await asyncio.sleep(0)
        assert kind(await versions.find("models:/name-1/1")) == "models:/name-1/1"
        assert len(registry.listed) < 8
        registry.gate.set()
        assert await listing == [f"models:/{name}@champion" for name in names]
        versions.close()

    asyncio.run(play())


def test_what_the_registry_does_not_have_is_remembered_for_a_short_time() -> None:
    async def play() -> None:
        registry = Registry()
        versions = registry.versions()
        for now, asked in ((0.0, 1), (4.0, 1), (5.0, 2)):
            registry.now = now
            assert kind(await versions.find("models:/quick/2")) == "unknown_model"
            assert len(registry.asked) == asked
        for n in range(3, 2000):
            await versions.find(f"models:/quick/{n}")
        await versions.find("models:/quick/1999")
        assert len(registry.asked) == 2 + 1997
        await versions.find("models:/quick/3")
        assert len(registry.asked) == 2 + 1997 + 1

    asyncio.run(play())


def test_while_the_registry_does_not_answer_what_was_found_before_holds() -> None:
    async def play() -> None:
        registry = Registry()
        registry.gate.set()
        versions = registry.versions()
        assert kind(await versions.find("models:/slow@champion")) == "models:/slow/1"
        registry.now = 11.0
        registry.gate.clear()
        versions._wait_s = 0.05
        assert kind(await versions.find("models:/slow@champion")) == "models:/slow/1"
        assert kind(await versions.find("models:/slow/2")) == "unavailable"
        registry.gate.set()
        registry.away, registry.now = True, 17.0
        assert kind(await versions.find("models:/slow@champion")) == "models:/slow/1"
        versions.close()

    asyncio.run(play())


def test_while_the_registry_is_away_it_is_not_asked_for_each_request_anew() -> None:
    async def play() -> None:
        registry = Registry()
        versions = registry.versions()
        assert kind(await versions.find("models:/quick@champion")) == "models:/quick/1"
        assert kind(await versions.find("models:/quick/1")) == "models:/quick/1"
        registry.away, registry.now = True, 11.0
        for _ in range(3):
            assert kind(await versions.find("models:/quick@champion")) == "models:/quick/1"
            assert kind(await versions.find("models:/quick/1")) == "models:/quick/1"
        # A number stands for the same version for long.
        assert registry.asked == ["models:/quick@champion", "models:/quick/1", "models:/quick@champion"]

    asyncio.run(play())


def test_what_was_found_before_answers_soon_while_the_registry_is_slow() -> None:
    async def play() -> None:
        registry = Registry()
        registry.gate.set()
        versions = registry.versions(wait_s=60.0)
        await versions.find("models:/slow@champion")
        registry.now = 11.0
        registry.gate.clear()
        async with asyncio.timeout(30):
            assert kind(await versions.find("models:/slow@champion")) == "models:/slow/1"
        registry.gate.set()
        versions.close()

    asyncio.run(play())
