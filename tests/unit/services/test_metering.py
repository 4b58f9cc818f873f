from __future__ import annotations

import asyncio
from typing import Any

import pytest
from ray.serve import metrics

from services.gauges import Holding
from services.metering import Metered
from steerline.inference.load import Load
from steerline.inference.request import Failure, GenRequest, GenResult
from tests.unit.services.stand_in import Parrot

SEEN: list[tuple[str, float, dict[str, str]]] = []


class Series:
    """In place of a series of Serve, which keeps its values to itself."""

    def __init__(self, name: str, *_: Any, **__: Any) -> None:
        self.name = name

    def inc(self, value: float = 1.0, tags: dict[str, str] | None = None) -> None:
        SEEN.append((self.name, value, tags or {}))

    set = observe = inc


@pytest.fixture
def metered(monkeypatch: pytest.MonkeyPatch) -> Metered:
    SEEN.clear()
    for kind in ("Counter", "Gauge", "Histogram"):
        monkeypatch.setattr(metrics, kind, Series)
    return Metered(Parrot(), ["away"])


def total(name: str, **tags: str) -> float:
    return sum(value for seen, value, its in SEEN if seen == name and tags.items() <= its.items())


def test_requests_and_tokens_are_counted_by_model_and_end(metered: Metered) -> None:
    asyncio.run(metered.generate([GenRequest("parrot", prompt="one two three")] * 2))
    assert total("steerline_requests", model="parrot", outcome="stop") == 2
    assert total("steerline_tokens", kind="prompt") == 6
    assert total("steerline_tokens", kind="completion") == 6


def test_names_that_callers_make_up_are_no_series_of_their_own(metered: Metered) -> None:
    asyncio.run(metered.generate([GenRequest(f"made-up-{n}", prompt="x") for n in range(3)]))
    assert total("steerline_requests", model="unknown") == 3
    assert not any("made-up" in str(tags) for _, _, tags in SEEN)


def test_a_failure_of_whatever_kind_gives_a_series_to_models_alone_that_are_served_or_have_answered(
    metered: Metered, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.run(metered.generate([GenRequest("parrot", prompt="x")]))
    away = GenResult.failed(Failure("unavailable", "the registry is away"))
    monkeypatch.setattr(Parrot, "_answer", lambda *_: away)
    asyncio.run(metered.generate([GenRequest(name, prompt="x") for name in ("parrot", "away", "models:/m/7")]))
    for model in ("parrot", "away", "unknown"):
        assert total("steerline_requests", model=model, outcome="unavailable") == 1


def test_a_stream_counts_as_waiting_until_it_ends_or_is_left(metered: Metered) -> None:
    async def read(leave: bool) -> list[str]:
        stream = metered.stream(GenRequest("parrot", prompt="one two"))
        first = await anext(stream)
        assert SEEN[-1][:2] == ("steerline_requests_waiting", 1)
        rest = [] if leave else [piece async for piece in stream]
        await stream.aclose()
        return [piece.text for piece in (first, *rest)]

    assert asyncio.run(read(leave=False)) == ["one", "two", ""]
    assert SEEN[-1][:2] == ("steerline_requests_waiting", 0)
    assert asyncio.run(read(leave=True)) == ["one"]
    assert SEEN[-1][:2] == ("steerline_requests_waiting", 0)
    assert total("steerline_requests", outcome="stop") == 1


def test_a_model_that_has_gone_has_no_rows_and_no_pages(metered: Metered) -> None:
    gauges = Holding()
    gauges.show(3, {"models:/a/1": 8}, {"models:/a/1": Load(2, 1, 5, 3, 4)})
    gauges.show(0, {}, {})
    gauges.show(0, {}, {})
    shown: dict[str, list[float]] = {}
    for _, value, tags in SEEN:
        if tags.get("model") == "models:/a/1":
            shown.setdefault(tags["state"], []).append(value)
    assert shown == {"running": [2, 0], "waiting": [1, 0], "used": [5, 0], "kept": [3, 0], "free": [4, 0]}
