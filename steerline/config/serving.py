"""The endpoint: which models and teams it serves, where simulations are kept, who may call it, and how much."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from steerline.config.base import Spec, misfit
from steerline.config.inference import BackendSpec, ClientSpec
from steerline.config.simulation import SimulationSpec
from steerline.config.tracking import TrackingSpec

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"


class TeamSpec(Spec):
    """Agents that answer together, as the model `team:<name>`."""

    about: str = ""
    """One line for people."""
    simulation: SimulationSpec
    """What is played for each question. Its `models` name served models by alias."""
    question: str = "params.question"
    """Dotted path of `simulation` that receives the question."""
    answer: str = "answer"
    """Name in the outcome that holds the answer."""


class RegistrySpec(Spec):
    """Models of the MLflow registry, as `models:/<name>@<alias>` or `models:/<name>/<version>`."""

    allow: tuple[str, ...] = ()
    """Registered names that requests may ask for; none allows none."""
    most_loaded: int = Field(default=2, ge=1)
    """Registered models in memory at once on a replica; the one unused for longest makes room."""
    most_gib: float | None = Field(default=None, gt=0)
    """GiB that their weights take up together on a replica, above which those unused for longest make room; none bounds
    their number alone."""
    most_disk_gib: float | None = Field(default=50.0, gt=0)
    """GiB that files of versions which were fetched from the tracking server take up together in the Steerline home,
    above which those unused for longest go; files of models in memory stay. None keeps all."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of their weights in memory; an adapter has that of its base."""


class AccessSpec(Spec):
    """Who may call."""

    required: bool = True
    """Ask for a key. Without keys the endpoint listens to whoever reaches its port."""
    keys_file: str | None = None
    """File of hashed keys, written by `steerline keys`; none takes `keys.json` in the Steerline home."""
    cors_origins: tuple[str, ...] = ()
    """Other web sites whose pages may call, e.g. `https://lab.example.org`."""
    hosts: tuple[str, ...] = ()
    """Names beside loopback's by which callers without keys may reach it, e.g. `lab.example.org`: a name that another
    site's server points at this machine would let its pages in."""


class LimitsSpec(Spec):
    """What one replica takes on before it answers 413 or 429."""

    body_bytes: int = Field(default=1_048_576, ge=1024)
    """Longest request body."""
    in_flight: int = Field(default=256, ge=1)
    """Requests for text at once."""
    streams: int = Field(default=512, ge=1)
    """Event streams at once."""
    key_share: float = Field(default=0.5, gt=0, le=1)
    """Share of the requests and streams at once that one key may hold, of those that no other key holds."""
    requests_per_minute: int = Field(default=6000, ge=1)
    """Of one key that has no limit of its own."""
    most_tokens: int = Field(default=4096, ge=1)
    """Longest continuation that a request may ask for."""
    simulations: int = Field(default=64, ge=1)
    """Simulations that a replica plays at once; the others wait their turn."""
    lease_s: float = Field(default=30.0, ge=1)
    """Seconds after which another replica goes on with the simulations of one that has fallen silent."""


class ServingSpec(Spec):
    """An endpoint, whole: the `args` of the application in `deploy/serve/*.yaml`."""

    models: dict[str, BackendSpec] = Field(default_factory=dict)
    """Served models by the name that requests use."""
    teams: dict[str, TeamSpec] = Field(default_factory=dict)
    """Teams by name."""
    registry: RegistrySpec | None = None
    """Models of the MLflow registry; none serves none."""
    client: ClientSpec = ClientSpec()
    """Limits between simulations and the models."""
    store: str | None = None
    """Where simulations are kept: a file, or `postgresql://user@host/database` with the password in the environment or
    in `~/.pgpass`; none takes `simulations.db` in the Steerline home."""
    access: AccessSpec = AccessSpec()
    """Who may call."""
    limits: LimitsSpec = LimitsSpec()
    """How much."""
    tracking: TrackingSpec | None = TrackingSpec()
    """Where ended simulations are recorded; `null` records none."""
    console: bool = True
    """Serve the web page at `/console/`."""

    @field_validator("models", "teams")
    @classmethod
    def _names_are_plain(cls, named: dict[str, object]) -> dict[str, object]:
        import re

        strange = next((name for name in named if not re.match(NAME, name)), None)
        if strange is not None:
            raise misfit(f"`{strange}` is no name", expected="letters, digits, `.`, `_` and `-`")
        return named
