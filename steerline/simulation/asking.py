"""From a turn to a model's answer: journal first, then the model, under budget and straggler policy."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from steerline.config.inference import ServedBackendSpec
from steerline.config.render import identity
from steerline.config.simulation import SimulationSpec
from steerline.config.simulation_agents import LlmBrain
from steerline.inference.client import OnResult
from steerline.inference.request import ChatMessage, GenRequest, GenResult
from steerline.simulation.action import Structured
from steerline.simulation.budgets import Budget
from steerline.simulation.canonical import digest
from steerline.simulation.game import Game
from steerline.simulation.interruption import Interruption
from steerline.simulation.journal import Journal, Place
from steerline.simulation.turn import Decision, Turn

AGAIN_S = 15.0
"""Seconds after which a host plays on whose model was away for longer than the client is patient."""
_SEEDS = 2**31 - 1


def served_names(spec: SimulationSpec) -> dict[str, str]:
    """What a simulation calls its served models, to the endpoint's name for them."""
    backends = ((alias, ref.backend) for alias, ref in spec.models.items())
    return {alias: backend.name for alias, backend in backends if isinstance(backend, ServedBackendSpec)}


class Asking(Protocol):
    """What a run's line of work can do; see `steerline.inference.client.Caller`."""

    async def ask_all(self, requests: Sequence[GenRequest], on_result: OnResult | None = None) -> list[GenResult]:
        """The answers, in order; each is told as it comes."""
        ...

    def away(self) -> AbstractContextManager[None]:
        """While inside, it waits for something other than a model."""
        ...


class Models(Protocol):
    """Who reaches the models: an `InferenceClient`, wherever its event loop is."""

    @property
    def models(self) -> tuple[str, ...]:
        """The aliases that it reaches."""
        ...

    def caller(self, names: Mapping[str, str] | None = None) -> AbstractContextManager[Asking]:
        """A line of work."""
        ...


@dataclass
class _Question:
    """A turn that a model answers, as far as the conversation about it has come."""

    turn: Turn
    brain: LlmBrain
    messages: tuple[ChatMessage, ...]
    decision: Decision | None = None


class Asker:
    """Asks models on behalf of agents.

    Args:
        game: the rules.
        sim: name of the simulation.
        journal: where answers are looked up and taken down.
        budget: the limits.
        client: who reaches the models; none where every answer comes from the journal.
    """

    def __init__(self, game: Game, sim: str, journal: Journal, budget: Budget, client: Models | None) -> None:
        self._game = game
        self._sim = sim
        self._journal = journal
        self._budget = budget
        self._client = client
        self._names = served_names(game.spec)
        self.caller: Asking | None = None
        """The run's line of work; set while it runs."""
        self._revisions = {
            alias: f"{ref.revision}:{digest(identity(ref.backend))[:16]}" for alias, ref in game.spec.models.items()
        }
        self._late: dict[str, str] = {}
        self._under_way: dict[str, asyncio.Task[None]] = {}

    async def ask(self, turns: Sequence[tuple[Turn, LlmBrain]]) -> list[Decision]:
        """An answer to each turn. Those that cannot be read are asked again, with the reason, as often as allowed.

        Raises:
            Interruption: a budget is reached, or a model fails and the straggler policy is to wait.
            ReplayError: the replay is strict and the journal holds another request.
        """
        began = asyncio.get_running_loop().time()
        questions = [_Question(turn, brain, self._messages(turn)) for turn, brain in turns]
        late = [question for question in questions if self._is_under_way(question.turn)]
        attempt, open_ = 1, [question for question in questions if question not in late]
        while open_:
            await self._round(open_)
            open_ = [question for question in open_ if attempt < question.brain.attempts and self._doubts(question)]
            attempt += 1
        if late:
            await self._take_late(late, began)
        return [question.decision or Decision(None, "no answer") for question in questions]

    async def close(self) -> None:
        """End what is still under way."""
        for task in self._under_way.values():
            task.cancel()
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)

    async def _round(self, questions: Sequence[_Question]) -> None:
        """One attempt at each question."""
        missing: list[tuple[_Question, Place, GenRequest]] = []
        for question in questions:
            place = self._journal.place(question.turn.observation.tick, question.turn.agent.id)
            request = self._request(question, place)
            result = self._journal.find(place, request)
            if result is None:
                missing.append((question, place, request))
            else:
                self._settle(question, result)
        if missing:
            await self._send(missing)
        for question in questions:
            if question.decision is None:
                question.decision = Decision(None, "no answer in time")

    async def _send(self, missing: Sequence[tuple[_Question, Place, GenRequest]]) -> None:
        requests = [request for _, _, request in missing]
        self._budget.check(requests, missing[0][1][0])
        failed: list[GenResult] = []
        running = True

        def answered(index: int, result: GenResult) -> None:
            question, place, request = missing[index]
            if result.failure is not None:
                failed.append(result)
                question.decision = Decision(None, result.failure.what)
                return
            self._budget.spend(request, result)
            self._journal.add(place, request, result)
            if running:
                self._settle(question, result)
            else:
                self._late[question.turn.agent.id] = result.text

        straggler = self._game.spec.straggler
        assert self._client is not None
        assert self.caller is not None, "an asker asks while its run runs"
        if straggler.timeout_s is None:
            await self.caller.ask_all(requests, answered)
        elif straggler.policy == "late":
            task = asyncio.create_task(self._ask_beside(requests, answered))
            self._under_way |= {question.turn.agent.id: task for question, _, _ in missing}
            with self.caller.away():
                await asyncio.wait({task}, timeout=straggler.timeout_s)
            running = False
        else:
            try:
                await asyncio.wait_for(self.caller.ask_all(requests, answered), straggler.timeout_s)
            except TimeoutError:
                if straggler.policy == "wait":
                    raise Interruption("paused", f"a turn took longer than {straggler.timeout_s:g} s") from None
        if failed and straggler.policy == "wait":
            failure = failed[0].failure
            assert failure is not None
            again_s = max(AGAIN_S, failure.retry_after_s or 0.0) if failure.retryable else None
            raise Interruption("paused", f"a model failed: {failure.what}", again_s)

    async def _ask_beside(self, requests: Sequence[GenRequest], answered: OnResult) -> None:
        assert self._client is not None
        with self._client.caller(self._names) as beside:
            await beside.ask_all(requests, answered)

    def _is_under_way(self, turn: Turn) -> bool:
        """Whether an answer to an earlier turn is still to come, or has come meanwhile."""
        return turn.purpose == "act" and turn.agent.id in self._under_way

    async def _take_late(self, questions: Sequence[_Question], began: float) -> None:
        """Answers to an earlier turn stand for this one; they have the time of a turn to come."""
        assert self.caller is not None
        tasks = {self._under_way[question.turn.agent.id] for question in questions}
        left = began + (self._game.spec.straggler.timeout_s or 0.0) - asyncio.get_running_loop().time()
        with self.caller.away():
            await asyncio.wait(tasks, timeout=max(0.0, left))
        for question in questions:
            agent = question.turn.agent.id
            if agent in self._late:
                question.decision = Decision(self._late.pop(agent), late=True)
            elif self._under_way[agent].done():
                question.decision = Decision(None, "the answer to an earlier turn failed")
            else:
                question.decision = Decision(None, "the answer to an earlier turn is still under way")
                continue
            del self._under_way[agent]

    def _settle(self, question: _Question, result: GenResult) -> None:
        self._under_way.pop(question.turn.agent.id, None)
        question.decision = Decision(result.text)

    def _doubts(self, question: _Question) -> bool:
        """Whether an answer could not be read; the question then says so."""
        text = question.decision.text if question.decision else None
        if text is None:
            return False
        legal = question.turn.observation.legal
        parsed = self._game.scenario.parse(text, legal)
        if parsed.status != "defaulted":
            return False
        again = f"That could not be read: {parsed.reason}. {legal.instruction()}"
        question.messages += (ChatMessage("assistant", text), ChatMessage("user", again))
        return True

    def _messages(self, turn: Turn) -> tuple[ChatMessage, ...]:
        prompt = self._game.prompt(turn)
        return (ChatMessage("system", prompt.system), ChatMessage("user", prompt.user))

    def _request(self, question: _Question, place: Place) -> GenRequest:
        turn, brain = question.turn, question.brain
        ref = self._game.spec.models[brain.model]
        legal = turn.observation.legal
        return GenRequest(
            model=brain.model,
            messages=question.messages,
            sampling=brain.sampling,
            seed=turn.rng.integer(0, _SEEDS, "call", draw=place[2]),
            response_schema=legal.schema if isinstance(legal, Structured) else None,
            steering=brain.steering or ref.steering,
            revision=self._revisions[brain.model],
            simulation=self._sim,
            agent=turn.agent.id,
            call="/".join(map(str, place)),
        )
