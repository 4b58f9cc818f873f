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
        self._asking: asyncio.Task[None] | None = None

    async def cards(self) -> list[ModelCard]:
        """All of them, as they are now.

        Raises:
            ApiError: 503; no replica of the models answers.
        """
        if time.monotonic() >= self._until:
            await asyncio.shield(self._ask())
        return list(self._cards.values())

    async def find(self, model: str) -> ModelCard | None:
        """The model of an id, as it was some seconds ago: who is to be answered does not wait for a list.

        Raises:
            ApiError: 503; no replica of the models has answered yet.
        """
        if time.monotonic() >= self._until:
            asking = self._ask()
            if not self._cards:
                await asyncio.shield(asking)
        return self._cards.get(model)

    def _ask(self) -> asyncio.Task[None]:
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._look())
            # Whoever waits for it is told; nobody may.
            self._asking.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._asking

    async def _look(self) -> None:
        cards = [*await self._inference.models(), *self._teams]
        self._cards = {card.id: card for card in cards}
        self._until = time.monotonic() + _FRESH_S
