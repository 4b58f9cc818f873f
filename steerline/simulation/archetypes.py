"""One answer for many agents: those whose prompts are the same are an archetype, which is asked in their place.

After AgentTorch (Chopra et al., arXiv 2409.10568). Nothing is made up for a member: an archetype is what cannot be told
apart in a prompt. Its calls stand in the journal under its own name, `archetype/` and a hash of what it is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from steerline.config.simulation_agents import AgentSpec, ArchetypeBrain, LlmBrain, Profile
from steerline.simulation.asking import Asker
from steerline.simulation.canonical import digest
from steerline.simulation.game import Game
from steerline.simulation.turn import Decision, Turn

_PARTS = ("role", "traits", "goals", "skills", "constraints")


async def ask_archetypes(game: Game, asker: Asker, turns: Sequence[tuple[Turn, ArchetypeBrain]]) -> list[Decision]:
    """An answer to each turn, out of `answers` calls for each archetype among them. Every member draws one.

    Args:
        game: the rules.
        asker: who reaches models.
        turns: who is asked, all on the same snapshot.

    Raises:
        Interruption: a budget is reached, or a model fails and the straggler policy is to wait.
        ReplayError: the replay is strict and the journal holds another request.
    """
    shown = [_without_a_name(turn, brain) for turn, brain in turns]
    names = [_name(game, turn, brain) for turn, (_, brain) in zip(shown, turns, strict=True)]
    members = {name: (turn, brain) for name, turn, (_, brain) in zip(names, shown, turns, strict=True)}
    asked: list[tuple[Turn, LlmBrain]] = []
    places: dict[str, range] = {}
    # In the order of names, so that the order of the turns means nothing.
    for name in sorted(members):
        turn, brain = members[name]
        places[name] = range(len(asked), len(asked) + brain.answers)
        asked += [(_standing_for(game, name, turn), brain.llm)] * brain.answers
    answers = await asker.ask(asked)
    return [answers[turn.rng.choice(places[name], "archetype")] for name, (turn, _) in zip(names, turns, strict=True)]


def _without_a_name(turn: Turn, brain: ArchetypeBrain) -> Turn:
    """A member's turn as its archetype sees it."""
    profile = turn.agent.profile
    left_out = {part: Profile.model_fields[part].default for part in _PARTS if part not in brain.by}
    agent = turn.agent.model_copy(update={"profile": profile.model_copy(update=left_out)}) if left_out else turn.agent
    return replace(turn, agent=agent, observation=replace(turn.observation, agent=""))


def _name(game: Game, turn: Turn, brain: ArchetypeBrain) -> str:
    prompt = game.prompt(turn)
    alike = [prompt.system, prompt.user, repr(turn.observation.legal), turn.purpose, brain.model_dump(mode="json")]
    return f"archetype/{digest(alike)[:16]}"


def _standing_for(game: Game, name: str, turn: Turn) -> Turn:
    agent = AgentSpec.model_construct(id=name, profile=turn.agent.profile, brain=turn.agent.brain)
    observation = turn.observation
    return replace(turn, agent=agent, rng=game.rng.at(observation.tick).within(f"brain/{observation.round}/{name}"))
