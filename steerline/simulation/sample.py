"""A small simulation of any scenario, to look at: `steerline simulate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from steerline.config.load import changed
from steerline.config.simulation import SimulationSpec
from steerline.errors import SimulationError
from steerline.simulation.masks import MaskedSystem
from steerline.simulation.names import scenario_class

MODEL = "model"
"""Alias of a sample's model."""
PERSON = "you"
"""Name of the agent whose seat a person takes."""
TICKS = 30
"""Ticks after which a sample ends if its scenario has not ended it."""

_SOURCE = "the command line"
_CASTS: Mapping[str, Sequence[tuple[str, str]]] = {
    "software": (("coder", "coder"), ("tester", "tester"), ("repairer", "repairer")),
    "tidying": (("nearest", ""), ("polite", "")),
    "werewolf": tuple((policy, "") for policy in ("honest", "deceiver", "sceptic", "honest", "deceiver", "honest")),
}
"""Policies and roles where one agent of each policy makes no game."""


def sample(
    scenario: str,
    *,
    agents: int | None = None,
    policies: Sequence[str] = (),
    ticks: int = TICKS,
    seed: int = 0,
    backend: Mapping[str, Any] | None = None,
    person: bool = False,
    system: MaskedSystem | None = None,
    changes: Mapping[str, Any] | None = None,
) -> SimulationSpec:
    """A simulation with the scenario's own settings.

    Args:
        scenario: its name.
        agents: how many; none takes one of each policy, or the scenario's usual cast.
        policies: scripted policies, dealt to the agents in turn; none takes the cast's.
        ticks: most ticks.
        seed: of all draws.
        backend: the model that answers for the agents: for all of them, or beside `policies` for the first one alone.
        person: whether a person takes the seat of one agent more, the first.
        system: whose agents, links and rounds these are, in place of `agents` of the scenario's cast.
        changes: dotted paths of the spec and their values, laid over all of this.

    Raises:
        SimulationError: no such scenario or policy.
        ConfigError: together these make no simulation.
    """
    known = scenario_class(scenario).scripted
    stranger = next((policy for policy in policies if policy not in known), None)
    if stranger is not None:
        raise SimulationError(f"{scenario} has no policy called {stranger}", expected=" | ".join(sorted(known)))
    cast = _CASTS.get(scenario, [(policy, "") for policy in known])
    players = [{"id": PERSON, "brain": {"kind": "human"}}] if person else []
    seats = _seats(agents or len(cast), cast) if system is None else _seats_of(system)
    for n, (name, profile) in enumerate(seats):
        policy, _ = cast[n % len(cast)]
        brain: dict[str, Any] = {"kind": "scripted", "policy": policies[n % len(policies)] if policies else policy}
        if backend is not None and (n == 0 or not policies):
            brain = {"kind": "llm", "model": MODEL, "sampling": {"temperature": 0.7, "max_tokens": 64}}
        players.append({"id": name, "profile": profile, "brain": brain})
    models = {} if backend is None else {MODEL: {"backend": backend}}
    plain = SimulationSpec(name="sample", scenario=scenario, max_ticks=ticks, seed=seed)
    parts: dict[str, Any] = {"models": models, "agents": players}
    if system is not None:
        parts |= {**system.links, "max_ticks": min(ticks, system.rounds)}
    whole = changed(plain, parts, _SOURCE)
    return changed(whole, changes, _SOURCE) if changes else whole


def _seats(count: int, cast: Sequence[tuple[str, str]]) -> list[tuple[str, dict[str, Any]]]:
    return [(f"agent-{n + 1}", {"role": cast[n % len(cast)][1]}) for n in range(count)]


def _seats_of(system: MaskedSystem) -> list[tuple[str, dict[str, Any]]]:
    return [(name, profile.model_dump(mode="json")) for name, profile in system.profiles.items()]
