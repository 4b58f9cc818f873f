"""How text is asked for, and of whom: sampling, backends, and the limits of the client between them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from steerline.config.base import NOT_IDENTITY, Spec, misfit
from steerline.config.model import ModelSpec


class SamplingSpec(Spec):
    """How a continuation is drawn."""

    temperature: float = Field(default=0.0, ge=0)
    """0 takes the likeliest token each time, and then `top_p` and seeds do not act."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Draw from the likeliest tokens that hold this much probability together."""
    max_tokens: int = Field(default=128, ge=1)
    """Longest continuation in tokens."""
    stop: tuple[str, ...] = ()
    """Texts that end a continuation; they are not part of it."""

    @model_validator(mode="after")
    def _stops_are_texts(self) -> SamplingSpec:
        if "" in self.stop:
            raise misfit("an empty stop text would end every continuation at once", "stop")
        return self


class LocalBackendSpec(Spec):
    """A causal language model in this process. Each row of a batch carries its own steering."""

    kind: Literal["local"] = "local"
    model: ModelSpec
    """Which weights."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of the weights in memory."""
    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", json_schema_extra=NOT_IDENTITY)
    """`auto` takes a GPU where there is one."""
    max_batch: int = Field(default=64, ge=1, json_schema_extra=NOT_IDENTITY)
    """Most rows of the running batch."""
    max_batch_tokens: int = Field(default=16384, ge=1, json_schema_extra=NOT_IDENTITY)
    """Tokens that the running batch and kept beginnings of prompts hold in memory together."""
    max_waiting: int = Field(default=1024, ge=1, json_schema_extra=NOT_IDENTITY)
    """Requests that wait for a place in the batch, above which more fail as busy."""


class OpenAIBackendSpec(Spec):
    """Any server with OpenAI's chat interface: vLLM, Ray Serve, a provider."""

    kind: Literal["openai"]
    url: str = Field(pattern=r"^https?://")
    """Base address, e.g. `http://127.0.0.1:8000/v1`."""
    model: str
    """The server's name of the model."""
    key_env: str | None = None
    """Environment variable that holds the key. A key never stands in a config."""
    key_file: str | None = None
    """File that holds the key."""
    timeout_s: float = Field(default=120.0, gt=0, json_schema_extra=NOT_IDENTITY)
    """Longest time for one answer."""
    steering: bool = False
    """The server takes a request's `steering`, as Steerline's own does; otherwise steered requests are refused."""
    max_in_flight: int = Field(default=128, ge=1, json_schema_extra=NOT_IDENTITY)
    """Most requests at once; the limit in use grows and falls with what the server bears."""

    @model_validator(mode="after")
    def _one_key(self) -> OpenAIBackendSpec:
        if self.key_env and self.key_file:
            raise misfit("two places for one key", "key_env", fix="keep `key_env` or `key_file`")
        return self


class NoisyBackendSpec(Spec):
    """A stub that fails as often as asked, by draws that depend on the request alone."""

    kind: Literal["noisy"]
    seed: int = 0
    """Of the draws."""
    answers: tuple[str, ...] = ("yes", "no")
    """Texts that it picks from."""
    error_rate: float = Field(default=0.0, ge=0, le=1)
    """Share of attempts that fail as a busy server does; another attempt draws again."""
    garble_rate: float = Field(default=0.0, ge=0, le=1)
    """Share of answers whose text does not keep its form."""


class ServedBackendSpec(Spec):
    """A model of the endpoint that plays the simulation, by the name that requests use."""

    kind: Literal["served"]
    name: str
    """The name."""


BackendSpec = Annotated[LocalBackendSpec | OpenAIBackendSpec | NoisyBackendSpec, Field(discriminator="kind")]


class ClientSpec(Spec):
    """Limits between those who ask and the backends. None of them changes an answer."""

    deadline_s: float = Field(default=0.01, ge=0, json_schema_extra=NOT_IDENTITY)
    """Longest time that a request waits for company while a batch could start."""
    max_waiting: int = Field(default=100_000, ge=1, json_schema_extra=NOT_IDENTITY)
    """Requests waiting for one model above which further ones are refused."""
    max_attempts: int = Field(default=5, ge=1, json_schema_extra=NOT_IDENTITY)
    """Times that a request is sent, when failures allow it."""
    backoff_s: float = Field(default=0.5, gt=0, json_schema_extra=NOT_IDENTITY)
    """Pause before the second attempt; each further one is twice as long."""
    max_backoff_s: float = Field(default=30.0, gt=0, json_schema_extra=NOT_IDENTITY)
    """Longest pause, but for one that the server asks for."""
    turn: float = Field(default=1.0, gt=0, json_schema_extra=NOT_IDENTITY)
    """Share of a batch that a simulation of weight 1 may take before it is the next one's turn. With whole batches,
    simulations end their ticks one after another, and the backend has work while each of them thinks; with less, a
    small simulation waits less behind large ones."""
