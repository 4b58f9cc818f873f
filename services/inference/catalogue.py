"""The models that requests may name, remembered for a while: their list lies behind a handle."""

from __future__ import annotations

import asyncio
import time

from services.inference.port import Inference, ModelCard
from steerline.config.serving import ServingSpec

_FRESH_S = 10.0


class Catalogue:
    """Served models, and teams.

    Args:
        inference: who serves the models.
        spec: names the teams.
    """

    def __init__(self, inference: Inference, spec: ServingSpec) -> None:
        self._inference = inference
        began = int(time.time())
        self._teams = [ModelCard(f"team:{name}", began, about=team.about) for name, team in spec.teams.items()]
        self._cards: dict[str, ModelCard] = {}
        self._until = 0.0
        self._lock = asyncio.Lock()

    async def cards(self) -> list[ModelCard]:
        """All of them."""
        return list((await self._known()).values())

    async def find(self, model: str) -> ModelCard | None:
        """The model of an id."""
        return (await self._known()).get(model)

    async def _known(self) -> dict[str, ModelCard]:
        async with self._lock:
            if time.monotonic() >= self._until:
                cards = [*await self._inference.models(), *self._teams]
                self._cards = {card.id: card for card in cards}
                self._until = time.monotonic() + _FRESH_S
        return self._cards
