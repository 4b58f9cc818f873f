"""People's seats: questions with a deadline and a default, answers that count once.

A question that nobody has answered breaks the tick off; the run is then `waiting`, holds nothing, and goes on when it
is run again, here or elsewhere, after the answer has been posted or the deadline has passed.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from steerline.config.simulation_agents import HumanBrain, ReviewedBrain
from steerline.simulation.game import Game
from steerline.simulation.interruption import Interruption
from steerline.simulation.store.base import Control, Store
from steerline.simulation.text import clean, quoted
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
        return await self._asked([self._request(turn, brain) for turn, brain in turns])

    async def review(self, turns: Sequence[tuple[Turn, ReviewedBrain, Decision]]) -> list[Decision]:
        """What people make of flagged answers: they stand, another text counts instead, or nothing does.

        Raises:
            Interruption: somebody has not answered, and has time left.
        """
        said = await self._asked([self._review_of(*turn) for turn in turns])
        return [_reviewed(decision, found) for (_, _, decision), found in zip(turns, said, strict=True)]

    async def _asked(self, requests: Sequence[HumanRequest]) -> list[Decision]:
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
        seen = turn.observation
        prompt = self._game.scenario.prompt(seen, turn.agent.profile)
        return self._first(turn, "", prompt.user, seen.legal.instruction(), brain)

    def _review_of(self, turn: Turn, brain: ReviewedBrain, decision: Decision) -> HumanRequest:
        text = clean(decision.text or "", self._game.spec.max_text).text
        question = f"{turn.agent.id} answers:\n{quoted(text)}"
        return self._first(turn, "/review", question, "`approve`, `veto`, or the text that counts instead", brain)

    def _first(
        self, turn: Turn, suffix: str, question: str, instruction: str, brain: HumanBrain | ReviewedBrain
    ) -> HumanRequest:
        """The question, with the deadline that it got when it was first asked."""
        tick = turn.observation.tick
        name = f"{tick}.{turn.observation.round}.{turn.agent.id}{suffix}"
        known = next((request for request in questions(self._store, self._sim) if request.id == name), None)
        if known is not None:
            return known
        deadline = None if brain.deadline_s is None else self._clock() + brain.deadline_s
        request = HumanRequest(name, turn.agent.id, tick, question, instruction, deadline, brain.default)
        self._store.operate(self._sim, ASKED, asdict(request))
        return request


def is_flagged(brain: ReviewedBrain, decision: Decision) -> bool:
    """Whether a person is to look at an answer."""
    if decision.text is None:
        return False
    words = "|".join(map(re.escape, brain.flagged))
    text = clean(decision.text, len(decision.text)).text  # Marks that hide a word do not hide it from its reviewer.
    return not words or re.search(rf"(?<!\w)(?:{words})(?!\w)", text, re.IGNORECASE) is not None


def _reviewed(decision: Decision, answer: Decision) -> Decision:
    match (answer.text or "").strip().casefold():
        case "approve":
            return replace(decision, reviewed="approved")
        case "veto":
            return Decision(None, answer.reason or "a person vetoed it", reviewed="vetoed")
    return Decision(answer.text, reviewed="edited")


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
