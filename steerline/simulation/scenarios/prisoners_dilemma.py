"""The iterated prisoner's dilemma: a match of two, or a round robin in which everybody meets everybody.

In each round of a match both players cooperate or defect at once. Defecting is better whatever the other does, and both
are worse off when both do (temptation > reward > punishment > sucker). Rules after Axelrod, "The Evolution of
Cooperation" (1984); `noise` flips a move on its way, and both players then see the flipped one.

One tick is one round of all matches of a stage. The stages follow the circle method, so that at each turn a player has
one opponent and one question to answer, however many take part; with an odd number one of them rests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
from pydantic import Field, model_validator

from steerline.config.base import Spec, misfit
from steerline.config.simulation import SimulationSpec
from steerline.config.simulation_agents import AgentSpec, Profile, ScriptedBrain
from steerline.errors import SimulationError
from steerline.simulation.action import Action, Choice
from steerline.simulation.observation import Observation
from steerline.simulation.oracle import Oracle
from steerline.simulation.parsing import answer
from steerline.simulation.rng import CounterRng
from steerline.simulation.scenario import Coverage, Feedback, Policy, Resolution, Scenario, Seat, State
from steerline.simulation.scenarios.automata import AUTOMATA, PAIRS, Automaton, C, D, expected_score, replicator
from steerline.simulation.scenarios.together import require_all

WORDS = {"cooperate": C, "defect": D}


class PrisonersDilemmaParams(Spec):
    """Settings of the iterated prisoner's dilemma."""

    rounds: int = Field(default=200, ge=1)
    """Rounds of a match, one a tick."""
    temptation: float = 5.0
    """Points for defecting alone."""
    reward: float = 3.0
    """Points for each when both cooperate."""
    punishment: float = 1.0
    """Points for each when both defect."""
    sucker: float = Field(default=0.0, ge=0)
    """Points for cooperating alone."""
    noise: float = Field(default=0.0, ge=0, le=0.5)
    """Chance of each move to come out as the opposite."""
    horizon_told: bool = True
    """Whether players know how many rounds a match has."""
    generations: int = Field(default=200, ge=1)
    """Generations over which the replicator dynamics of the outcome go."""

    @property
    def payoffs(self) -> dict[str, float]:
        """Points by own and other's move."""
        return {C + C: self.reward, C + D: self.sucker, D + C: self.temptation, D + D: self.punishment}

    @model_validator(mode="after")
    def _is_a_dilemma(self) -> PrisonersDilemmaParams:
        if not self.temptation > self.reward > self.punishment > self.sucker:
            raise misfit(
                "these payoffs make no dilemma",
                "temptation",
                "reward",
                "punishment",
                "sucker",
                expected="temptation > reward > punishment > sucker",
            )
        return self


class PrisonersDilemma(Scenario[PrisonersDilemmaParams]):
    """The iterated prisoner's dilemma among two or more."""

    Params = PrisonersDilemmaParams
    takes_turns = False
    coverage = Coverage(
        domain="game",
        interface=frozenset({"sandbox"}),
        profiling=frozenset({"predefined"}),
        paradigm=frozenset({"competitive"}),
        structure=frozenset({"decentralised"}),
        feedback=frozenset({"environment"}),
        adjustment=frozenset({"memory"}),
    )

    def reset(self, seats: Sequence[Seat], rng: CounterRng) -> State:
        if len(seats) < 2:
            raise SimulationError("a prisoner's dilemma needs another", got=len(seats), expected="at least 2 agents")
        ids = [seat.id for seat in seats]
        return {
            "agents": ids,
            "strategies": {seat.id: str(seat.profile.attributes.get("strategy", seat.id)) for seat in seats},
            "played": 0,  # rounds, over all matches of a player
            "moves": dict.fromkeys(ids, ""),  # of the match that is on
            # Tallies [times, sum] by player:
            "points": {agent: {} for agent in ids},  # points by opponent
            "outcomes": {agent: {} for agent in ids},  # points by what was played
            "replies": {agent: {} for agent in ids},  # cooperation by what was played in the round before
        }

    def who_acts(self, state: State) -> Sequence[str]:
        return [agent for pair in self._pairs(state) for agent in pair]

    def observe(self, state: State, agent: str) -> Observation:
        other = self._opponents(state)[agent]
        number = state["played"] % self.params.rounds + 1
        own, others = state["moves"][agent], state["moves"][other]
        facts = {"opponent": other, "round": number, "own": own, "other": others}
        horizon = f" of {self.params.rounds}" if self.params.horizon_told else ""
        before = f"\nYour moves so far: {own}\nMoves of {other} so far: {others}" if own else ""
        text = f"You play against {other}. Round {number}{horizon}.{before}\nWhat do you do?"
        return Observation(Choice(tuple(WORDS), default="defect"), text, facts=facts)

    def resolve(self, state: State, actions: Mapping[str, Action], rng: CounterRng) -> Resolution:
        require_all(actions, self.who_acts(state))
        pairs = self._pairs(state)
        chosen = {agent: WORDS[actions[agent].payload] if agent in actions else D for pair in pairs for agent in pair}
        flipped = [agent for agent in chosen if rng.uniform("noise", agent) < self.params.noise]
        moves = chosen | {agent: _opposite(chosen[agent]) for agent in flipped}
        payoffs = self.params.payoffs
        points, outcomes, replies = (dict(state[name]) for name in ("points", "outcomes", "replies"))
        feedback = []
        for agent, other in self._opponents(state).items():
            outcome = moves[agent] + moves[other]
            gain = payoffs[outcome]
            points[agent] = _tallied(points[agent], other, gain)
            outcomes[agent] = _tallied(outcomes[agent], outcome, gain)
            if last := state["moves"][agent][-1:] + state["moves"][other][-1:]:
                replies[agent] = _tallied(replies[agent], last, moves[agent] == C)
            feedback.append(Feedback("environment", agent, gain))
        new = {
            **state,
            "played": state["played"] + 1,
            "moves": self._extended(state, moves),
            "points": points,
            "outcomes": outcomes,
            "replies": replies,
        }
        return Resolution(new, [{"moves": moves, "flipped": flipped}], feedback)

    def done(self, state: State) -> bool:
        return bool(state["played"] >= self.params.rounds * _stages(state["agents"]))

    def metrics(self, state: State) -> Mapping[str, float]:
        tallies = state["outcomes"].values()
        times = {pair: sum(tally.get(pair, (0, 0))[0] for tally in tallies) for pair in PAIRS}
        points = sum(gain for tally in tallies for _, gain in tally.values())
        total = sum(times.values())
        return {
            "cooperation": (times[C + C] + times[C + D]) / total,
            "mutual_cooperation": times[C + C] / total,
            "exploitation": times[C + D] / total,
            "mean_score": points / total,
        }

    def rules(self) -> str:
        p = self.params
        noise = f" A move comes out as the opposite with a chance of {p.noise:.0%}." if p.noise else ""
        return (
            "You play rounds of a game against one other player. Each round both of you choose at once: cooperate (C)"
            f" or defect (D). If both cooperate, both get {p.reward:g} points. If both defect, both get"
            f" {p.punishment:g}. If one defects and the other cooperates, the one who defects gets {p.temptation:g} and"
            f" the other {p.sucker:g}.{noise} Get as many points as you can."
        )

    def outcome(self, state: State) -> Mapping[str, Any]:
        """Ranks, scores and habits of the players; scores between strategies, and their replicator shares.

        Strategies are the players' `strategy` attributes. Shares need the score of each strategy against its own kind,
        so at least two players of each.
        """
        matrix = self._matrix(state)
        means = {strategy: fmean(row.values()) for strategy, row in matrix.items() if row}
        return {
            **self.metrics(state),
            "players": {agent: self._player(state, agent) for agent in state["agents"]},
            "scores": matrix,
            "means": means,
            "ranking": sorted(means, key=lambda strategy: (-means[strategy], strategy)),
            "shares": self._shares(matrix),
        }

    def _pairs(self, state: State) -> list[tuple[str, str]]:
        """Who meets whom at this stage (circle method: the first stays, the others go round)."""
        agents: list[str | None] = [*state["agents"], *([None] if len(state["agents"]) % 2 else [])]
        shift = state["played"] // self.params.rounds % (len(agents) - 1)
        circle = [agents[0], *agents[1 + shift :], *agents[1 : 1 + shift]]
        pairs = zip(circle[: len(circle) // 2], reversed(circle), strict=False)
        return [(one, two) for one, two in pairs if one is not None and two is not None]

    def _opponents(self, state: State) -> dict[str, str]:
        return {one: two for pair in self._pairs(state) for one, two in (pair, pair[::-1])}

    def _extended(self, state: State, moves: Mapping[str, str]) -> dict[str, str]:
        """The moves of the match with those of this round; none once the match is over."""
        over = (state["played"] + 1) % self.params.rounds == 0
        return {agent: "" if over else past + moves.get(agent, "") for agent, past in state["moves"].items()}

    def _player(self, state: State, agent: str) -> dict[str, Any]:
        times = {pair: state["outcomes"][agent].get(pair, (0, 0))[0] for pair in PAIRS}
        replies = [state["replies"][agent].get(pair, (0, 0)) for pair in PAIRS]
        after_defection = [reply for pair, reply in zip(PAIRS, replies, strict=True) if pair[1] == D]
        return {
            "score": sum(gain for _, gain in state["outcomes"][agent].values()) / sum(times.values()),
            "cooperation": (times[C + C] + times[C + D]) / sum(times.values()),
            "forgiveness": _share(after_defection),
            "replies": {pair: _share([reply]) for pair, reply in zip(PAIRS, replies, strict=True)},
        }

    def _matrix(self, state: State) -> dict[str, dict[str, float]]:
        """Mean score a round of each strategy against each that it met."""
        tallies: dict[str, dict[str, tuple[int, float]]] = {name: {} for name in sorted(state["strategies"].values())}
        for agent, met in state["points"].items():
            row = tallies[state["strategies"][agent]]
            for other, (times, points) in met.items():
                before = row.get(state["strategies"][other], (0, 0.0))
                row[state["strategies"][other]] = (before[0] + times, before[1] + points)
        return {
            one: {two: points / times for two, (times, points) in sorted(row.items())} for one, row in tallies.items()
        }

    def _shares(self, matrix: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        if any(len(row) < len(matrix) for row in matrix.values()):
            return {}
        scores = np.array([list(row.values()) for row in matrix.values()])
        return dict(zip(matrix, map(float, replicator(scores, self.params.generations)), strict=True))

    @classmethod
    def oracles(cls) -> Sequence[Oracle]:
        matches = [
            ("tit_for_tat", "tit_for_tat"),
            ("grim", "win_stay"),
            ("tit_for_two_tats", "defector"),
            ("generous", "random"),
            ("win_stay", "win_stay"),
            ("grim", "cooperator"),
        ]
        return [_match_oracle(one, two, rounds=12, noise=0.05) for one, two in matches]


def game(players: Sequence[tuple[str, str]], **params: Any) -> SimulationSpec:
    """A round robin of scripted players, each an id and a policy; two of them make a single match."""
    agents = tuple(
        AgentSpec(
            id=name,
            profile=Profile(attributes={"strategy": policy}),
            brain=ScriptedBrain(kind="scripted", policy=policy),
        )
        for name, policy in players
    )
    ticks = PrisonersDilemmaParams(**params).rounds * _stages(players)
    return SimulationSpec(scenario="prisoners_dilemma", params=params, agents=agents, max_ticks=ticks)


def tournament(strategies: Sequence[str], **params: Any) -> SimulationSpec:
    """A round robin with two players of each strategy, so that each also meets its own kind, as in Axelrod's."""
    return game([(f"{strategy}.{copy}", strategy) for strategy in strategies for copy in (1, 2)], **params)


def _match_oracle(one: str, two: str, **params: Any) -> Oracle:
    settings = PrisonersDilemmaParams(**params)
    return Oracle(
        f"{one} against {two}",
        game([("a", one), ("b", two)], **params),
        lambda result: result.outcome["players"]["a"]["score"],
        exact=expected_score(AUTOMATA[one], AUTOMATA[two], settings.payoffs, settings.rounds, settings.noise),
        source="the Markov chain on pairs of the automata's states",
    )


def _policy(automaton: Automaton) -> Policy:
    def play(observation: Observation, profile: Profile, rng: CounterRng) -> str:
        facts = observation.facts
        chance = automaton.cooperates[automaton.state(facts["own"], facts["other"])]
        return answer("cooperate" if rng.uniform("move") < chance else "defect")

    return play


PrisonersDilemma.scripted = {name: _policy(automaton) for name, automaton in AUTOMATA.items()}


def _stages(agents: Sequence[object]) -> int:
    """Stages until everybody has met everybody."""
    return len(agents) - 1 + len(agents) % 2


def _opposite(move: str) -> str:
    return D if move == C else C


def _tallied(tally: Mapping[str, Sequence[float]], key: str, amount: float) -> dict[str, Sequence[float]]:
    times, total = tally.get(key, (0, 0))
    return {**tally, key: [times + 1, total + amount]}


def _share(tallies: Sequence[Sequence[float]]) -> float | None:
    """The mean of what was tallied; none where nothing was."""
    times = sum(times for times, _ in tallies)
    return sum(total for _, total in tallies) / times if times else None
