"""A debate about a sum: all answer `a + b * c = ?`, hear the others, and answer again; a vote or a judge decides.

After Du et al., "Improving Factuality and Reasoning in Language Models through Multiagent Debate" (arXiv 2305.14325);
with agents of the role `judge` after Xiong et al. (arXiv 2305.11595). Whether talking helps is to be judged against a
vote that costs as much (Choi et al., "Debate or Vote", arXiv 2508.17536): `voting` makes that simulation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any, Literal

from pydantic import Field

from steerline.config.base import Spec
from steerline.config.simulation import SimulationSpec
from steerline.config.simulation_agents import AgentSpec, Profile, ScriptedBrain
from steerline.config.simulation_running import BudgetSpec
from steerline.config.simulation_topology import FullTopology
from steerline.data.synthetic.arithmetic import evaluate
from steerline.errors import SimulationError
from steerline.simulation.action import Action, ActionSpec, Choice, Integer
from steerline.simulation.message import Draft, Paradigm
from steerline.simulation.observation import Observation
from steerline.simulation.oracle import Oracle
from steerline.simulation.parsing import answer
from steerline.simulation.rng import CounterRng
from steerline.simulation.scenario import Coverage, Feedback, Resolution, Scenario, Seat, State
from steerline.simulation.scenarios.debate_theory import exact_accuracies
from steerline.simulation.scenarios.turns import is_whole
from steerline.simulation.text import quoted

JUDGE = "judge"
"""The role of agents that hear the debate and answer after it."""

DECIDER = "decider"
"""The role of a debater whose last answer is the debate's, in place of a vote."""

NO_ANSWER = "none"
"""Stands for an answer that could not be read; it is wrong and no vote."""

LARGEST = 10**9
"""Largest answer to an open question."""


class DebateParams(Spec):
    """Settings of the debate."""

    low: int = Field(default=2, ge=1)
    """Smallest number in the question."""
    high: int = Field(default=20, ge=1, le=1000)
    """Largest number in the question."""
    operands: tuple[int, int, int] | None = None
    """The question's a, b and c; none draws them from the seed."""
    options: Literal[0, 2, 3, 4, 5] = 4
    """Answers to choose from; 0 asks for the number itself."""
    rounds: int = Field(default=3, ge=0)
    """Rounds of talking, after the first answers."""
    paradigm: Literal["debate", "cooperative"] = "debate"
    """Whether agents are told to criticise each other or to work together."""
    quote: int = Field(default=600, ge=200)
    """Longest part of an agent's text that others hear, in characters; the end is kept, where the answer stands."""


class Debate(Scenario[DebateParams]):
    """The debate about a sum."""

    Params = DebateParams
    coverage = Coverage(
        domain="debate",
        interface=frozenset({"none"}),
        profiling=frozenset({"predefined"}),
        paradigm=frozenset({"debate", "cooperative"}),
        structure=frozenset({"decentralised", "centralised"}),
        feedback=frozenset({"agents"}),
        adjustment=frozenset({"memory"}),
    )

    def reset(self, seats: Sequence[Seat], rng: CounterRng) -> State:
        judges = [seat.id for seat in seats if seat.profile.role == JUDGE]
        debaters = [seat.id for seat in seats if seat.profile.role != JUDGE]
        deciders = [seat.id for seat in seats if seat.profile.role == DECIDER]
        if not debaters:
            raise SimulationError("nobody debates", got=f"{len(judges)} judges", fix="give an agent another role")
        if deciders[1:] or (deciders and judges):
            raise SimulationError("one decides a debate", got=", ".join([*deciders, *judges]), fix="change a role")
        p = self.params
        if p.low > p.high:
            raise SimulationError("low is above high", where="params.low", got=p.low, expected=f"at most {p.high}")
        operands = p.operands or tuple(rng.integer(p.low, p.high, "operand", name) for name in "abc")
        options = rng.shuffled(candidates(operands, p.options), "options") if p.options else []
        return {
            "operands": list(operands),
            "options": options,
            "debaters": debaters,
            "judges": judges,
            "answers": [],  # per round, a number or none by debater
            "votes": [],  # per round, the answer with most votes
            "said": {},  # last text by agent
            "judgement": None,
            **({"decider": deciders[0]} if deciders else {}),
            # While they take turns, "answered": who has spoken in a round that is not over, and
            # "verdicts": a number or none by each judge who has answered
        }

    def who_acts(self, state: State) -> Sequence[str]:
        agents: Sequence[str] = state["judges"] if self._is_over(state) else state["debaters"]
        return agents

    def observe(self, state: State, agent: str) -> Observation:
        said = state["said"].get(agent, "")
        own = state["answers"][-1].get(agent) if state["answers"] else None
        lines = [f"Question: {_question(state)}"]
        if said:
            lines += [f"You said before:\n{quoted(said)}", "Think about what the others said, then answer again."]
        facts = {"operands": state["operands"], "options": state["options"], "said": said, "own": own}
        return Observation(self._legal(state, own), "\n".join(lines), facts=facts)

    def resolve(self, state: State, actions: Mapping[str, Action], rng: CounterRng) -> Resolution:
        given = {agent: _number(action.payload) for agent, action in actions.items()}
        if self._is_over(state):
            verdicts = {**state.get("verdicts", {}), **given}
            heard = {**state, "verdicts": verdicts}
            is_last = is_whole(actions, verdicts.keys(), state["judges"])
            return self.settled(heard, rng) if is_last else Resolution(heard)
        texts = {agent: action.raw_text[-self.params.quote :] for agent, action in actions.items() if action.raw_text}
        before = state["answers"][-1] if state["answers"] else {}
        answers = {agent: given.get(agent, before.get(agent)) for agent in state["debaters"]}
        vote = _plurality(list(answers.values()), rng)
        earlier = len(state["answers"]) - _is_open(state)
        new = {
            **_without(state, "answered"),
            "answers": [*state["answers"][:earlier], answers],
            "votes": [*state["votes"][:earlier], vote],
            "said": {**state["said"], **texts},
        }
        answered = {*state.get("answered", ()), *actions}
        if not is_whole(actions, answered, state["debaters"]):
            new["answered"] = sorted(answered)
        manner: Paradigm = "debate" if self.params.paradigm == "debate" else "cooperate"
        messages = [Draft(agent, text, data=given[agent], paradigm=manner) for agent, text in texts.items()]
        return Resolution(new, [{"answers": answers, "vote": vote}], messages=messages if self._is_heard(new) else [])

    def settled(self, state: State, rng: CounterRng) -> Resolution:
        if "verdicts" not in state:
            return Resolution(_without(state, "answered"))
        judgement, right = _plurality(list(state["verdicts"].values()), rng), _right(state)
        told = [Feedback("agent", agent, float(judgement == right)) for agent in state["debaters"]]
        new = {**_without(state, "verdicts"), "judgement": judgement}
        return Resolution(new, [{"judgement": judgement}], told)

    def done(self, state: State) -> bool:
        return self._is_over(state) and (not state["judges"] or state["judgement"] is not None)

    def metrics(self, state: State) -> Mapping[str, float]:
        right, answers = _right(state), list(state["answers"][-1].values())
        votes = Counter(value for value in answers if value is not None)
        most = max(votes.values(), default=0)
        leaders = [value for value, count in votes.items() if count == most]
        numbers = {
            "accuracy": fmean(value == right for value in answers),
            # A tie counts by the chance to be settled rightly.
            "vote_accuracy": leaders.count(right) / len(leaders) if leaders else 0.0,
            "agreement": most / len(answers),
            "unreadable": answers.count(None) / len(answers),
            **self._flips(state),
        }
        return numbers if state["judgement"] is None else {**numbers, "judged": float(state["judgement"] == right)}

    def rules(self) -> str:
        manner = {
            "debate": "Look for mistakes in what the others say, and defend your answer if it is right.",
            "cooperative": "Use what is right in what the others say, so that all of you find the answer.",
        }
        return (
            "You and others solve a sum. Multiplication comes before addition: first b * c, then add a."
            f" {manner[self.params.paradigm]} Keep your reasoning short. Answer 2 + 3 * 4 = ? in this form:\n"
            f"3 * 4 = 12\n2 + 12 = 14\n{answer(14)}"
        )

    def outcome(self, state: State) -> Mapping[str, Any]:
        right = _right(state)
        final = state["judgement"] if state["judges"] else state["votes"][-1]
        if "decider" in state:
            final = state["answers"][-1][state["decider"]]
        unanimous = [n for n, answers in enumerate(state["answers"]) if len({*answers.values()} | {None}) == 2]
        return {
            "question": _question(state),
            "answer": final,
            "reference": right,
            "correct": final == right,
            "vote_before": state["votes"][0],
            "rounds": len(state["answers"]) - 1,
            "consensus_round": unanimous[0] if unanimous else None,
            "accuracies": [fmean(value == right for value in answers.values()) for answers in state["answers"]],
        }

    def vote(self, spec: SimulationSpec, voters: int) -> SimulationSpec:
        return voting(spec, voters)

    def _legal(self, state: State, own: int | None) -> ActionSpec:
        """Answers that cannot be read leave an agent with the answer it had."""
        if not state["options"]:
            return Integer(0, LARGEST, default=-1 if own is None else own)
        return Choice(tuple(map(str, state["options"])), default=NO_ANSWER if own is None else str(own))

    def _is_over(self, state: State) -> bool:
        """Whether the debaters have said all."""
        return len(state["answers"]) - _is_open(state) > self.params.rounds

    def _is_heard(self, state: State) -> bool:
        return bool(state["judges"]) or not self._is_over(state)

    def _flips(self, state: State) -> dict[str, float]:
        """Share of the debaters who went from right to wrong, and from wrong to right, in the last round."""
        right, size = _right(state), len(state["debaters"])
        lost = found = 0
        for before, after in list(pairwise(state["answers"]))[-1:]:
            lost = sum(before[agent] == right != after[agent] for agent in state["debaters"])
            found = sum(before[agent] != right == after[agent] for agent in state["debaters"])
        return {"right_to_wrong": lost / size, "wrong_to_right": found / size}

    @classmethod
    def oracles(cls) -> Sequence[Oracle]:
        martingale = "Choi et al. 2025: the belief of a Dirichlet agent in the right answer is a martingale"
        carried = "the agents' joint distribution carried forward exactly (debate_theory.py)"
        alone, talking, biased = _theory(0.0, 0), _theory(0.0, 3), _theory(0.5, 3)
        return [
            _oracle("agents before a debate", "accuracy", 0, {}, alone[0][0], "the prior's mean", 100),
            _oracle("a vote of five before a debate", "vote_accuracy", 0, {}, alone[0][1], carried, 200),
            _oracle("agents after three rounds", "accuracy", 3, {}, talking[3][0], martingale, 120),
            _oracle("a vote after three rounds is worse", "vote_accuracy", 3, {}, talking[3][1], carried, 120),
            _oracle("agents who favour what is right", "accuracy", 3, {"bonus": 0.5}, biased[3][0], carried, 120),
            _oracle("a vote of such agents", "vote_accuracy", 3, {"bonus": 0.5}, biased[3][1], carried, 120),
            Oracle(
                "five voters on a yes-no question",
                game(["dirichlet"] * 5, rounds=0, options=2),
                lambda result: result.metrics[-1]["vote_accuracy"],
                exact=sum(n * 0.6**k * 0.4 ** (5 - k) for k, n in ((3, 10), (4, 5), (5, 1))),
                source="Condorcet's jury theorem, five voters of skill 0.6",
                seeds=200,
            ),
        ]


def game(policies: Sequence[str], attributes: Mapping[str, float] | None = None, **params: Any) -> SimulationSpec:
    """A debate of scripted agents `agent-1`, `agent-2` and so on, with the policies' settings."""
    profile = Profile(attributes=dict(attributes or {}))
    agents = tuple(
        AgentSpec(id=f"agent-{n}", profile=profile, brain=ScriptedBrain(kind="scripted", policy=policy))
        for n, policy in enumerate(policies, 1)
    )
    return SimulationSpec(scenario="debate", params=params, agents=agents, max_ticks=DebateParams(**params).rounds + 2)


def voting(spec: SimulationSpec, voters: int) -> SimulationSpec:
    """The baseline of a debate: the same question put once to many agents that never talk, whose vote decides.

    Args:
        spec: the debate.
        voters: how many; as many as the debate's tokens pay for. Copies of the debaters in turn; none decides alone.

    Returns:
        a simulation with the same seed, and so the same question, and with no limits.

    Raises:
        SimulationError: no debater is listed under `agents`.
    """
    debaters = [agent for agent in spec.agents if agent.profile.role not in (JUDGE, DECIDER)]
    if not debaters:
        raise SimulationError("nobody could vote", where="agents", fix="list the debaters one by one")
    copies = (debaters[n % len(debaters)] for n in range(voters))
    agents = tuple(agent.model_copy(update={"id": f"voter-{n:04d}"}) for n, agent in enumerate(copies, 1))
    params = {**spec.params, "rounds": 0}
    # Without rounds nobody speaks; what names debaters would not fit the voters.
    changes = {
        "agents": agents,
        "population": None,
        "params": params,
        "topology": FullTopology(kind="full"),
        "engine": "simultaneous",
        "interceptors": (),
        "workflow": (),
        "budgets": BudgetSpec(),
    }
    return spec.model_copy(update=changes)


def candidates(operands: Sequence[int], count: int) -> list[int]:
    """The right value of a + b * c, then the wrong ones that people and models come up with."""
    a, b, c = operands
    right = evaluate([a, b, c], ["+", "*"])
    slips = [(a + b) * c, right + 10, right + b, a + b + c, a * b + c, right + 1, right + 2, right + 100]
    return list(dict.fromkeys([right, *slips]))[:count]


def dirichlet(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Holds a belief over the options, says one drawn from it, and believes more in each option that it hears.

    Attributes: `skill`, chance to be right at first; `strength`, sum of the first belief; `bonus`, what a right message
    weighs more. It keeps its belief in what it says, as a model keeps its reasoning.
    """
    options, right = _options(observation)
    settings = profile.attributes
    skill, strength = float(settings.get("skill", 0.6)), float(settings.get("strength", 4.0))
    wrong = (1 - skill) / (len(options) - 1)
    said = str(observation.facts["said"])
    if said:
        belief = [float(part) for part in said.splitlines()[0].removeprefix("BELIEF:").split()]
    else:
        belief = [strength * (skill if option == right else wrong) for option in options]
    for message in observation.messages:
        if message.data in options:
            bonus = float(settings.get("bonus", 0.0)) if message.data == right else 0.0
            belief[options.index(message.data)] += 1 + bonus
    mark, place = rng.uniform("answer") * sum(belief), 0
    while place < len(options) - 1 and mark >= belief[place]:
        mark -= belief[place]
        place += 1
    return answer(options[place], "BELIEF: " + " ".join(map(repr, belief)))


def independent(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Is right with chance `skill` (0.6) each time, whatever it hears."""
    options, right = _options(observation)
    if rng.uniform("right") < float(profile.attributes.get("skill", 0.6)):
        return answer(right)
    return answer(rng.choice([option for option in options if option != right], "wrong"))


def stubborn(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Answers as `independent` does once, and stays with it."""
    own = observation.facts["own"]
    return independent(observation, profile, rng) if own is None else answer(own, "I stay with my answer.")


def follower(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Takes the answer that it hears most, its own included."""
    own = observation.facts["own"]
    if own is None:
        return independent(observation, profile, rng)
    heard = Counter([own, *(message.data for message in observation.messages if message.data is not None)])
    most = max(heard.values())
    return answer(rng.choice(sorted(value for value, count in heard.items() if count == most), "tie"))


def liar(observation: Observation, profile: Profile, rng: CounterRng) -> str:
    """Defends the same wrong answer to the end: an error put in on purpose."""
    options, right = _options(observation)
    return answer(min(option for option in options if option != right), "I checked it twice.")


Debate.scripted = {
    "dirichlet": dirichlet,
    "independent": independent,
    "stubborn": stubborn,
    "follower": follower,
    "liar": liar,
}


def _options(observation: Observation) -> tuple[list[int], int]:
    """What can be said, and what is right: scripted agents can calculate, and err at rates of their own."""
    known = candidates(observation.facts["operands"], 4)
    return observation.facts["options"] or known, known[0]


def _is_open(state: State) -> bool:
    """Whether debaters who take turns are in the middle of a round."""
    return "answered" in state


def _without(state: State, part: str) -> State:
    return {name: value for name, value in state.items() if name != part}


def _question(state: State) -> str:
    a, b, c = state["operands"]
    return f"{a} + {b} * {c} = ?"


def _right(state: State) -> int:
    return candidates(state["operands"], 1)[0]


def _number(payload: str | int) -> int | None:
    return None if payload in (NO_ANSWER, -1) else int(payload)


def _plurality(values: Sequence[int | None], rng: CounterRng) -> int | None:
    """The answer with most votes; a tie is settled by a draw."""
    votes = Counter(value for value in values if value is not None)
    leaders = sorted(value for value, count in votes.items() if count == max(votes.values()))
    return rng.choice(leaders, "tie") if leaders else None


def _theory(bonus: float, rounds: int) -> tuple[tuple[float, float], ...]:
    return exact_accuracies(agents=5, options=4, skill=0.6, strength=4.0, bonus=bonus, rounds=rounds)


def _oracle(
    name: str, metric: str, rounds: int, attributes: dict[str, float], exact: float, source: str, seeds: int
) -> Oracle:
    spec = game(["dirichlet"] * 5, attributes, rounds=rounds)
    return Oracle(name, spec, lambda result: result.metrics[-1][metric], exact, source, seeds)
