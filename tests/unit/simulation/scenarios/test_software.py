"""The software pipeline against its oracles, and what its actions are read as."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest

from steerline.config.simulation_agents import LlmBrain, SelfEvolutionSpec
from steerline.config.simulation_running import ModelRef
from steerline.config.simulation_topology import PoolTopology
from steerline.errors import SimulationError
from steerline.inference.request import GenRequest
from steerline.simulation.action import Parsed
from steerline.simulation.names import scenario
from steerline.simulation.oracle import Oracle, consult
from steerline.simulation.runner import run
from steerline.simulation.scenarios.sandbox import evaluate
from steerline.simulation.scenarios.software import Software
from steerline.simulation.scenarios.software_actions import Asserts, Code, read_asserts, read_code
from steerline.simulation.scenarios.software_brains import team
from steerline.simulation.scenarios.software_tasks import TASKS, Test
from steerline.simulation.turn import Decision, Turn
from tests.unit.simulation.worlds import MODEL, Server

BUG = {"bug_rate": 1.0, "detects": 1.0, "fixes": 1.0}
RIGHT = "```python\ndef is_leap(year):\n    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)\n```"
WRONG = "```python\ndef is_leap(year):\n    return year % 4 == 0\n```"


class Texts:
    """Answers each turn of an agent with its next text, and keeps what was asked."""

    def __init__(self, **texts: Sequence[str]) -> None:
        self.texts = {agent.replace("_", "-"): iter(lines) for agent, lines in texts.items()}
        self.turns: list[Turn] = []

    async def decide(self, turns: Sequence[Turn]) -> Sequence[Decision]:
        self.turns += turns
        return [Decision(next(self.texts[turn.agent.id])) for turn in turns]


@pytest.mark.parametrize("oracle", Software.oracles(), ids=lambda oracle: oracle.name)
def test_scripted_runs_agree_with_theory(oracle: Oracle) -> None:
    verdict = consult(oracle)
    assert verdict.agrees, verdict


@pytest.mark.parametrize("name", TASKS)
def test_a_task_s_solution_passes_all_tests_and_its_mistake_is_found_by_the_exposing_one(name: str) -> None:
    task = TASKS[name]

    def passes(code: str, *tests: Test) -> bool:
        return evaluate(code, tuple(test for test, _ in tests)) == tuple(expected for _, expected in tests)

    assert passes(task.solution, *task.hidden, task.exposing, task.harmless)
    assert passes(task.buggy, task.harmless)
    assert not passes(task.buggy, task.exposing)
    assert not passes(task.buggy, *task.hidden)


def test_the_same_spec_gives_the_same_history_and_another_seed_another_task() -> None:
    spec = team()
    assert run(spec).hash == run(spec).hash
    assert len({run(spec.model_copy(update={"seed": seed})).state["task"] for seed in range(8)}) > 1


def test_a_mistake_is_found_mended_and_accepted() -> None:
    result = run(team(BUG, client=True, task="is_leap"))
    assert result.outcome["correct"]
    assert result.outcome["accepted"]
    assert result.tick == 1
    assert result.metrics[-1]["repairs"] == 1


def test_code_of_models_is_really_run() -> None:
    broken = "```python\ndef is_leap(year):\n    return year / 0\n```"
    texts = Texts(coder=[broken], tester_1=["assert is_leap(4) == True"], repairer=["Here it is:\n" + RIGHT])
    result = run(team(rounds=1, task="is_leap"), texts)
    (repair,) = [turn for turn in texts.turns if turn.agent.id == "repairer"]
    assert "is_leap(4) should give True, but gives !ZeroDivisionError: division by zero" in repair.observation.text
    assert result.outcome["correct"]


def test_a_bug_that_the_tests_miss_escapes() -> None:
    texts = Texts(coder=[WRONG], tester_1=["assert is_leap(4) == True"])
    result = run(team(rounds=1, task="is_leap"), texts)
    assert (result.metrics[-1]["bug"], result.metrics[-1]["escaped"], result.metrics[-1]["passed"]) == (1.0, 1.0, 0.75)


@pytest.mark.parametrize(("keep", "correct"), [(True, True), (False, False)])
def test_kept_tests_find_again_what_they_found_before(keep: bool, correct: bool) -> None:
    texts = Texts(
        coder=[WRONG],
        tester_1=["assert is_leap(1900) == False", "assert is_leap(4) == True"],
        repairer=[WRONG, RIGHT],
    )
    assert run(team(rounds=2, task="is_leap", keep_tests=keep), texts).outcome["correct"] is correct


def test_a_test_that_asks_for_the_wrong_thing_is_a_false_alarm() -> None:
    result = run(team({"bug_rate": 0.0, "false_alarms": 1.0}, rounds=2, task="is_leap"))
    assert result.metrics[-1]["false_alarms"] == 2
    assert result.metrics[-1]["bug"] == 0.0


def test_code_that_cannot_be_read_is_counted_and_changes_nothing() -> None:
    texts = Texts(coder=["I will do it tomorrow."], tester_1=["looks good to me"])
    result = run(team(rounds=1, task="is_leap"), texts)
    assert [event.agent for event in result.of_kind("action.invalid")] == ["coder", "tester-1"]
    assert result.state["code"] == ""
    assert result.outcome["passed"] == 0.0


@pytest.mark.parametrize(("reflects", "correct"), [(True, True), (False, False)])
def test_a_tester_that_reflects_finds_what_it_missed(reflects: bool, correct: bool) -> None:
    """The model tests centuries only once the tester has set itself that goal."""

    def model(request: GenRequest) -> str:
        if request.response_schema is not None:
            return '{"goals": ["test centuries too"]}'
        prompt = "\n".join(message.content for message in request.messages)
        return "assert is_leap(1900) == False" if "test centuries too" in prompt else "assert is_leap(4) == True"

    spec = team({"bug_rate": 1.0, "fixes": 1.0}, rounds=2, task="is_leap")
    evolution = SelfEvolutionSpec(every=1) if reflects else None
    agents = tuple(
        agent.model_copy(update={"brain": LlmBrain(kind="llm", model="m"), "evolution": evolution})
        if agent.profile.role == "tester"
        else agent
        for agent in spec.agents
    )
    models = {"m": ModelRef.model_validate(MODEL)}
    result = run(spec.model_copy(update={"agents": agents, "models": models}), backends={"m": Server(model)})
    assert [event.payload["adjustment"] for event in result.of_kind("agent.adjusted")][:1] == [
        "self_evolution"
    ] * reflects
    assert result.outcome["correct"] is correct


def test_without_a_repairer_the_coder_mends_its_own_work() -> None:
    spec = team(rounds=1, task="is_leap")
    pair = spec.model_copy(update={"agents": spec.agents[:2], "topology": PoolTopology(kind="pool")})
    texts = Texts(coder=[WRONG, RIGHT], tester_1=["assert is_leap(1900) == False"])
    assert run(pair, texts).outcome["correct"]


def test_a_client_s_comment_reaches_the_repairer_although_all_tests_pass() -> None:
    comment = "It must take strings too.\nANSWER: change"
    texts = Texts(
        coder=[RIGHT],
        tester_1=["assert is_leap(4) == True"] * 2,
        repairer=[RIGHT],
        client=[comment, "Thanks.\nANSWER: accept"],
    )
    result = run(team(client=True, rounds=3, task="is_leap"), texts)
    (repair,) = [turn for turn in texts.turns if turn.agent.id == "repairer"]
    assert [message.text for message in repair.observation.messages if message.sender == "client"] == [comment]
    assert [event.payload["source"] for event in result.of_kind("feedback.given")].count("human") == 2
    assert result.tick == 2


def test_a_client_who_says_nothing_asks_for_nothing() -> None:
    texts = Texts(coder=[RIGHT], tester_1=["assert is_leap(4) == True"] * 2, client=["", ""])
    result = run(team(client=True, rounds=2, task="is_leap"), texts)
    assert result.metrics[-1]["repairs"] == 0
    assert not result.outcome["accepted"]


def test_layers_keep_the_coder_out_of_the_client_s_hearing() -> None:
    texts = Texts(coder=[RIGHT], tester_1=["assert is_leap(4) == True"], client=["ANSWER: accept"])
    run(team(client=True, rounds=1, task="is_leap"), texts)
    (review,) = [turn for turn in texts.turns if turn.agent.id == "client"]
    assert review.observation.messages == ()


def test_no_agent_sees_the_tests_by_which_the_work_is_judged() -> None:
    texts = Texts(coder=[WRONG], tester_1=["assert is_leap(4) == True"], client=["ANSWER: accept"])
    spec = team(client=True, rounds=1, task="is_leap")
    run(spec, texts)
    software = scenario("software", spec.params)
    for turn in texts.turns:
        prompt = software.prompt(turn.observation, turn.agent.profile)
        assert not any(test in prompt.system + prompt.user for test, _ in TASKS["is_leap"].hidden)
        assert len((prompt.system + prompt.user).split()) < 200
        assert set(turn.observation.facts) == {"stage", "task", "code", "failures", "comment"}


def test_prompts_ask_for_code_and_tests_in_the_form_that_is_read() -> None:
    assert "```python" in Code().instruction()
    assert "assert f(2) == 3" in Asserts().instruction()


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("Here:\n```python\nx = 1\n```\nDone.", Parsed("x = 1\n")),
        ("```py\nx = 1\n```\nBetter:\n```\nx = 2\n```", Parsed("x = 2\n")),
        (
            "def f():\n    return 1",
            Parsed("def f():\n    return 1", "repaired", "no block of code; the whole text counts"),
        ),
        ("> ```python\n> x = 1\n> ```", Parsed("old", "defaulted", "the text holds no block of code")),
        ("ok", Parsed("old", "defaulted", "the text holds no block of code")),
        ("(" * 5000, Parsed("old", "defaulted", "the text holds no block of code")),
    ],
)
def test_code_is_read_from_its_block(text: str, parsed: Parsed) -> None:
    assert read_code(text, "old") == parsed


@pytest.mark.parametrize(
    ("text", "tests", "status"),
    [
        ("assert f(2) == 3", [["f(2)", "3"]], "ok"),
        (
            "I try:\n  assert f([1,2]) == (1, 'a')\nassert f(0) is None",
            [["f([1, 2])", "(1, 'a')"], ["f(0)", "None"]],
            "ok",
        ),
        ("assert f(2) == 3\nassert f(2) > 1", [["f(2)", "3"]], "repaired"),
        ("assert f(2) == g(2)", [], "defaulted"),
        ("> assert f(2) == 3", [], "defaulted"),
        ("assert " + "-" * 1900 + "1 == 1", [], "defaulted"),
        ("\n".join(["assert f(2) == 3"] * 20), [["f(2)", "3"]] * 8, "repaired"),
    ],
)
def test_tests_are_read_from_lines_of_assert(text: str, tests: list[list[str]], status: str) -> None:
    parsed = read_asserts(text, "")
    assert (parsed.payload, parsed.status) == (tests, status)


def test_teams_and_tasks_that_do_not_fit_are_refused() -> None:
    spec = team()
    with pytest.raises(SimulationError, match="this team cannot play"):
        run(spec.model_copy(update={"agents": spec.agents[1:], "topology": PoolTopology(kind="pool")}))
    with pytest.raises(SimulationError, match="there is no task"):
        run(team(task="world_peace"))
    stranger = spec.agents[0].model_copy(update={"profile": spec.agents[0].profile.model_copy(update={"role": "boss"})})
    with pytest.raises(SimulationError, match="has no part"):
        run(spec.model_copy(update={"agents": (stranger, *spec.agents[1:])}))


@pytest.mark.parametrize(
    "text",
    [
        "```python\n" * 20_000,
        "```python\n" + "x = 1\n" * 30_000,
        "```python" + " " * 200_000 + "x",
        ("```" + " " * 50) * 4_000,
        "assert " + "(" * 200_000,
        "assert " + "-" * 200_000 + "1 == 1",
        "assert " + "f(" * 100_000 + ")" * 100_000 + " == 1",
        " " * 200_000 + "assert",
        "x" + "\n" * 200_000 + "y",
    ],
    ids=["openings", "no end", "a gap", "gaps", "brackets", "signs", "calls", "indented", "lines"],
)
def test_no_text_keeps_the_readers_of_code_and_tests_busy(text: str) -> None:
    began = time.process_time()
    read_code(text, "")
    read_asserts(text, "")
    assert time.process_time() - began < 1.0
