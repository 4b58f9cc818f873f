"""What the HTTP layer asks of the models, whether they are in this process or behind a Serve handle."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from steerline.inference.request import Delta, GenRequest, GenResult
from steerline.serving.card import ModelCard

__all__ = ["Inference", "ModelCard"]


class Inference(Protocol):
    """Models by id. The id of a request is the `model` of its `GenRequest`."""

    async def models(self) -> list[ModelCard]:
        """Those that may be asked."""
        ...

    async def generate(self, requests: Sequence[GenRequest]) -> list[GenResult]:
        """One result for each request, in order; all of them ask one model. A failure is a result: also of a model that
        is not served (`unknown_model`), and of one that is still being loaded (`busy`)."""
        ...

    def stream(self, request: GenRequest) -> AsyncGenerator[Delta, None]:
        """The pieces of one answer; the last one has the result, also of a failure. Closing the generator stops it."""
        ...
