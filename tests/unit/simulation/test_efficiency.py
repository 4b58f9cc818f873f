"""What a run cost and what its talk was worth."""

from __future__ import annotations

import pytest

from steerline.config.simulation_topology import NoTopology
from steerline.inference.request import GenResult, Usage
from steerline.simulation.efficiency import efficiency
from steerline.simulation.efficiency.measures import tokens
from steerline.simulation.efficiency.overlap import repeated_share, similarity
from steerline.simulation.efficiency.vote import voters
from steerline.simulation.runner import run
from steerline.simulation.scenarios.debate import game
from steerline.simulation.store.base import Call


def _call(tick: int, agent: str, seconds: float, prompt: str = "What is it?", text: str = "ANSWER: 1") -> Call:
    result = GenResult(text, "stop", Usage(10, 2, 4), seconds)
    request = {"model": "m", "messages": [{"role": "user", "content": prompt}], "steering": None}
    return Call(tick, agent, 0, "address", request, result.to_dict())


def test_a_scripted_run_has_turns_and_talk_and_no_cost() -> None:
    found = efficiency(run(game(["independent"] * 3, rounds=1)), ())
    assert found["turns"] == 6
    assert found["messages"] == 3
    assert found["message_density"] == 0.5
    assert "calls" not in found
    assert "cost" not in found


def test_tokens_seconds_and_critical_path_are_those_of_the_journal() -> None:
    calls = [_call(0, "a", 1.0), _call(0, "b", 3.0), _call(1, "a", 2.0)]
    found = efficiency(run(game(["independent"] * 3, rounds=1)), calls)
    assert tokens(calls) == 36
    assert found["prompt_tokens"] == 30
    assert found["prefix_hit"] == 0.4
    assert found["model_seconds"] == 6
    assert found["critical_path_s"] == 5
    assert found["parallel_speed"] == 1.2
    assert found["coordination_overhead"] == 2


def test_tokens_pay_for_voters_at_the_price_of_an_answer_of_the_first_tick() -> None:
    result = run(game(["independent"] * 3, rounds=2))
    first, later = [_call(0, name, 1.0) for name in "abc"], [_call(1, name, 1.0) for name in "ab"]
    assert voters(result, [*first, *later]) == 5
    assert voters(result, [*first, _call(0, "a", 1.0)]) == 3
    assert voters(result, ()) == 9


def test_a_liar_among_followers_is_seen_in_the_adoption_of_errors() -> None:
    stubborn = efficiency(run(game(["stubborn", "stubborn", "liar"], rounds=2)), ())
    assert stubborn.get("error_adoption", 0.0) == 0.0
    followers = [
        efficiency(run(game(["follower", "liar", "liar", "liar"], rounds=1).model_copy(update={"seed": seed})), ())
        for seed in range(12)
    ]
    assert any(found.get("error_adoption") == 1.0 for found in followers)


def test_errors_are_adopted_along_messages_alone() -> None:
    spec = game(["follower", "liar", "liar", "liar"], rounds=1)
    seeds = [spec.model_copy(update={"seed": seed}) for seed in range(12)]
    apart = [one.model_copy(update={"topology": NoTopology(kind="none")}) for one in seeds]
    assert not any("error_adoption" in efficiency(run(one), ()) for one in apart)
    # Three who were wrong told the one who was right, in each of the seeds in which it was.
    told = [found for one in seeds if "error_adoption" in (found := efficiency(run(one), ()))]
    assert 0 < len(told) < 12
    assert all(found["error_adoption"] == 1.0 for found in told)


def test_the_last_round_is_worth_what_it_adds_for_its_tokens() -> None:
    spec = game(["follower", "stubborn", "stubborn"], rounds=1)
    calls = [_call(tick, f"agent-{n}", 1.0) for tick in (0, 1) for n in (1, 2, 3)]
    for seed in range(12):
        result = run(spec.model_copy(update={"seed": seed}))
        before, after = result.outcome["accuracies"]
        found = efficiency(result, calls)
        assert found["last_round_value"] == pytest.approx(1000 * (after - before) / 36)
        assert found["correct_per_call"] == found["correct"] / 6


def test_a_text_that_stood_before_counts_as_repeated() -> None:
    assert repeated_share(["a b c d e f", "a b c d e f"]) == 0.5
    assert repeated_share(["a b c"]) == 0.0


def test_likeness_is_1_for_equal_texts_and_0_for_others() -> None:
    assert similarity(["a b", "b a"]) == 1.0
    assert similarity(["a b", "c d"]) == 0.0
    assert similarity(["a"]) is None


def test_an_error_that_nobody_made_alone_is_no_ratio() -> None:
    found = efficiency(run(game(["independent"] * 3, {"skill": 1.0}, rounds=0)), ())
    assert found["correct"] == found["alone_correct"] == pytest.approx(1.0)
    assert "error_amplification" not in found
