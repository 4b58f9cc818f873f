"""Models `team:<name>` and `agent:<simulation>/<agent>` behind the chat endpoint: answers that simulations give."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass

from services.http.access import Principal
from services.http.errors import ApiError
from services.http.standing import while_good
from services.inference.asking import Head, reported, sampling_of, tokens_of
from services.inference.conversation import question
from services.inference.requests import ChatCompletionRequest, TextFormat
from services.inference.responses import (
    AnswerMessage,
    ChatChoice,
    ChatDelta,
    ChunkChoice,
    FinishReason,
    Played,
    PlayedChunk,
    PlayedCompletion,
    UsedTokens,
)
from services.parts import Parts
from steerline.config.steering import SteeringSpec
from steerline.serving.following import Following
from steerline.serving.teams import (
    Answered,
    Drawn,
    Heard,
    NoAnswer,
    Said,
    agent_answers,
    ask_agent,
    begin,
    check_teams,
    team_answers,
)

TEAM = "team:"
AGENT = "agent:"
_AGENT_ID = re.compile(r"agent:(?P<sim>[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127})/(?P<agent>[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62})")
_OF_ONE_ANSWER: Mapping[str, tuple[object, ...]] = {
    "n": (1,),
    "stop": ([],),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "response_format": (TextFormat(type="text"),),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "steering": (0, SteeringSpec()),
}
"""Fields that act on an answer of a model's own, and what some clients send in them though it says nothing."""
_HEARTBEAT_S = 1.0


@dataclass(frozen=True)
class Question:
    """A question that a simulation answers."""

    sim: str
    """The simulation's id."""
    heard: AsyncGenerator[Heard, None]
    """What comes of it, for as long as the caller's key is good. It is read once."""
    caller: Principal
    """Who has put it."""


class Playing:
    """Puts questions to teams and agents.

    Args:
        parts: the store, the hosts, and the teams of the spec.

    Raises:
        ConfigError, SimulationError: a team of the spec could not be asked.
    """

    def __init__(self, parts: Parts) -> None:
        check_teams(parts.spec)
        self._parts = parts
        self._following = Following(parts.store, heartbeat_s=_HEARTBEAT_S)

    async def ask(self, body: ChatCompletionRequest, caller: Principal) -> Question:
        """Put a request's question. From here on it is answered whether or not anybody waits.

        Raises:
            ApiError: 400, a field does not act here; 403; 404, there is no such team or agent.
            ConfigError, SimulationError: it cannot be asked.
        """
        fields = _OF_ONE_ANSWER.items()
        own = next((name for name, neutral in fields if getattr(body, name) not in (None, *neutral)), None)
        if own is not None:
            raise ApiError(
                400,
                "invalid_request",
                f"{body.model} answers by a simulation, in which `{own}` has nothing to act on; leave it out",
                param=own,
            )
        drawn = _drawn(body, self._parts.spec.limits.most_tokens)
        ask = self._team if body.model.startswith(TEAM) else self._agent
        return await ask(body, drawn, caller)

    async def _team(self, body: ChatCompletionRequest, drawn: Drawn, caller: Principal) -> Question:
        name = body.model.removeprefix(TEAM)
        team = self._parts.spec.teams.get(name)
        if team is None:
            raise _unknown(body.model, ", ".join(f"{TEAM}{one}" for one in self._parts.spec.teams) or "no team")
        store = self._parts.store
        sim = await asyncio.to_thread(begin, store, name, team, question(body.messages), drawn, caller.payer)
        await self._parts.hosts.wake(sim)
        return Question(sim, while_good(team_answers(store, self._following, sim, team), caller), caller)

    async def _agent(self, body: ChatCompletionRequest, drawn: Drawn, caller: Principal) -> Question:
        named = _AGENT_ID.fullmatch(body.model)
        store = self._parts.store
        found = None if named is None else await asyncio.to_thread(store.hosted, named["sim"])
        if named is None or found is None:
            raise _unknown(body.model, "agent:<simulation>/<agent> of a simulation that is there")
        if "simulations.write" not in caller.scopes:
            raise ApiError(
                403, "missing_scope", "a question is an event of the simulation, and needs `simulations.write`"
            )
        sim, agent = named["sim"], named["agent"]
        control, after = await asyncio.to_thread(ask_agent, store, sim, agent, question(body.messages), drawn)
        await self._parts.hosts.wake(sim)
        heard = agent_answers(store, self._following, sim, agent, control, after)
        return Question(sim, while_good(heard, caller), caller)


async def whole(head: Head, asked: Question) -> PlayedCompletion:
    """The answer in one piece.

    Raises:
        ApiError: 429 or 503; there is none.
    """
    async with aclosing(asked.heard) as heard:
        async for one in heard:
            if isinstance(one, NoAnswer):
                raise await _no_answer(one, asked.caller)
            if isinstance(one, Answered):
                message = AnswerMessage(content=one.text)
                return PlayedCompletion(
                    id=head.id,
                    created=head.created,
                    model=head.model,
                    choices=[ChatChoice(index=0, message=message, finish_reason="stop")],
                    usage=reported(one.usage),
                    x_steerline=Played(simulation=asked.sim),
                )
    raise AssertionError("what is heard ends with an answer, or why there is none")


async def texts(head: Head, asked: Question, body: ChatCompletionRequest) -> AsyncGenerator[str, None]:
    """The data of a stream's events, but for its end: what agents say, if that is wanted, and the answer.

    Raises:
        ApiError: 429 or 503; there is none. 401; the caller's key is good no more.
    """
    with_usage = body.stream_options is not None and bool(body.stream_options.include_usage)
    with_agents = body.x_steerline is not None and body.x_steerline.agents
    yield _chunk(head, Played(simulation=asked.sim), {"role": "assistant", "content": ""})
    async with aclosing(asked.heard) as heard:
        async for one in heard:
            match one:
                case None:
                    yield ""
                case Said(agent, text) if with_agents:
                    yield _chunk(head, Played(simulation=asked.sim, agent=agent, text=text), {})
                case Answered(text, usage):
                    played = Played(simulation=asked.sim)
                    yield _chunk(head, played, {"content": text})
                    yield _chunk(head, played, {}, "stop")
                    if with_usage:
                        yield _last(head, played, reported(usage))
                case NoAnswer():
                    raise await _no_answer(one, asked.caller)


def _drawn(body: ChatCompletionRequest, most_tokens: int) -> Drawn:
    """What a request says of how each turn is drawn; brains keep the rest as they have it."""
    tokens = tokens_of(body)
    sampling = sampling_of(body, tokens, most_tokens)
    said = {"temperature": body.temperature, "top_p": body.top_p, "max_tokens": tokens}
    return Drawn(
        seed=None if body.seed is None else abs(body.seed),
        sampling={name: getattr(sampling, name) for name, value in said.items() if value is not None},
    )


def _chunk(head: Head, played: Played, delta: ChatDelta, reason: FinishReason | None = None) -> str:
    choices = [ChunkChoice(index=0, delta=delta, finish_reason=reason)]
    chunk = PlayedChunk(id=head.id, created=head.created, model=head.model, choices=choices, x_steerline=played)
    return chunk.model_dump_json()


def _last(head: Head, played: Played, usage: UsedTokens) -> str:
    chunk = PlayedChunk(id=head.id, created=head.created, model=head.model, choices=[], usage=usage, x_steerline=played)
    return chunk.model_dump_json()


async def _no_answer(found: NoAnswer, caller: Principal) -> ApiError:
    if found.again_s is not None:
        try:
            await caller.check()
        except ApiError as error:  # what any other question of this caller is answered now
            return error
    return ApiError(503, "no_answer", found.why, retry_after_s=found.again_s)


def _unknown(model: str, expected: str) -> ApiError:
    return ApiError(404, "model_not_found", f"there is no {model}; expected: {expected}", param="model")
