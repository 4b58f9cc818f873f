"""Werewolf against its oracles, and what nobody may learn."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import combinations
from typing import Any

import pytest

from steerline.config.simulation_agents import Profile, ScriptedBrain
from steerline.errors import SimulationError
from steerline.simulation.action import Action
from steerline.simulation.oracle import Oracle, consult
from steerline.simulation.result import Result
from steerline.simulation.rng import CounterRng
from steerline.simulation.runner import run
from steerline.simulation.scenario import Seat
from steerline.simulation.scenarios.werewolf import Werewolf, WerewolfParams
from steerline.simulation.scenarios.werewolf_brains import POLICIES, game, random_player
from steerline.simulation.scenarios.werewolf_theory import wolves_win
from steerline.simulation.turn import Decision, Turn

FIXED = {
    "player-01": "werewolf",
    "player-02": "werewolf",
    "player-03": "seer",
    "player-04": "witch",
    **{f"player-0{n}": "villager" for n in range(5, 10)},
}


class Watched:
    """Answers with the scripted policies, or with a text by stage and agent where one is given, and keeps the turns."""

    def __init__(self, texts: dict[tuple[str, str], str] | None = None) -> None:
        self.texts = texts or {}
        self.turns: list[Turn] = []

    async def decide(self, turns: Sequence[Turn]) -> Sequence[Decision]:
        self.turns += turns
        return [Decision(self._text(turn)) for turn in turns]

    def _text(self, turn: Turn) -> str:
        brain, stage = turn.agent.brain, turn.observation.facts["stage"]
        assert isinstance(brain, ScriptedBrain)
        policy = POLICIES[brain.policy]
        return self.texts.get((stage, turn.agent.id)) or policy(turn.observation, turn.agent.profile, turn.rng)


def played(params: WerewolfParams, players: int, seed: int) -> Iterator[tuple[Werewolf, Any]]:
    """Every state of a game of random players, by the scenario's own methods."""
    scenario, rng = Werewolf(params), CounterRng(seed)
    state = scenario.reset([Seat(f"p{n}") for n in range(players)], rng)
    for step in range(1000):
        yield scenario, state
        if scenario.done(state):
            return
        actions = {}
        for agent in sorted(scenario.who_acts(state)):
            seen = scenario.observe(state, agent)
            text = random_player(seen, Profile(), rng.at(step).within(agent))
            actions[agent] = Action(agent, step, scenario.parse(text, seen.legal).payload, text)
        state = scenario.resolve(state, actions, rng.at(step)).state


def wins(result: Result) -> bool:
    return bool(result.outcome["winner"] == "wolves")


@pytest.mark.parametrize("oracle", Werewolf.oracles(), ids=lambda oracle: oracle.name)
def test_scripted_runs_agree_with_theory(oracle: Oracle) -> None:
    verdict = consult(oracle)
    assert verdict.agrees, verdict


def test_the_recursion_gives_the_known_chances() -> None:
    known = {(5, 1): "8/15", (7, 1): "16/35", (7, 2): "27/35", (9, 2): "221/315", (10, 2): "63/128"}
    assert {size: wolves_win(*size, "all") for size in known} == {
        size: Fraction(chance) for size, chance in known.items()
    }
    assert wolves_win(10, 2, "parity") == Fraction(251, 320)


def test_the_same_spec_gives_the_same_history_and_another_seed_other_roles() -> None:
    spec = game(["honest"] * 9)
    other = run(spec.model_copy(update={"seed": 1}))
    assert run(spec).hash == run(spec).hash
    assert run(spec).state["roles"] != other.state["roles"]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("reveal", [True, False])
def test_what_a_player_sees_does_not_depend_on_the_roles_that_it_may_not_know(reveal: bool, seed: int) -> None:
    params = WerewolfParams(wolves=2, witch=True, reveal=reveal)
    compared = 0
    for scenario, state in played(params, 9, seed):
        roles = state["roles"]
        for agent in state["alive"]:
            known = {agent, *(state["checked"] if roles[agent] == "seer" else ())}
            hidden = [player for player in state["alive"] if player not in known]
            for one, other in combinations(hidden, 2):
                wolf_inside = roles[agent] == "werewolf" and "werewolf" in (roles[one], roles[other])
                if roles[one] == roles[other] or wolf_inside:
                    continue  # wolves know wolves
                swapped = {**state, "roles": {**roles, one: roles[other], other: roles[one]}}
                assert scenario.observe(swapped, agent) == scenario.observe(state, agent)
                compared += 1
    assert compared > 100


def test_no_prompt_of_a_villager_holds_a_private_fact() -> None:
    watched = Watched({("whisper", "player-01"): "secret plan", ("whisper", "player-02"): "secret plan"})
    spec = game(["random"] * 9, FIXED, witch=True)
    result = run(spec, watched)
    scenario = Werewolf(WerewolfParams(witch=True))
    whispers = {event.payload["id"] for event in result.of_kind("msg.sent") if event.payload["channel"] == "night"}
    assert whispers
    for turn in watched.turns:
        prompt = scenario.prompt(turn.observation, turn.agent.profile)
        heard = {message.id for message in turn.observation.messages} & whispers
        if FIXED[turn.agent.id] == "werewolf":
            continue
        assert not heard
        for secret in ("secret plan", "The wolves are"):
            assert secret not in prompt.user + prompt.system
        if FIXED[turn.agent.id] != "seer":
            assert "You learned" not in prompt.user
        if FIXED[turn.agent.id] == "villager":
            assert prompt.user.count("Only you know: you are a villager.\n") == 1
            assert set(turn.observation.facts) == {"stage", "day", "alive", "deaths", "votes", "role"}


def test_whispers_reach_the_other_wolves_before_they_choose() -> None:
    watched = Watched()
    run(game(["honest"] * 9, FIXED, witch=True), watched)
    night = [turn for turn in watched.turns if turn.observation.facts["stage"] == "night"]
    first = next(turn for turn in night if turn.agent.id == "player-01")
    assert [message.sender for message in first.observation.messages if message.channel == "night"] == ["player-02"]


def test_a_day_is_one_tick_of_talk_vote_whisper_night_and_witch() -> None:
    watched = Watched()
    run(game(["sceptic"] * 9, FIXED, witch=True), watched)
    stages = dict.fromkeys(turn.observation.facts["stage"] for turn in watched.turns if turn.observation.tick == 0)
    assert list(stages) == ["talk", "vote", "whisper", "night", "witch"]


def test_a_prompt_is_short_and_says_what_may_be_answered() -> None:
    watched = Watched()
    run(game(["random"] * 9), watched)
    scenario = Werewolf(WerewolfParams())
    for turn in watched.turns:
        prompt = scenario.prompt(turn.observation, turn.agent.profile)
        assert len((prompt.system + prompt.user).split()) < 350
        if turn.observation.facts["stage"] == "vote":
            assert "ANSWER: x" in prompt.user


def test_claims_are_read_line_by_line_and_judged() -> None:
    lie = "Trust me.\nCLAIM: I am the seer\nCLAIM: player-03 is a werewolf\n> CLAIM: player-05 is a werewolf"
    truth = "CLAIM: player-02 is a Werewolf.\nCLAIM: nobody-here is a werewolf"
    watched = Watched({("talk", "player-01"): lie, ("talk", "player-03"): truth})
    spec = game(["sceptic"] * 9, FIXED, witch=True).model_copy(update={"max_ticks": 1})
    result = run(spec, watched)
    assert [(claim["by"], claim["about"], claim["role"]) for claim in result.outcome["claims"]] == [
        ("player-01", "player-01", "seer"),
        ("player-01", "player-03", "werewolf"),
        ("player-03", "player-02", "werewolf"),
    ]
    assert (result.metrics[0]["claims_true"], result.metrics[0]["claims_false"]) == (1.0, 2.0)


@pytest.mark.parametrize(
    "text",
    [
        "x" + "\n" * 200_000 + "y",
        "CLAIM:" + " " * 200_000,
        "CLAIM:" + "x" * 200_000,
        "CLAIM: bob is a" + "\n" * 200_000,
        "CLAIM: bob is\n" * 15_000,
        " " * 200_000 + "CLAIM",
    ],
    ids=["lines", "a gap", "a name", "no role", "claims", "indented"],
)
def test_no_text_keeps_the_reader_of_claims_busy(text: str) -> None:
    watched = Watched({("talk", "player-01"): text})
    spec = game(["sceptic"] * 9, FIXED, witch=True).model_copy(update={"max_ticks": 1, "max_text": len(text)})
    began = time.process_time()
    result = run(spec, watched)
    assert time.process_time() - began < 2.0
    assert not any(claim["by"] == "player-01" for claim in result.outcome["claims"])


def test_a_vote_that_cannot_be_read_is_counted_and_is_for_nobody() -> None:
    watched = Watched({("vote", f"player-0{n}"): "hmm" for n in range(1, 10)})
    result = run(game(["random"] * 9, FIXED, witch=True).model_copy(update={"max_ticks": 1}), watched)
    assert len(list(result.of_kind("action.invalid"))) == 9
    assert set(result.state["votes"].values()) == {"nobody"}
    assert all(death["by"] != "vote" for death in result.state["deaths"])


def test_the_witch_saves_once_and_poisons_once() -> None:
    texts = {("vote", f"player-0{n}"): "ANSWER: nobody" for n in range(1, 10)}
    kill = {("night", wolf): "ANSWER: player-09" for wolf in ("player-01", "player-02")}
    spec = game(["random"] * 9, FIXED, witch=True).model_copy(update={"max_ticks": 1})
    saved = run(spec, Watched(texts | kill | {("witch", "player-04"): "ANSWER: save"}))
    assert saved.state["deaths"] == []
    assert saved.state["potions"] == ["poison"]
    poisoned = run(spec, Watched(texts | kill | {("witch", "player-04"): "ANSWER: poison player-01"}))
    assert [(death["who"], death["by"]) for death in poisoned.state["deaths"]] == [
        ("player-09", "wolves"),
        ("player-01", "witch"),
    ]


def test_the_seer_learns_what_it_looks_at_and_never_looks_twice() -> None:
    watched = Watched({("vote", f"player-0{n}"): "ANSWER: nobody" for n in range(1, 10)})
    watched.texts[("night", "player-03")] = "ANSWER: player-01"
    run(game(["random"] * 9, FIXED, witch=True), watched)
    later = [turn for turn in watched.turns if turn.agent.id == "player-03" and turn.observation.tick == 1]
    assert all("You learned: player-01 is a wolf." in turn.observation.private for turn in later)
    nights = [turn for turn in later if turn.observation.facts["stage"] == "night"]
    assert nights
    assert all("player-01" not in turn.observation.legal.instruction() for turn in nights)


def test_a_seer_that_is_believed_guides_votes_and_wolves_that_lie_misguide_them() -> None:
    accuracy = {}
    for policy in ("random", "honest", "deceiver"):
        runs = [run(game([policy] * 9).model_copy(update={"seed": seed})) for seed in range(60)]
        accuracy[policy] = sum(result.metrics[-1]["vote_accuracy"] for result in runs) / len(runs)
    assert accuracy["deceiver"] < 0.5 * accuracy["random"] < accuracy["random"] < accuracy["honest"]


def test_the_dead_neither_speak_nor_vote_and_winners_are_told() -> None:
    watched = Watched()
    result = run(game(["random"] * 9, FIXED, witch=True), watched)
    for turn in watched.turns:
        assert turn.agent.id in turn.observation.facts["alive"]
    rewards = {
        e.payload["target"]: e.payload["value"] for e in result.of_kind("feedback.given") if not e.payload["text"]
    }
    assert rewards == {player: float((role == "werewolf") == wins(result)) for player, role in FIXED.items()}


def test_too_few_players_and_roles_given_twice_are_refused() -> None:
    with pytest.raises(SimulationError, match="cannot play werewolf"):
        run(game(["random"] * 4))
    with pytest.raises(SimulationError, match="cannot play werewolf"):
        run(game(["random"] * 9, {"player-01": "seer", "player-02": "seer"}))
