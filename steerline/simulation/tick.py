"""One tick, the same code whether agents are asked or an earlier run is rebuilt.

Phases: deliver the messages that are due, observe (all from the same snapshot), decide, resolve in order of ids, route
what was said, and again where the scenario asks for another sub-round; then feedback, adjust, metrics, commit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from steerline.errors import SimulationError
from steerline.simulation.action import Action
from steerline.simulation.canonical import digest
from steerline.simulation.event import EventDraft, EventKind, Phase
from steerline.simulation.game import Game
from steerline.simulation.mail import Mail
from steerline.simulation.scenario import Feedback, Resolution
from steerline.simulation.text import clean
from steerline.simulation.turn import Decider, Decision, Turn
from steerline.simulation.world import World

MAX_ROUNDS = 1000
"""Sub-rounds of a tick after which a scenario is taken to ask for them without end."""


class Tick:
    """Makes the next world out of a world. The old one stays as it was, so that a tick that fails leaves no trace.

    Args:
        game: the rules.
        world: the world before the tick.
        decider: who answers the turns.
    """

    def __init__(self, game: Game, world: World, decider: Decider) -> None:
        self.world = world.copy()
        self.drafts: list[EventDraft] = []
        self._game = game
        self._decider = decider
        self._tick = world.tick
        self._rng = game.rng.at(world.tick)
        self._round = 0
        self._actions: dict[str, Action] = {}
        self._feedback: list[Feedback] = []
        self._mail = Mail(game, self.world, self._log)

    async def run(self) -> World:
        """Carry out the tick.

        Returns:
            the world after it; what happened is in `drafts`.

        Raises:
            SimulationError: the scenario asks for sub-rounds without end.
        """
        self._log("start", "tick.started", {})
        while await self._rounds():
            if self._round >= MAX_ROUNDS:
                raise SimulationError(
                    "the scenario asks for sub-rounds without end",
                    where=f"{self._game.spec.scenario}, tick {self._tick}",
                    expected=f"at most {MAX_ROUNDS} in a tick",
                    fix="return `again=False` once the conversation is over",
                )
        self._tell()
        self._commit()
        return self.world

    async def _rounds(self) -> bool:
        """One sub-round, or one for each actor where turns are taken; whether the tick goes on."""
        actors = self._actors()
        if self._game.spec.engine != "sequential":
            return await self._play(actors)
        again = False
        for actor in actors:
            if self._game.scenario.done(self.world.state):
                return False
            if actor in self.world.agents:
                again = await self._play([actor])
        return again

    def _actors(self) -> list[str]:
        game, world = self._game, self.world
        actors = [agent for agent in game.scenario.who_acts(world.state) if agent in world.agents]
        return actors if game.spec.engine == "sequential" else sorted(actors)

    async def _play(self, actors: Sequence[str]) -> bool:
        self._mail.deliver(self._tick)
        if self._game.spec.engine == "event":
            actors = [agent for agent in actors if self._is_woken(agent)]
        turns = [self._observe(agent) for agent in actors]
        decisions = await self._decider.decide(turns) if turns else ()
        actions = {turn.agent.id: self._read(turn, decision) for turn, decision in zip(turns, decisions, strict=True)}
        resolution = self._game.scenario.resolve(self.world.state, actions, self._rng.within(f"round{self._round}"))
        self._apply(resolution)
        read = {turn.agent.id: tuple(message.id for message in turn.observation.messages) for turn in turns}
        self._mail.send(resolution.messages, self._tick, self._round, read)
        self._actions |= actions
        self._feedback += resolution.feedback
        self._round += 1
        return resolution.again

    def _is_woken(self, agent: str) -> bool:
        return bool(self.world.inbox.get(agent)) or self._tick == 0

    def _observe(self, agent: str) -> Turn:
        seen = self._game.scenario.observe(self.world.state, agent)
        messages = self.world.inbox.pop(agent, ())
        seen = replace(seen, agent=agent, tick=self._tick, round=self._round, messages=messages)
        rng = self._rng.within(f"brain/{self._round}/{agent}")
        return Turn(self.world.agents[agent], seen, rng)

    def _read(self, turn: Turn, decision: Decision) -> Action:
        """The action that a text stands for, and its event."""
        agent, legal = turn.agent.id, turn.observation.legal
        if decision.text is None:
            action = Action(agent, self._tick, legal.default, "", "defaulted", decision.reason)
        else:
            cleaned = clean(decision.text, self._game.spec.max_text)
            if cleaned.removed or cleaned.cut:
                payload = {"removed": cleaned.removed, "cut": cleaned.cut}
                self._log("decide", "text.neutralised", payload, agent)
            parsed = self._game.scenario.parse(cleaned.text, legal)
            action = Action(agent, self._tick, parsed.payload, cleaned.text, parsed.status, parsed.reason)
        self._log(
            "decide",
            "action.invalid" if action.parse == "defaulted" else "action.taken",
            {
                "round": self._round,
                "payload": action.payload,
                "text": None if decision.text is None else action.raw_text,
                "parse": action.parse,
                "reason": action.reason,
            },
            agent,
        )
        return action

    def _apply(self, resolution: Resolution) -> None:
        self.world.state = resolution.state
        for event in resolution.events:
            self._log("resolve", "env.changed", dict(event))

    def _tell(self) -> None:
        for feedback in self._feedback:
            self._log("feedback", "feedback.given", asdict(feedback), feedback.target)

    def _commit(self) -> None:
        game, world = self._game, self.world
        world.topology = game.topology.step(world.topology, self._actions, self._rng.within("topology"))
        self._log("metrics", "metric.recorded", {"values": self._values()})
        world.tick += 1
        world.ended = self._ending()
        self._log("commit", "tick.committed", {"state": digest(world.state), "agents": len(world.agents)})
        if world.ended is not None:
            self._log("commit", "sim.ended", {"reason": world.ended})

    def _values(self) -> Mapping[str, float]:
        values = self._game.scenario.metrics(self.world.state)
        return {name: float(value) for name, value in values.items()}

    def _ending(self) -> str | None:
        game, world = self._game, self.world
        if game.scenario.done(world.state):
            return "the scenario has ended"
        if not world.agents:
            return "no agent is left"
        if world.tick >= game.spec.max_ticks:
            return "max_ticks is reached"
        return game.topology.finished(world.topology)

    def _log(self, phase: Phase, kind: EventKind, payload: dict[str, Any], agent: str | None = None) -> None:
        self.drafts.append(EventDraft(phase, kind, payload, agent))
