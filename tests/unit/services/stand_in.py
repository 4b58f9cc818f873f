"""A small real application for tests: scripted models, a store in memory, keys in a folder."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.inference.port import ModelCard
from services.parts import Parts
from steerline.config.serving import ServingSpec
from steerline.inference.request import Delta, Failure, GenRequest, GenResult, Usage
from steerline.serving.keys import SCOPES, KeyBook, Scope
from steerline.simulation.store.base import Store
from steerline.simulation.store.memory import MemoryStore


@dataclass
class Parrot:
    """Says the last message again, word by word; its usage is a token a word."""

    asked: list[GenRequest] = field(default_factory=list)

    async def models(self) -> list[ModelCard]:
        return [ModelCard("parrot", 1_700_000_000)]

    async def generate(self, requests: Sequence[GenRequest]) -> list[GenResult]:
        self.asked += requests
        return [self._answer(request) for request in requests]

    async def stream(self, request: GenRequest) -> AsyncGenerator[Delta, None]:
        self.asked.append(request)
        result = self._answer(request)
        for word in result.text.split(" "):
            yield Delta(word)
        yield Delta("", result=result)

    def _answer(self, request: GenRequest) -> GenResult:
        if request.model != "parrot":
            return GenResult.failed(Failure("unknown_model", f"no model `{request.model}` is served"))
        text = request.prefix[-1]
        words = len(text.split())
        return GenResult(text, "stop", Usage(words, words))


@dataclass
class Bell:
    """Hosts that note who was to be woken."""

    woken: list[str] = field(default_factory=list)

    async def wake(self, sim: str) -> None:
        self.woken.append(sim)


def parts_in(folder: Path, spec: Mapping[str, Any] | None = None, store: Store | None = None) -> Parts:
    """Parts whose keys lie in `folder`; `spec` is what differs from the defaults."""
    whole = ServingSpec.model_validate({"tracking": None, **(spec or {})})
    return Parts(whole, Parrot(), store or MemoryStore(), Bell(), KeyBook(folder / "keys.json"))


def bearer(parts: Parts, *scopes: Scope, **quotas: Any) -> dict[str, str]:
    """Headers with a new key of these scopes; without any, of all."""
    name = f"key {len(parts.keys.entries())}"
    whole, _ = parts.keys.create(name, scopes or SCOPES, **quotas)
    return {"Authorization": f"Bearer {whole}"}
