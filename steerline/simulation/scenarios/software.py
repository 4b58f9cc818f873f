"""A software pipeline: a coder writes a function, testers try it, a repairer mends it, a client may have a say.

Roles and layers after Qian et al., "ChatDev" (arXiv 2307.07924), the message pool after Hong et al., "MetaGPT" (arXiv
2308.00352): name a `layered` or a `pool` topology. A tick is a round of tests, repair and review; the coder writes
before the first. What agents write is really run, isolated, with limits (sandbox.py), and judged by tests that no agent
sees. With a bug rate q, a tester that finds a bug with chance d and a repairer that mends what was found with chance f,
a bug is left after r independent rounds with chance `q (1 - d f)^r`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import Field

from steerline.config.base import Spec
from steerline.config.simulation import SimulationSpec
from steerline.errors import SimulationError
from steerline.simulation.action import Action, ActionSpec, Choice, Parsed
from steerline.simulation.message import Draft
from steerline.simulation.observation import Observation
from steerline.simulation.oracle import Oracle
from steerline.simulation.rng import CounterRng
from steerline.simulation.scenario import Coverage, Feedback, Resolution, Scenario, Seat, State
from steerline.simulation.scenarios.sandbox import evaluate
from steerline.simulation.scenarios.software_actions import Asserts, Code, read_asserts, read_code
from steerline.simulation.scenarios.software_brains import CLIENT, CODER, POLICIES, REPAIRER, TESTER, team
from steerline.simulation.scenarios.software_tasks import TASKS


class SoftwareParams(Spec):
    """Settings of the software pipeline."""

    task: str | None = None
    """Name of the function to write; none draws it from the seed."""
    rounds: int = Field(default=3, ge=0)
    """Rounds of tests and repair, one a tick."""
    keep_tests: bool = True
    """Whether tests of earlier rounds are run again; without, each round finds a bug anew or not at all."""


class Software(Scenario[SoftwareParams]):
    """The software pipeline."""

    Params = SoftwareParams
    coverage = Coverage(
        domain="software",
        interface=frozenset({"sandbox"}),
        profiling=frozenset({"predefined"}),
        paradigm=frozenset({"cooperative"}),
        structure=frozenset({"layered", "pool"}),
        feedback=frozenset({"environment", "agents", "human"}),
        adjustment=frozenset({"memory", "self_evolution"}),
    )
    scripted = POLICIES

    def reset(self, seats: Sequence[Seat], rng: CounterRng) -> State:
        team: dict[str, list[str]] = {CODER: [], TESTER: [], REPAIRER: [], CLIENT: []}
        for seat in seats:
            if seat.profile.role not in team:
                raise SimulationError(
                    f"{seat.id} has no part in the pipeline",
                    where=f"agent {seat.id}, profile.role",
                    got=seat.profile.role or "no role",
                    expected=" | ".join(team),
                )
            team[seat.profile.role].append(seat.id)
        if len(team[CODER]) != 1 or not team[TESTER] or len(team[REPAIRER]) > 1 or len(team[CLIENT]) > 1:
            raise SimulationError(
                "this team cannot play the pipeline",
                got=", ".join(f"{len(members)} of the role {role}" for role, members in team.items()),
                expected="one coder, one or more testers, at most one repairer and one client",
            )
        task = self.params.task or rng.choice(sorted(TASKS), "task")
        if task not in TASKS:
            raise SimulationError(f"there is no task {task}", where="params.task", expected=" | ".join(TASKS))
        return {
            "task": task,
            # Without a repairer the coder mends its own work.
            "team": {**team, REPAIRER: team[REPAIRER] or team[CODER]},
            "stage": "code",
            "round": 0,
            "code": "",
            "author": team[CODER][0],  # who wrote it
            "passed": 0.0,  # share of the hidden tests
            "tests": [],  # the testers', as expression and value expected
            "failures": [],  # of these, with what was given
            "comment": "",  # the client's, while it asks for changes
            "accepted": False,
            "repairs": 0,
            "false_alarms": 0,
        }

    def who_acts(self, state: State) -> Sequence[str]:
        role = {"code": CODER, "test": TESTER, "repair": REPAIRER, "review": CLIENT}[state["stage"]]
        agents: Sequence[str] = state["team"][role]
        return agents

    def observe(self, state: State, agent: str) -> Observation:
        task = TASKS[state["task"]]
        lines = [f"Function to write: {task.signature}\n{task.text}"]
        if state["code"]:
            lines.append(f"The code now:\n```python\n{state['code'].rstrip()}\n```")
        if state["failures"]:
            lines.append(_told(state["failures"]))
        if state["comment"]:
            lines.append("The client asks for changes.")
        legal, question = self._asked(state)
        facts = {name: state[name] for name in ("stage", "task", "code", "failures", "comment")}
        return Observation(legal, "\n".join([*lines, question]), facts=facts)

    def parse(self, text: str, spec: ActionSpec) -> Parsed:
        match spec:
            case Code():
                return read_code(text, spec.default)
            case Asserts():
                return read_asserts(text, spec.default)
        return super().parse(text, spec)

    def resolve(self, state: State, actions: Mapping[str, Action], rng: CounterRng) -> Resolution:
        match state["stage"]:
            case "code" | "repair":
                return self._write(state, actions)
            case "test":
                return self._test(state, actions)
            case _:
                return self._review(state, actions)

    def done(self, state: State) -> bool:
        accepted: bool = state["accepted"]
        return accepted or (state["stage"] == "test" and state["round"] >= self.params.rounds)

    def metrics(self, state: State) -> Mapping[str, float]:
        return {
            "passed": state["passed"],
            "bug": float(state["passed"] < 1),
            "escaped": float(state["passed"] < 1 and not state["failures"]),
            "tests": len(state["tests"]),
            "repairs": state["repairs"],
            "false_alarms": state["false_alarms"],
        }

    def rules(self) -> str:
        return (
            "A team writes a small Python function. The coder writes it, testers write tests, the repairer mends the"
            " code when tests fail, and the client says whether it is good. Only modules for computing can be imported,"
            " such as math; files and the network cannot be used. Be short."
        )

    def outcome(self, state: State) -> Mapping[str, Any]:
        task = TASKS[state["task"]]
        return {
            "question": f"{task.signature}: {task.text}",
            "answer": state["code"],
            "correct": state["passed"] == 1,
            "rounds": state["round"],
            "accepted": state["accepted"],
            **self.metrics(state),
        }

    def _asked(self, state: State) -> tuple[ActionSpec, str]:
        """What may be done now, and the question."""
        match state["stage"]:
            case "code":
                return Code(max_chars=6000), "Write the function."
            case "test":
                return Asserts(max_chars=2000), "Write tests that find mistakes in the code."
            case "repair":
                return Code(max_chars=6000, default=state["code"]), "Mend the code."
        return Choice(("accept", "change"), default="change"), "Is the function as you want it? Say what is to change."

    def _write(self, state: State, actions: Mapping[str, Action]) -> Resolution:
        """New code: of the coder, or mended."""
        repair = state["stage"] == "repair"
        (author,) = self.who_acts(state)
        code = actions[author].payload if author in actions else state["code"]
        hidden = TASKS[state["task"]].hidden
        failures = _failures(code, state["tests"])
        new = {
            **state,
            "code": code,
            "author": author,
            "passed": _share(_failures(code, hidden), hidden),
            "failures": failures,
            "repairs": state["repairs"] + repair,
        }
        event = {"wrote": author, "code": code, "passed": new["passed"]}
        said = [Draft(author, f"{'Changed' if repair else 'Wrote'} {state['task']}.", channel="code")]
        if repair:
            feedback = [Feedback("environment", author, _share(failures, state["tests"]), _told(failures))]
            return self._then_review(new, [event], feedback, said)
        return Resolution({**new, "stage": "test"}, [event], messages=said, again=self.params.rounds > 0)

    def _test(self, state: State, actions: Mapping[str, Action]) -> Resolution:
        """The testers' tests are run."""
        written = {tester: [list(test) for test in action.payload] for tester, action in actions.items()}
        kept = state["tests"] if self.params.keep_tests else []
        found = _distinct(test for tests in written.values() for test in tests)
        tests = _distinct([*kept, *found])
        failures = _failures(state["code"], tests)
        new = {
            **state,
            "tests": tests,
            "failures": failures,
            # Tests that the packaged solution fails ask for the wrong thing.
            "false_alarms": state["false_alarms"] + len(_failures(TASKS[state["task"]].solution, found)),
        }
        said = [Draft(tester, _report(own, failures), channel="report") for tester, own in written.items() if own]
        feedback = [Feedback("environment", state["author"], _share(failures, tests), _told(failures))]
        event = {"tests": tests, "failures": failures}
        if failures or state["comment"]:
            return Resolution({**new, "stage": "repair"}, [event], feedback, said, again=True)
        return self._then_review(new, [event], feedback, said)

    def _then_review(
        self, state: State, events: list[dict[str, Any]], feedback: list[Feedback], said: list[Draft]
    ) -> Resolution:
        """The client's turn, where there is one; else the round is over."""
        if state["team"][CLIENT]:
            return Resolution({**state, "stage": "review"}, events, feedback, said, again=True)
        return Resolution(self._next_round(state), events, feedback, said)

    def _review(self, state: State, actions: Mapping[str, Action]) -> Resolution:
        """The client's word: the seat for a person; a policy or a model may stand in."""
        client = state["team"][CLIENT][0]
        action = actions.get(client)
        accepted = action is not None and action.payload == "accept"
        comment = "" if accepted or action is None else action.raw_text[:1000]
        new = self._next_round({**state, "accepted": accepted, "comment": comment})
        feedback = [Feedback("human", state["author"], float(accepted), comment)]
        said = [Draft(client, comment, channel="review")] if comment else []
        return Resolution(new, [{"accepted": accepted, "comment": comment}], feedback, said)

    def _next_round(self, state: State) -> State:
        return {**state, "round": state["round"] + 1, "stage": "test"}

    @classmethod
    def oracles(cls) -> Sequence[Oracle]:
        q, d, f = 0.6, 0.7, 0.5
        rates = {"bug_rate": q, "detects": d, "fixes": f}
        # With kept tests a found bug stays found: it is unknown, then known, then mended.
        unknown, known = q, 0.0
        for _ in range(3):
            unknown, known = unknown * (1 - d), (known + unknown * d) * (1 - f)
        both = 1 - (1 - d) ** 2
        formula = "q (1 - d f)^r, independent rounds"
        return [
            _oracle("a bug before any test", team(rates, rounds=0), q, "the coder's rate"),
            _oracle("a bug after one round", team(rates, rounds=1), q * (1 - d * f), formula),
            _oracle("a bug after three rounds", team(rates, rounds=3, keep_tests=False), q * (1 - d * f) ** 3, formula),
            _oracle(
                "a bug after three rounds, tests kept", team(rates, rounds=3), unknown + known, "a chain of 3 states"
            ),
            _oracle(
                "a bug after two rounds with two testers",
                team(rates, testers=2, rounds=2, keep_tests=False),
                q * (1 - both * f) ** 2,
                f"{formula}, with d the chance that one of two finds it",
            ),
        ]


def _oracle(name: str, spec: SimulationSpec, exact: float, source: str) -> Oracle:
    return Oracle(name, spec, lambda result: result.metrics[-1]["bug"], exact, source, seeds=200)


def _failures(code: str, tests: Sequence[Sequence[str]]) -> list[list[str]]:
    """The tests that some code fails, each with what it gives instead."""
    if not tests:
        return []
    results = evaluate(code, tuple(expression for expression, _ in tests))
    return [[*test, given] for test, given in zip(tests, results, strict=True) if given != test[1]]


def _share(failures: Sequence[Sequence[str]], tests: Sequence[Any]) -> float:
    """Share of the tests that do not fail."""
    return 1 - len(failures) / len(tests) if tests else 1.0


def _told(failures: Sequence[Sequence[str]]) -> str:
    """Failures in words, one a line."""
    return "\n".join(f"{test} should give {expected}, but gives {given}" for test, expected, given in failures)


def _report(tests: Sequence[Sequence[str]], failures: Sequence[Sequence[str]]) -> str:
    """What a tester says about its own tests."""
    return _told([failure for failure in failures if failure[:2] in tests]) or "My tests pass."


def _distinct(tests: Iterable[Sequence[str]]) -> list[list[str]]:
    """Each test once, in order."""
    return [list(test) for test in dict.fromkeys(map(tuple, tests))]
