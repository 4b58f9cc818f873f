"""Scripted players of werewolf, each for all roles. They know what an agent of their role sees and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from steerline.config.simulation import SimulationSpec
from steerline.config.simulation_agents import AgentSpec, Profile, ScriptedBrain
from steerline.simulation.action import Choice
from steerline.simulation.observation import Observation
from steerline.simulation.parsing import answer
from steerline.simulation.rng import CounterRng
from steerline.simulation.scenario import Policy

WOLF, SEER, WITCH, VILLAGER = "werewolf", "seer", "witch", "villager"
NOBODY = "nobody"
QUIET = "I have nothing to say."


def game(policies: Sequence[str], roles: Mapping[str, str] | None = None, **params: Any) -> SimulationSpec:
    """A game of scripted players `player-01`, `player-02` and so on; `roles` gives some of them a role."""
    ids = [f"player-{n:02d}" for n in range(1, len(policies) + 1)]
    agents = tuple(
        AgentSpec(
            id=name,
            profile=Profile(role=(roles or {}).get(name, "")),
            brain=ScriptedBrain(kind="scripted", policy=policy),
        )
        for name, policy in zip(ids, policies, strict=True)
    )
    # A day without a death is possible, so that the number of days has no bound of its own.
    return SimulationSpec(scenario="werewolf", params=params, agents=agents, max_ticks=5 * len(agents))


def random_player(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Says nothing and picks anybody, all equally likely; uses no potion with chance 1/2."""
    if not isinstance(observation.legal, Choice):
        return QUIET
    options = [option for option in observation.legal.options if option != NOBODY]
    if observation.facts["stage"] == "witch" and rng.uniform("potion") < 0.5:
        return answer("nothing")
    return answer(rng.choice(options, "pick"))


def honest(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """A seer tells what it sees, and all believe whoever says to be the seer; wolves stay quiet and hunt accusers."""
    facts = observation.facts
    match facts["stage"]:
        case "talk":
            return _report(observation)
        case "whisper":
            return f"I say we take {_prey(observation)}."
        case "witch":
            return answer("save" if "save" in facts["potions"] and facts["victim"] else "nothing")
        case "night":
            return answer(_prey(observation)) if facts["role"] == WOLF else random_player(observation, profile, rng)
    return _vote(observation, rng) or random_player(_among_strangers(observation), profile, rng)


def deceiver(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Plays as `honest` does, but as a wolf it says to be the seer and accuses a villager."""
    facts = observation.facts
    if facts["stage"] == "talk" and facts["role"] == WOLF:
        innocent = [player for player in facts["alive"] if player not in facts["wolves"]]
        return f"CLAIM: I am the seer\nCLAIM: {rng.choice(innocent, 'lie')} is a werewolf"
    return honest(observation, profile, rng)


def sceptic(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Plays as `honest` does, but votes for nobody without an accusation by a seer."""
    if observation.facts["stage"] == "vote":
        return _vote(observation, rng) or answer(NOBODY)
    return honest(observation, profile, rng)


POLICIES: dict[str, Policy] = {
    "random": random_player,
    "honest": honest,
    "deceiver": deceiver,
    "sceptic": sceptic,
}


def _report(observation: Observation) -> str:
    """What a player says by day: a seer that found a wolf says so."""
    found = _found(observation)
    return "CLAIM: I am the seer\n" + "\n".join(f"CLAIM: {wolf} is a werewolf" for wolf in found) if found else QUIET


def _found(observation: Observation) -> list[str]:
    """Living wolves that a seer knows."""
    facts = observation.facts
    return [player for player in facts["alive"] if facts.get("checked", {}).get(player)]


def _vote(observation: Observation, rng: CounterRng) -> str | None:
    """A vote for somebody whom the player knows, or was told by a seer, to be a wolf; none where there is nobody."""
    facts = observation.facts
    claims = [claim for message in observation.messages for claim in message.data or ()]
    seers = {claim["by"] for claim in claims if claim["about"] == claim["by"] and claim["role"] == SEER}
    accused = {claim["about"] for claim in claims if claim["by"] in seers and claim["role"] == WOLF}
    spared = {observation.agent, *facts.get("wolves", ())}
    named = _found(observation) or sorted((accused & set(facts["alive"])) - spared)
    return answer(rng.choice(named, "accused")) if named else None


def _among_strangers(observation: Observation) -> Observation:
    """The same turn without the wolves among the options of a wolf."""
    legal, wolves = observation.legal, observation.facts.get("wolves", ())
    assert isinstance(legal, Choice)
    others = tuple(option for option in legal.options if option not in wolves)
    return replace(observation, legal=Choice(others, legal.default))


def _prey(observation: Observation) -> str:
    """Whom wolves take, the same for all of them: the first who voted for a wolf, or else the first."""
    facts = observation.facts
    others: list[str] = [player for player in facts["alive"] if player not in facts["wolves"]]
    accusers = [player for player in others if facts["votes"].get(player) in facts["wolves"]]
    return min(accusers or others)
