"""A stub model of known faults: it fails, and breaks the form of its answers, as often as asked."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence

from steerline.config.inference import NoisyBackendSpec
from steerline.inference.backends.scripted import spoken, told
from steerline.inference.chance import uniform
from steerline.inference.request import BackendLimits, Delta, Failure, GenRequest, GenResult


class NoisyBackend:
    """A policy's texts with faults. Each draw belongs to a request and its attempt; batches and order do not matter.

    Args:
        spec: rates and seed.
        policy: the texts; none picks from the spec's answers.
    """

    def __init__(self, spec: NoisyBackendSpec, policy: Callable[[GenRequest], str] | None = None) -> None:
        self._spec = spec
        self._policy = policy or self._pick

    @property
    def limits(self) -> BackendLimits:
        """What `generate` takes."""
        return BackendLimits(max_batch=1024)

    async def generate(self, requests: Sequence[GenRequest]) -> list[GenResult]:
        """A text, a garbled text or a failure for each request."""
        return [self._answer(request) for request in requests]

    async def stream(self, request: GenRequest) -> AsyncGenerator[Delta, None]:
        """The same in pieces of a word each; a failure is one piece."""
        async for piece in told(self._answer(request)):
            yield piece

    async def close(self) -> None:
        """Nothing is held."""

    def _answer(self, request: GenRequest) -> GenResult:
        if self._draw("error", request, request.attempt) < self._spec.error_rate:
            return GenResult.failed(Failure("busy", "the stub fails as often as it was told to"))
        text = self._policy(request)
        if self._draw("garble", request) < self._spec.garble_rate:
            text = _garbled(text, self._draw("form", request))
        return spoken(request, text)

    def _pick(self, request: GenRequest) -> str:
        answers = self._spec.answers
        return answers[int(self._draw("answer", request) * len(answers))]

    def _draw(self, stream: str, request: GenRequest, attempt: int = 0) -> float:
        # The address and nothing else of the request: the client may answer equal ones with one text.
        return uniform(self._spec.seed, stream, request.address, attempt)


def _garbled(text: str, u: float) -> str:
    """The faults of small models: nothing, half of it, it twice, or it inside other words."""
    forms = ("", text[: len(text) // 2], f"{text} {text}", f"As a language model I would say {text[::-1]}, perhaps.")
    return forms[int(u * len(forms))]
