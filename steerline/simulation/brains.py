"""Who answers for the agents of a run: policies, models, people."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from steerline.config.simulation_agents import (
    ArchetypeBrain,
    CustomBrain,
    HumanBrain,
    HybridBrain,
    LlmBrain,
    ReviewedBrain,
    ScriptedBrain,
    StubBrain,
)
from steerline.errors import SimulationError
from steerline.simulation.action import ActionSpec, Choice, FreeText, Integer, Number
from steerline.simulation.archetypes import ask_archetypes
from steerline.simulation.asking import Asker
from steerline.simulation.canonical import canonical
from steerline.simulation.game import Game
from steerline.simulation.humans import Humans, is_flagged
from steerline.simulation.interruption import Interruption
from steerline.simulation.names import brain_class
from steerline.simulation.parsing import answer
from steerline.simulation.rng import CounterRng
from steerline.simulation.scenario import Policy
from steerline.simulation.turn import Decision, Turn

MALFORMED = "hm, let me think about it"


class Brain(Protocol):
    """A brain of your own: `CustomBrain` names its class."""

    async def decide(self, turn: Turn) -> str:
        """The text that answers a turn. It is logged, so that a replay need not ask again."""
        ...


class Brains:
    """Answers turns with the brains that the agents' specs name.

    Args:
        game: the rules.
        asker: who reaches models.
        humans: who reaches people.
    """

    def __init__(self, game: Game, asker: Asker, humans: Humans) -> None:
        self._game = game
        self._asker = asker
        self._humans = humans
        self._custom: dict[str, Brain] = {}

    async def decide(self, turns: Sequence[Turn]) -> Sequence[Decision]:
        """An answer to each turn, in order.

        Raises:
            Interruption: somebody cannot answer now.
        """
        decisions: dict[int, Decision] = {}
        models: dict[int, tuple[Turn, LlmBrain]] = {}
        people: dict[int, tuple[Turn, HumanBrain]] = {}
        own: dict[int, tuple[Turn, CustomBrain]] = {}
        alike: dict[int, tuple[Turn, ArchetypeBrain]] = {}
        for place, turn in enumerate(turns):
            brain = turn.agent.brain
            if isinstance(brain, HybridBrain):
                by_model = turn.rng.uniform("hybrid") < brain.share
                brain = brain.llm if by_model else ScriptedBrain(kind="scripted", policy=brain.policy)
            match brain:
                case ReviewedBrain(llm=llm):
                    models[place] = (turn, llm)
                case LlmBrain():
                    models[place] = (turn, brain)
                case HumanBrain():
                    people[place] = (turn, brain)
                case ScriptedBrain():
                    decisions[place] = self._scripted(turn, brain.policy)
                case StubBrain():
                    decisions[place] = self._stub(turn, brain)
                case CustomBrain():
                    own[place] = (turn, brain)
                case ArchetypeBrain():
                    alike[place] = (turn, brain)
        decisions |= zip(own, await self._ask_own(list(own.values())), strict=True)
        decisions |= zip(models, await self._asker.ask(list(models.values())), strict=True)
        decisions |= zip(alike, await ask_archetypes(self._game, self._asker, list(alike.values())), strict=True)
        decisions |= await self._reviewed(turns, decisions)
        decisions |= zip(people, await self._humans.answer(list(people.values())), strict=True)
        return [self._fallen_back(turn, decisions[place]) for place, turn in enumerate(turns)]

    async def _reviewed(self, turns: Sequence[Turn], decisions: Mapping[int, Decision]) -> dict[int, Decision]:
        """Flagged answers as a person leaves them."""
        flagged = {
            place: (turn, brain, decisions[place])
            for place, turn in enumerate(turns)
            if isinstance(brain := turn.agent.brain, ReviewedBrain)
            and turn.purpose == "act"
            and is_flagged(brain, decisions[place])
        }
        return dict(zip(flagged, await self._humans.review(list(flagged.values())), strict=True))

    def _scripted(self, turn: Turn, name: str) -> Decision:
        if turn.purpose == "reflect" and turn.agent.evolution is not None and turn.agent.evolution.policy is not None:
            name = turn.agent.evolution.policy
        elif turn.purpose != "act":
            return Decision(None, f"a scripted agent has no answer to this ({turn.purpose})")
        return Decision(self._policy(name, turn.agent.id)(turn.observation, turn.agent.profile, turn.rng))

    def _policy(self, name: str, agent: str) -> Policy:
        policies = self._game.scenario.scripted
        if name not in policies:
            raise SimulationError(
                f"{self._game.spec.scenario} has no scripted policy {name}",
                where=f"agent {agent}",
                expected=" | ".join(policies),
            )
        return policies[name]

    def _stub(self, turn: Turn, brain: StubBrain) -> Decision:
        """The policy's answer, spoiled at the set rates. The three kinds of fault are drawn one after another."""
        if turn.purpose != "act":
            return self._scripted(turn, brain.policy)
        rng = turn.rng.within("stub")
        if rng.uniform("failing") < brain.failing:
            if self._game.spec.straggler.policy == "wait":
                raise Interruption("paused", f"the brain of {turn.agent.id} fails")
            return Decision(None, "the brain failed")
        if rng.uniform("malformed") < brain.malformed:
            return Decision(MALFORMED)
        if rng.uniform("wrong") < brain.wrong:
            return Decision(any_legal(turn.observation.legal, rng))
        return self._scripted(turn, brain.policy)

    async def _ask_own(self, turns: Sequence[tuple[Turn, CustomBrain]]) -> list[Decision]:
        """Brains of somebody's own, side by side. One that fails or is late follows the straggler policy.

        Raises:
            Interruption: one does, and the policy is to wait.
        """
        asked = [(self._own(brain), turn) for turn, brain in turns]
        answers = await asyncio.gather(*(self._in_time(brain, turn) for brain, turn in asked), return_exceptions=True)
        decisions: list[Decision] = []
        for turn, found in zip((turn for turn, _ in turns), answers, strict=True):
            if isinstance(found, str):
                decisions.append(Decision(found))
                continue
            if isinstance(found, BaseException) and not isinstance(found, Exception):
                raise found
            reason = f"the brain of {turn.agent.id} gave no text: {found!r}"[:400]
            if self._game.spec.straggler.policy == "wait":
                raise Interruption("paused", reason)
            decisions.append(Decision(None, reason))
        return decisions

    async def _in_time(self, brain: Brain, turn: Turn) -> str:
        return await asyncio.wait_for(brain.decide(turn), self._game.spec.straggler.timeout_s)

    def _own(self, brain: CustomBrain) -> Brain:
        key = canonical([brain.name, brain.params]).decode()
        if key not in self._custom:
            made: Brain = brain_class(brain)(**brain.params)
            self._custom[key] = made
        return self._custom[key]

    def _fallen_back(self, turn: Turn, decision: Decision) -> Decision:
        """A hybrid's scripted answer where its model's cannot be read."""
        brain = turn.agent.brain
        if not (isinstance(brain, HybridBrain) and brain.fallback and turn.purpose == "act"):
            return decision
        legal = turn.observation.legal
        if decision.text is not None and self._game.scenario.parse(decision.text, legal).status != "defaulted":
            return decision
        return self._scripted(turn, brain.policy)


def any_legal(legal: ActionSpec, rng: CounterRng) -> str:
    """A text that stands for a random legal action."""
    match legal:
        case Choice(options=options):
            return answer(rng.choice(options, "any"))
        case Integer(low=low, high=high):
            return answer(rng.integer(low, high, "any"))
        case Number(low=low, high=high):
            return answer(low + (high - low) * rng.uniform("any"))
        case FreeText():
            return f"word {rng.integer(0, 9999, 'any')}"
    default: Any = legal.default
    return canonical(default).decode()
