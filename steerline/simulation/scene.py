"""What the parts of a tick work on: the world that is being made, its draws, and the events so far."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from steerline.simulation.action import Action, ActionSpec
from steerline.simulation.event import EventDraft, EventKind, Phase
from steerline.simulation.game import Game
from steerline.simulation.memory import recall
from steerline.simulation.observation import Observation
from steerline.simulation.parsing import parse
from steerline.simulation.rng import CounterRng
from steerline.simulation.scenario import Feedback
from steerline.simulation.text import clean
from steerline.simulation.turn import Decider, Decision, Purpose, Turn
from steerline.simulation.world import World


@dataclass
class Scene:
    """A tick in the making."""

    game: Game
    world: World
    decider: Decider
    drafts: list[EventDraft] = field(default_factory=list)
    round: int = 0
    """Sub-rounds so far."""
    turns: list[Turn] = field(default_factory=list)
    """Turns that were taken, in order."""
    actions: list[Action] = field(default_factory=list)
    """What came of them."""
    causes: dict[str, int] = field(default_factory=dict)
    """Number of the event of each agent's last action."""
    feedback: list[Feedback] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tick = self.world.tick
        self.had_agents = bool(self.world.agents)
        self.rng: CounterRng = self.game.rng.at(self.tick)

    def log(
        self,
        phase: Phase,
        kind: EventKind,
        payload: dict[str, Any],
        agent: str | None = None,
        cause: int | None = None,
    ) -> int:
        """Take down an event; its number."""
        self.drafts.append(EventDraft(phase, kind, payload, agent, cause))
        return self.world.seq + len(self.drafts)

    def observe(self, agent: str) -> Observation:
        """What an agent sees now, with what it remembers, without its messages."""
        world, member = self.world, self.world.agents[agent]
        seen = self.game.scenario.observe(world.state, agent)
        records = world.memories.get(agent, ())
        memory = recall(member.memory, records, seen.text, self.tick) if records else ""
        return replace(seen, agent=agent, tick=self.tick, round=self.round, memory=memory)

    def ask(self, agent: str, question: str, legal: ActionSpec, purpose: Purpose) -> Turn:
        """A turn beside the game: the agent sees what it sees now, and a question."""
        seen = self.observe(agent)
        text = f"{seen.text}\n\n{question}".lstrip()
        inbox = self.world.inbox.get(agent, ())
        seen = replace(seen, legal=legal, text=text, facts={**seen.facts, "question": question}, messages=inbox)
        return Turn(self.world.agents[agent], seen, self.rng.within(f"{purpose}/{self.round}/{agent}"), purpose)

    def read(self, turn: Turn, decision: Decision) -> Action:
        """The action that a text stands for. Hostile text is cleaned, with an event."""
        agent, legal = turn.agent.id, turn.observation.legal
        if decision.text is None:
            return Action(agent, self.tick, legal.default, "", "defaulted", decision.reason)
        text = self.cleaned("decide", agent, decision.text, decision.removed, decision.cut)
        parsed = self.game.scenario.parse(text, legal) if turn.purpose == "act" else parse(text, legal)
        return Action(agent, self.tick, parsed.payload, text, parsed.status, parsed.reason)

    def cleaned(self, phase: Phase, agent: str, text: str, removed: int = 0, cut: int = 0) -> str:
        """A text without what is no text and what is too long; an event says what went, earlier losses included."""
        found = clean(text, self.game.spec.max_text)
        removed, cut = removed + found.removed, cut + found.cut
        if removed or cut:
            self.log(phase, "text.neutralised", {"removed": removed, "cut": cut}, agent)
        return found.text


def said(decision: Decision, action: Action) -> str | None:
    """The text of an answer as it is logged: cleaned, or none where there was none."""
    return None if decision.text is None else action.raw_text


def place_of(turn: Turn, **payload: Any) -> dict[str, Any]:
    """A payload with the place of its turn, where a replay looks for it."""
    return {"round": turn.observation.round, "purpose": turn.purpose, **payload}
