"""The list of models as the gateway remembers it."""

from __future__ import annotations

import asyncio

import pytest

from services.inference import catalogue as module
from services.inference.catalogue import Catalogue
from services.inference.port import ModelCard
from steerline.config.serving import ServingSpec


class Slow:
    """Models whose list takes until it is let go."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.asked = 0

    async def models(self) -> list[ModelCard]:
        self.asked += 1
        await self.gate.wait()
        return [ModelCard("m", self.asked)]


def test_only_the_first_request_waits_for_the_list_and_all_share_one_question(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play() -> None:
        models = Slow()
        known = Catalogue(models, ServingSpec())  # type: ignore[arg-type]
        first = [asyncio.create_task(known.find("m")) for _ in range(5)]
        while not models.asked:
            await asyncio.sleep(0)
        models.gate.set()
        assert [card.created for card in await asyncio.gather(*first) if card is not None] == [1] * 5
        models.gate.clear()
        monkeypatch.setattr(known, "_until", 0.0)
        late = await known.find("m")
        assert late is not None
        assert late.created == 1
        models.gate.set()
        assert [card.created for card in await known.cards()] == [2]
        assert models.asked == 2

    monkeypatch.setattr(module, "_FRESH_S", 1e9)
    asyncio.run(play())
