"""The debate about a sum against its oracles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from steerline.config.load import changed
from steerline.config.simulation_agents import AgentSpec, Profile, ScriptedBrain
from steerline.config.simulation_topology import ChainTopology, StarTopology
from steerline.errors import SimulationError
from steerline.simulation.action import Choice
from steerline.simulation.message import DataBlock, Message
from steerline.simulation.names import scenario
from steerline.simulation.observation import Observation
from steerline.simulation.oracle import Oracle, consult
from steerline.simulation.rng import CounterRng
from steerline.simulation.runner import run
from steerline.simulation.scenarios.debate import Debate, candidates, dirichlet, game, voting
from steerline.simulation.scenarios.debate_theory import exact_accuracies
from steerline.simulation.turn import Decision, Turn

JUDGE = AgentSpec(id="judge", profile=Profile(role="judge"), brain=ScriptedBrain(kind="scripted", policy="follower"))


class Texts:
    """Answers each turn with a text of its own, by agent and tick, and keeps what was asked."""

    def __init__(self, **texts: Sequence[str]) -> None:
        self.texts = texts
        self.turns: list[Turn] = []

    async def decide(self, turns: Sequence[Turn]) -> Sequence[Decision]:
        self.turns += turns
        return [Decision(self.texts[turn.agent.id.replace("-", "_")][turn.observation.tick]) for turn in turns]


def beliefs(text: str) -> list[float]:
    return [float(part) for part in text.splitlines()[0].removeprefix("BELIEF:").split()]


@pytest.mark.parametrize("oracle", Debate.oracles(), ids=lambda oracle: oracle.name)
def test_scripted_runs_agree_with_theory(oracle: Oracle) -> None:
    verdict = consult(oracle)
    assert verdict.agrees, verdict


def test_exact_accuracies_are_those_of_the_paper_s_model() -> None:
    talking = exact_accuracies(agents=5, options=4, skill=0.6, strength=4.0, bonus=0.0, rounds=2)
    assert [agent for agent, _ in talking] == pytest.approx([0.6] * 3)
    votes = [vote for _, vote in talking]
    assert votes == sorted(votes, reverse=True)
    # One of two agents hears the other once: (4 * 0.6 + 0.6) / 5, and more where right messages weigh double.
    assert exact_accuracies(2, 2, 0.6, 4.0, 0.0, 1)[1][0] == pytest.approx(0.6)
    biased = 0.6 * (2.4 + 2) / 6 + 0.4 * 2.4 / 5
    assert exact_accuracies(2, 2, 0.6, 4.0, 1.0, 1)[1][0] == pytest.approx(biased)


def test_the_same_spec_gives_the_same_history_and_another_seed_another_question() -> None:
    spec = game(["dirichlet"] * 3)
    other = run(spec.model_copy(update={"seed": 1}))
    assert run(spec).hash == run(spec).hash
    assert run(spec).outcome["question"] != other.outcome["question"]


@pytest.mark.parametrize("options", [0, 2, 5])
def test_the_right_answer_is_among_the_options_once(options: int) -> None:
    for seed in range(20):
        result = run(game(["independent"], options=options, rounds=0).model_copy(update={"seed": seed}))
        a, b, c = result.state["operands"]
        assert result.outcome["reference"] == a + b * c
        assert result.state["options"].count(a + b * c) == (1 if options else 0)
        assert len(set(result.state["options"])) == options


def test_even_the_smallest_numbers_give_five_options() -> None:
    assert len(candidates((1, 1, 1), 5)) == 5


def test_a_prompt_shows_rules_question_own_words_and_what_others_said() -> None:
    texts = Texts(agent_1=["I think\nANSWER: 14", "ANSWER: 14"], agent_2=["2 + 3 is 5\nANSWER: 20", "ANSWER: 14"])
    spec = game(["independent"] * 2, operands=(2, 3, 4), rounds=1)
    run(spec, texts)
    debate, last = scenario("debate", spec.params), texts.turns[2]
    prompt = debate.prompt(last.observation, last.agent.profile)
    assert "Multiplication comes before addition" in prompt.system
    assert "Question: 2 + 3 * 4 = ?" in prompt.user
    assert "You said before:\n> I think" in prompt.user
    assert "agent-2 said:\n> 2 + 3 is 5\n> ANSWER: 20" in prompt.user
    assert "x is one of: " in prompt.user
    assert len((prompt.system + prompt.user).split()) < 150


def test_nothing_but_the_options_tells_the_right_answer() -> None:
    texts = Texts(agent_1=["ANSWER: 14"])
    run(game(["independent"], operands=(2, 3, 4), rounds=0), texts)
    (turn,) = texts.turns
    assert "14" not in turn.observation.text
    assert set(turn.observation.facts) == {"operands", "options", "said", "own"}


def test_an_answer_that_cannot_be_read_is_counted_and_is_no_vote() -> None:
    texts = Texts(agent_1=["no idea"], agent_2=["ANSWER: 20"], agent_3=["ANSWER: 999"])
    result = run(game(["independent"] * 3, operands=(2, 3, 4), rounds=0), texts)
    assert [event.agent for event in result.of_kind("action.invalid")] == ["agent-1", "agent-3"]
    assert result.state["answers"] == [{"agent-1": None, "agent-2": 20, "agent-3": None}]
    assert result.metrics[-1]["unreadable"] == pytest.approx(2 / 3)
    assert result.outcome["answer"] == 20


def test_who_cannot_be_read_later_keeps_the_answer_it_had() -> None:
    texts = Texts(agent_1=["ANSWER: 14", "what?"])
    result = run(game(["independent"], operands=(2, 3, 4), rounds=1), texts)
    assert result.outcome["answer"] == 14
    assert len(list(result.of_kind("action.invalid"))) == 1


def test_who_is_not_asked_keeps_its_answer_and_its_vote() -> None:
    texts = Texts(agent_1=["ANSWER: 14"], agent_2=["ANSWER: 20", "ANSWER: 14"])
    spec = game(["independent"] * 2, operands=(2, 3, 4), rounds=1)
    woken = {"engine": "event", "topology": ChainTopology(kind="chain")}  # agent-1 hears nobody and is not woken again
    result = run(spec.model_copy(update=woken), texts)
    assert result.state["answers"] == [{"agent-1": 14, "agent-2": 20}, {"agent-1": 14, "agent-2": 14}]
    assert result.outcome["answer"] == 14


def test_an_open_question_takes_any_number() -> None:
    texts = Texts(agent_1=["3 * 4 = 12, 2 + 12 = 14\nANSWER: 14"], agent_2=["ANSWER: 77"])
    result = run(game(["independent"] * 2, operands=(2, 3, 4), rounds=0, options=0), texts)
    assert result.state["answers"] == [{"agent-1": 14, "agent-2": 77}]


def test_changes_of_mind_are_counted_in_both_directions() -> None:
    texts = Texts(agent_1=["ANSWER: 14", "ANSWER: 20"], agent_2=["ANSWER: 20", "ANSWER: 14"])
    result = run(game(["independent"] * 2, operands=(2, 3, 4), rounds=1), texts)
    assert result.series("right_to_wrong") == [0.0, 0.5]
    assert result.series("wrong_to_right") == [0.0, 0.5]
    assert result.series("vote_accuracy") == [0.5, 0.5]


def test_followers_agree_in_the_first_round_after_a_clear_majority() -> None:
    texts = Texts(agent_1=["ANSWER: 14"] * 2, agent_2=["ANSWER: 14"] * 2, agent_3=["ANSWER: 20", "ANSWER: 14"])
    result = run(game(["follower"] * 3, operands=(2, 3, 4), rounds=1), texts)
    assert result.outcome["consensus_round"] == 1
    assert result.series("agreement") == [pytest.approx(2 / 3), 1.0]


def test_a_dirichlet_agent_adds_each_message_to_its_belief() -> None:
    facts = {"operands": (2, 3, 4), "options": [20, 14, 5, 24], "said": "", "own": None}
    seen = Observation(Choice(("20", "14", "5", "24"), "none"), "", facts=facts)
    profile = Profile(attributes={"skill": 0.7, "strength": 10.0, "bonus": 0.5})
    first = dirichlet(seen, profile, CounterRng(0))
    assert beliefs(first) == pytest.approx([1.0, 7.0, 1.0, 1.0])
    said = [Message(str(n), 0, "b", ("a",), (DataBlock(value),)) for n, value in enumerate((14, 14, 5, None, 99))]
    later = replace(seen, facts={**facts, "said": first}, messages=tuple(said))
    assert beliefs(dirichlet(later, profile, CounterRng(0))) == pytest.approx([1.0, 10.0, 2.0, 1.0])


def test_a_judge_hears_all_rounds_and_decides() -> None:
    spec = game(["stubborn"] * 2, operands=(2, 3, 4), rounds=1)
    spec = spec.model_copy(update={"agents": (*spec.agents, JUDGE)})
    texts = Texts(agent_1=["ANSWER: 14"] * 2, agent_2=["ANSWER: 20"] * 2, judge=["", "", "ANSWER: 14"])
    result = run(spec, texts)
    (asked,) = [turn for turn in texts.turns if turn.agent.id == "judge"]
    assert [message.data for message in asked.observation.messages] == [14, 20, 14, 20]
    assert result.outcome["answer"] == 14
    assert result.metrics[-1]["judged"] == 1.0


def test_around_a_judge_in_the_middle_debaters_do_not_hear_each_other() -> None:
    spec = game(["stubborn"] * 3, {"skill": 1.0}, rounds=2)
    star = {"agents": (*spec.agents, JUDGE), "topology": StarTopology(kind="star", hub="judge")}
    result = run(spec.model_copy(update=star))
    heard = {name for event in result.of_kind("msg.delivered") for name in event.payload["recipients"]}
    assert heard == {"judge"}
    assert result.metrics[-1]["judged"] == 1.0


def test_the_baseline_asks_the_same_question_without_a_word_between_voters() -> None:
    spec = game(["dirichlet"] * 3, rounds=2).model_copy(update={"seed": 7})
    votes = run(voting(spec, voters=9))
    assert votes.outcome["question"] == run(spec).outcome["question"]
    assert votes.tick == 1
    assert len(votes.state["answers"][0]) == 9
    assert not list(votes.of_kind("msg.sent"))


def test_a_debate_of_judges_or_of_crossed_limits_is_refused() -> None:
    spec = game(["independent"])
    deciders = [AgentSpec(id=name, profile=Profile(role="decider"), brain=JUDGE.brain) for name in ("eve", "dan")]
    with pytest.raises(SimulationError, match="one decides"):
        run(game(["stubborn"]).model_copy(update={"agents": tuple(deciders)}))
    with pytest.raises(SimulationError, match="nobody debates"):
        run(spec.model_copy(update={"agents": (JUDGE,)}))
    with pytest.raises(SimulationError, match="low is above high"):
        run(game(["independent"], low=9, high=3))


def test_debaters_who_take_turns_hear_each_other_within_a_round_and_a_round_is_all_of_them() -> None:
    brains = Texts(agent_1=["ANSWER: 1"] * 2, agent_2=["ANSWER: 2"] * 2, agent_3=["ANSWER: 3"] * 2)
    spec = game(["stubborn"] * 3, rounds=1, options=0).model_copy(update={"engine": "sequential"})
    result = run(spec, brains)
    assert [(turn.observation.tick, turn.agent.id) for turn in brains.turns] == [
        (tick, f"agent-{n}") for tick in (0, 1) for n in (1, 2, 3)
    ]
    heard = [[message.data for message in turn.observation.messages] for turn in brains.turns]
    assert heard == [[], [1], [1, 2], [2, 3], [3, 1], [1, 2]]
    assert result.outcome["rounds"] == 1
    assert result.state["answers"] == [{"agent-1": 1, "agent-2": 2, "agent-3": 3}] * 2


def test_a_round_in_turns_ends_with_its_tick_also_where_some_are_silent() -> None:
    masks = {
        "kind": "masks",
        "nodes": ["agent-1", "agent-2"],
        "spatial": [[[0, 1], [0, 0]]] * 2,
        "temporal": [[[0, 0], [0, 0]]] * 2,
        "active": [[1, 0], [0, 1]],
    }
    spec = changed(game(["stubborn"] * 2, rounds=1), {"engine": "sequential", "topology": masks}, "here")
    state = run(spec).state
    assert [[agent for agent, said in answers.items() if said is not None] for answers in state["answers"]] == [
        ["agent-1"],
        ["agent-1", "agent-2"],
    ]
    assert "answered" not in state


def test_who_moves_at_once_is_heard_in_no_round_after_the_last_also_where_others_were_pruned() -> None:
    texts = Texts(**{f"agent_{n}": [f"ANSWER: {n}"] * 2 for n in (1, 2, 3)})
    pruned = {"topology": {"kind": "pruned", "keep": 2}}
    result = run(changed(game(["stubborn"] * 3, rounds=1, options=0), pruned, "here"), texts)
    assert [turn.observation.tick for turn in texts.turns] == [0, 0, 0, 1, 1]
    assert {event.tick for event in result.of_kind("msg.sent")} == {0}


def test_judges_who_take_turns_decide_together() -> None:
    debaters = game(["stubborn"], operands=(2, 3, 4), rounds=0)
    judges = [JUDGE.model_copy(update={"id": f"judge-{n}"}) for n in (1, 2, 3)]
    spec = debaters.model_copy(update={"agents": (*debaters.agents, *judges), "engine": "sequential"})
    texts = Texts(
        agent_1=["ANSWER: 14"], **{f"judge_{n}": ["", f"ANSWER: {said}"] for n, said in enumerate((20, 14, 14), 1)}
    )
    result = run(spec, texts)
    assert [turn.agent.id for turn in texts.turns] == ["agent-1", "judge-1", "judge-2", "judge-3"]
    assert result.outcome["answer"] == 14
    assert [event.payload for event in result.of_kind("env.changed") if event.tick == 1] == [{"judgement": 14}]
    assert [event.payload["value"] for event in result.of_kind("feedback.given")] == [1.0]


def test_a_round_in_turns_in_which_nobody_moves_passes() -> None:
    none = [[[0, 0]] * 2] * 2
    masks = {"kind": "masks", "nodes": ["agent-1", "agent-2"], "spatial": none, "temporal": none}
    masks |= {"active": [[0, 0], [1, 1]]}
    spec = changed(game(["stubborn"] * 2, rounds=1), {"engine": "sequential", "topology": masks}, "here")
    result = run(spec)
    assert (result.outcome["rounds"], result.series("unreadable")) == (1, [1.0, 0.0])


def test_voters_do_not_hear_each_other_also_where_the_debaters_take_turns() -> None:
    decider = AgentSpec(id="eve", profile=Profile(role="decider"), brain=JUDGE.brain)
    talk = game(["follower"] * 2, rounds=1)
    in_turns = talk.model_copy(update={"engine": "sequential", "agents": (*talk.agents, decider)})
    result = run(voting(in_turns, 6))
    assert not list(result.of_kind("msg.sent"))
    assert len(result.state["answers"]) == 1
