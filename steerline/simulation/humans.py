"""People's seats: questions with a deadline and a default, answers that count once.

A question that nobody has answered breaks the tick off; the run is then `waiting`, holds nothing, and goes on when it
is run again, here or elsewhere, after the answer has been posted or the deadline has passed.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from steerline.config.simulation_agents import HumanBrain
from steerline.simulation.game import Game
from steerline.simulation.interruption import Interruption
from steerline.simulation.store.base import Control, Store
from steerline.simulation.turn import Decision, Turn

ASKED = "human.requested"


@dataclass(frozen=True)
class HumanRequest:
    """A question to a person."""

    id: str
    """Place in the history: `tick.round.agent`."""
    agent: str
    tick: int
    question: str
    """What the person sees."""
    instruction: str
    """What may be answered."""
    deadline: float | None
    """Seconds since 1970 after which the default is taken."""
    default: str | None


AskHuman = Callable[[HumanRequest], Awaitable[str | None]]
"""Asks a person who is here, e.g. at the terminal; none leaves the question open."""


class Humans:
    """Asks people and finds their answers.

    Args:
        game: the rules.
        store: where questions and answers are.
        sim: name of the simulation.
        ask: a person who is here.
        clock: seconds since 1970.
    """

    def __init__(
        self, game: Game, store: Store, sim: str, ask: AskHuman | None, clock: Callable[[], float] = time.time
    ) -> None:
        self._game = game
        self._store = store
        self._sim = sim
        self._ask = ask
        self._clock = clock

    async def answer(self, turns: Sequence[tuple[Turn, HumanBrain]]) -> list[Decision]:
        """An answer to each turn; all are asked before any is awaited.

        Raises:
            Interruption: somebody has not answered, and has time left.
        """
        requests = [self._request(turn, brain) for turn, brain in turns]
        answers = answers_of(self._store, self._sim)
        decisions = [await self._decide(request, answers.get(request.id)) for request in requests]
        waiting = [request.agent for request, found in zip(requests, decisions, strict=True) if found is None]
        if waiting:
            raise Interruption("waiting", f"{', '.join(waiting)}: nobody has answered yet")
        return [found for found in decisions if found is not None]

    async def _decide(self, request: HumanRequest, posted: str | None) -> Decision | None:
        if posted is not None:
            return Decision(posted)
        if request.deadline is not None and self._clock() >= request.deadline:
            return Decision(request.default, "nobody answered before the deadline")
        text = None if self._ask is None else await self._ask(request)
        if text is None:
            return None
        answer(self._store, self._sim, request.id, text)
        return Decision(answers_of(self._store, self._sim)[request.id])

    def _request(self, turn: Turn, brain: HumanBrain) -> HumanRequest:
        """The question, with the deadline that it got when it was first asked."""
        seen = turn.observation
        name = f"{seen.tick}.{seen.round}.{turn.agent.id}"
        known = next((request for request in questions(self._store, self._sim) if request.id == name), None)
        if known is not None:
            return known
        deadline = None if brain.deadline_s is None else self._clock() + brain.deadline_s
        prompt = self._game.scenario.prompt(seen, turn.agent.profile)
        request = HumanRequest(
            name, turn.agent.id, seen.tick, prompt.user, seen.legal.instruction(), deadline, brain.default
        )
        self._store.operate(self._sim, ASKED, asdict(request))
        return request


def questions(store: Store, sim: str) -> list[HumanRequest]:
    """Every question that was asked, in order."""
    return [HumanRequest(**_fields(entry.payload)) for entry in store.operations(sim) if entry.kind == ASKED]


def open_questions(store: Store, sim: str) -> list[HumanRequest]:
    """Questions of the newest tick that has any, which nobody has answered."""
    asked, answers = questions(store, sim), answers_of(store, sim)
    newest = max((request.tick for request in asked), default=-1)
    return [request for request in asked if request.tick == newest and request.id not in answers]


def answer(store: Store, sim: str, request: str, text: str) -> bool:
    """Answer a question; whether this was the first answer, which is the one that counts."""
    return store.post(sim, Control(f"answer/{request}", "answer", {"request": request, "text": text}))


def answers_of(store: Store, sim: str) -> dict[str, str]:
    """Answers that no tick has taken yet, by question."""
    controls = (control for control in store.controls(sim) if control.kind == "answer")
    return {str(control.payload["request"]): str(control.payload["text"]) for control in controls}


def _fields(payload: Any) -> dict[str, Any]:
    return dict(payload)
