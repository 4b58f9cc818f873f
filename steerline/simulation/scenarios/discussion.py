"""A discussion of an open question: all say what they think, hear the others, and go on; an editor or a vote concludes.

With an agent of the role `editor` the answer is what it writes after the last round; without one, all vote for one of
the last statements. Nothing here knows what is right: the answer is the outcome.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from statistics import fmean
from typing import Any

from pydantic import Field

from steerline.config.base import Spec
from steerline.config.simulation import SimulationSpec
from steerline.config.simulation_agents import AgentSpec, Profile, ScriptedBrain
from steerline.errors import SimulationError
from steerline.simulation.action import Action, ActionSpec, Choice, FreeText
from steerline.simulation.message import Draft
from steerline.simulation.observation import Observation
from steerline.simulation.oracle import Oracle
from steerline.simulation.parsing import answer
from steerline.simulation.rng import CounterRng
from steerline.simulation.scenario import Coverage, Resolution, Scenario, Seat, State
from steerline.simulation.scenarios.turns import is_whole
from steerline.simulation.text import quoted

EDITOR = "editor"
"""The role of the agent that hears the discussion and writes its answer."""

NO_VOTE = "none"
"""Stands for a vote that could not be read."""


class DiscussionParams(Spec):
    """Settings of the discussion."""

    question: str = Field(default="What makes a good neighbour?", min_length=1, max_length=20_000)
    """What is discussed."""
    rounds: int = Field(default=2, ge=1)
    """Times that everybody speaks, before the answer is written or voted for."""
    words: int = Field(default=80, ge=1)
    """Length of a statement that is asked for."""


class Discussion(Scenario[DiscussionParams]):
    """A discussion of an open question."""

    Params = DiscussionParams
    coverage = Coverage(
        domain="discussion",
        interface=frozenset({"none"}),
        profiling=frozenset({"predefined"}),
        paradigm=frozenset({"cooperative", "debate"}),
        structure=frozenset({"decentralised", "centralised"}),
        feedback=frozenset({"agents"}),
    )

    def reset(self, seats: Sequence[Seat], rng: CounterRng) -> State:
        editors = [seat.id for seat in seats if seat.profile.role == EDITOR]
        speakers = [seat.id for seat in seats if seat.profile.role != EDITOR]
        if not speakers:
            raise SimulationError("nobody discusses", got=f"{len(editors)} editors", fix="give an agent another role")
        if len(editors) > 1:
            raise SimulationError("an answer has one editor", got=", ".join(editors), fix="give the others a role")
        return {
            "speakers": speakers,
            "editor": editors[0] if editors else None,
            "round": 0,  # rounds spoken
            "said": dict.fromkeys(speakers, ""),  # the last statement by speaker
            "votes": {},  # candidate by voter
            # "asked": who has moved in a round that is not over, while speakers take turns
            "answer": None,
            "by": None,
        }

    def who_acts(self, state: State) -> Sequence[str]:
        if not self._is_said(state) or state["editor"] is None:
            speakers: Sequence[str] = state["speakers"]
            return speakers
        return [state["editor"]]

    def observe(self, state: State, agent: str) -> Observation:
        asked = f"Question: {self.params.question}"
        last, own_text = state["said"], state["said"].get(agent, "")
        facts: dict[str, Any] = {"stage": "speak", "said": own_text, "statements": {}}
        if not self._is_said(state):
            own = [f"You said before:\n{quoted(own_text)}", "Think about what the others said."] if own_text else []
            return Observation(FreeText(), "\n".join([asked, *own, "Say what you think now."]), facts=facts)
        heard = "\n".join(f"{name}:\n{quoted(text)}" for name, text in last.items())
        facts |= {"statements": dict(last), "stage": "vote" if state["editor"] is None else "edit"}
        if state["editor"] is None:
            task, legal = "Vote for the best of these answers.", self._ballot(state)
        else:
            task, legal = "Write the one answer that all of this comes to.", FreeText()
        return Observation(legal, f"{asked}\nWhat was said last:\n{heard}\n{task}", facts=facts)

    def resolve(self, state: State, actions: Mapping[str, Action], rng: CounterRng) -> Resolution:
        if self._is_said(state) and state["editor"] is not None:
            text = str(actions[state["editor"]].payload) if state["editor"] in actions else ""
            return self._answered(state, text, state["editor"])
        asked = {*state.get("asked", ()), *actions}
        is_last = is_whole(actions, asked, state["speakers"])
        moved = self._voted(state, actions) if self._is_said(state) else self._spoken(state, actions, is_last)
        if is_last:
            return self._closed(moved, rng)
        return replace(moved, state={**moved.state, "asked": sorted(asked)})

    def settled(self, state: State, rng: CounterRng) -> Resolution:
        return self._closed(Resolution(state), rng) if "asked" in state else Resolution(state)

    def done(self, state: State) -> bool:
        return state["answer"] is not None

    def metrics(self, state: State) -> Mapping[str, float]:
        texts = list(state["said"].values())
        pairs = [_plain(one) == _plain(other) for one, other in combinations(texts, 2)]
        numbers = {
            "agreement": fmean(pairs) if pairs else 1.0,
            "words": fmean(len(text.split()) for text in texts),
            "silent": fmean(not text for text in texts),
        }
        votes = Counter(state["votes"].values())
        return {**numbers, "support": votes[state["by"]] / votes.total()} if votes else numbers

    def rules(self) -> str:
        return (
            "You and others answer a question together. Everybody says what they think, hears the others, and may"
            " change their mind. Keep what is right in what others say, and say what is wrong with the rest."
            f" Use at most {self.params.words} words."
        )

    def outcome(self, state: State) -> Mapping[str, Any]:
        return {
            **self.metrics(state),
            "question": self.params.question,
            "answer": state["answer"],
            "by": state["by"],
            "rounds": state["round"],
        }

    @classmethod
    def oracles(cls) -> Sequence[Oracle]:
        size, rounds = 5, 4
        return [
            Oracle(
                "who takes over what anybody said comes to agree",
                game(["drifting"] * size, rounds=rounds),
                lambda result: result.metrics[-1]["agreement"],
                # Two agents copied the same one with chance 1/n, or two others, who may agree already.
                exact=1 - (1 - 1 / size) ** (rounds - 1),
                source="Wright-Fisher drift: identity by descent after so many generations",
                seeds=100,
            ),
            Oracle(
                "three votes by chance",
                game(["drifting"] * 3, rounds=1),
                lambda result: result.metrics[-1]["support"],
                # Of 27 outcomes 3 are unanimous, 18 two against one, 6 all different.
                exact=(3 * 3 + 18 * 2 + 6 * 1) / 27 / 3,
                source="the largest of three multinomial counts",
                seeds=200,
            ),
        ]

    def _is_said(self, state: State) -> bool:
        """Whether all rounds were spoken."""
        return bool(state["round"] >= self.params.rounds)

    def _ballot(self, state: State) -> ActionSpec:
        return Choice(tuple(state["speakers"]), default=NO_VOTE)

    def _spoken(self, state: State, actions: Mapping[str, Action], closes: bool) -> Resolution:
        """Statements of a round. Who says nothing stands by what they said before."""
        said = {agent: str(action.payload) for agent, action in actions.items() if action.payload}
        # What is said last stands in the ballot, and before the editor, as it was said.
        is_final = closes and state["round"] + 1 >= self.params.rounds
        heard = [] if is_final else [Draft(agent, text, data=text) for agent, text in said.items()]
        return Resolution({**state, "said": {**state["said"], **said}}, messages=heard)

    def _voted(self, state: State, actions: Mapping[str, Action]) -> Resolution:
        votes = {agent: action.payload for agent, action in actions.items() if action.payload != NO_VOTE}
        return Resolution({**state, "votes": {**state["votes"], **votes}})

    def _closed(self, moved: Resolution, rng: CounterRng) -> Resolution:
        """A round that is over: of statements, or the vote."""
        state = {name: value for name, value in moved.state.items() if name != "asked"}
        if not self._is_said(state):
            state["round"] += 1
            if not (self._is_said(state) and state["editor"] is None and len(state["speakers"]) == 1):
                return replace(moved, state=state)
            (winner,) = state["speakers"]
        else:
            counts = Counter(state["votes"].values())
            most = max(counts.values(), default=0)
            winner = rng.choice(sorted(name for name in state["speakers"] if counts[name] == most), "tie")
        return self._answered(state, state["said"][winner], winner)

    def _answered(self, state: State, text: str, agent: str) -> Resolution:
        return Resolution({**state, "answer": text, "by": agent}, [{"answer": text, "by": agent}])


def game(policies: Sequence[str], *, editor: str | None = None, **params: Any) -> SimulationSpec:
    """A discussion of scripted agents `agent-1`, `agent-2` and so on, perhaps with an editor."""
    cast = [(f"agent-{n}", policy, "") for n, policy in enumerate(policies, 1)]
    cast += [(EDITOR, editor, EDITOR)] if editor is not None else []
    agents = tuple(
        AgentSpec(id=name, profile=Profile(role=role), brain=ScriptedBrain(kind="scripted", policy=policy))
        for name, policy, role in cast
    )
    rounds = DiscussionParams(**params).rounds
    return SimulationSpec(scenario="discussion", params=params, agents=agents, max_ticks=rounds + 1)


def drifting(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Says what somebody said, itself included, each with the same chance; votes in the same way."""
    if observation.facts["stage"] != "speak":
        return _concluded(observation, rng, lambda names: rng.choice(names, "vote"))
    heard = [message.data for message in observation.messages if message.data is not None]
    own = _own(observation, profile)
    return own if not heard else str(rng.choice([own, *heard], "source"))


def stubborn(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Says the same thing each time, its attribute `opinion` if it has one, and votes for it."""
    if observation.facts["stage"] != "speak":
        return _concluded(observation, rng, lambda names: observation.agent if observation.agent in names else names[0])
    return _own(observation, profile)


def following(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Says what it heard most, its own statement included, and votes for who says it."""
    if observation.facts["stage"] != "speak":
        statements = observation.facts["statements"]
        common = _commonest(list(statements.values()), rng)
        return _concluded(observation, rng, lambda names: next(n for n in names if statements[n] == common))
    heard = [message.data for message in observation.messages if message.data is not None]
    return _commonest([_own(observation, profile), *heard], rng)


def _concluded(observation: Observation, rng: CounterRng, chosen: Callable[[Sequence[str]], str]) -> str:
    """A vote; or, of an editor, what was said most."""
    statements = observation.facts["statements"]
    if observation.facts["stage"] == "vote":
        return answer(chosen(list(statements)))
    return _commonest(list(statements.values()), rng)


def _own(observation: Observation, profile: Profile) -> str:
    return str(
        observation.facts["said"] or profile.attributes.get("opinion") or f"I think as {observation.agent} does."
    )


def _commonest(texts: Sequence[str], rng: CounterRng) -> str:
    counts = Counter(texts)
    most = max(counts.values())
    return str(rng.choice(sorted(text for text, count in counts.items() if count == most), "tie"))


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


Discussion.scripted = {"drifting": drifting, "stubborn": stubborn, "following": following}
