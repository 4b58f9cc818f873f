"""What is not there is refused before anything starts, with what is."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from steerline.errors import SimulationError
from steerline.simulation import names
from steerline.simulation.names import scenario, scenario_class
from steerline.simulation.runner import run
from steerline.simulation.scenario import Scenario
from steerline.simulation.turn import Turn
from tests.unit.simulation.chat import NAME, Chat, ChatParams, chat
from tests.unit.simulation.worlds import spec


def test_a_scenario_of_your_own_is_named_by_module_and_class() -> None:
    assert scenario_class(NAME) is Chat


def test_a_scenario_of_a_package_is_named_by_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("chat", NAME, names.SCENARIO_GROUP)
    monkeypatch.setattr(names, "entry_points", lambda group, name="chat": [point] if name == "chat" else [])
    assert scenario_class("chat") is Chat


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("public_god", "no scenario called public_god"),
        ("nowhere:Thing", "cannot be imported"),
        ("tests.unit.simulation.chat:Nothing", "cannot be imported"),
        ("builtins:dict", "is no scenario"),
    ],
)
def test_what_is_no_scenario_is_refused(name: str, what: str) -> None:
    with pytest.raises(SimulationError, match=what):
        scenario_class(name)


def test_a_wrong_name_is_answered_with_the_right_ones() -> None:
    with pytest.raises(SimulationError) as caught:
        scenario_class("public_god")
    assert "public_goods" in str(caught.value)


def test_a_setting_that_a_scenario_does_not_take_is_refused_with_its_place() -> None:
    with pytest.raises(SimulationError, match="does not take these settings") as caught:
        scenario("public_goods", {"endowment": -3})
    assert "params.endowment" in str(caught.value)


@pytest.mark.parametrize("brain", ["clever", {"kind": "stub", "policy": "clever"}])
def test_an_unknown_policy_is_refused_before_the_first_tick(brain: object) -> None:
    with pytest.raises(SimulationError, match="no scripted policy clever") as caught:
        run(spec("conditional", brain))  # type: ignore[arg-type]
    assert "free_rider" in str(caught.value)


class Parrot:
    """A brain of one's own."""

    def __init__(self, word: str) -> None:
        self._word = word

    async def decide(self, turn: Turn) -> str:
        return f"{self._word} {turn.observation.tick}"


def test_a_brain_of_your_own_answers() -> None:
    brain = {"kind": "custom", "name": "tests.unit.simulation.test_names:Parrot", "params": {"word": "polly"}}
    result = run(chat(brain))
    assert [event.payload["text"] for event in result.of_kind("action.taken")] == ["polly 0", "polly 1"]


def test_a_brain_that_is_not_there_is_refused() -> None:
    with pytest.raises(SimulationError, match="no brain called polly"):
        run(chat({"kind": "custom", "name": "polly"}))


class Shoal:
    """Refuses whatever it is given."""

    def __init__(self, size: int) -> None:
        raise TypeError(f"{size} fish")


class Half(Scenario[ChatParams]):
    """A scenario whose methods are not written yet."""

    Params, coverage = Chat.Params, Chat.coverage


HERE = "tests.unit.simulation.test_names"


@pytest.mark.parametrize("name", [":Chat", "chat:"])
def test_half_a_name_is_no_name(name: str) -> None:
    with pytest.raises(SimulationError, match=f"no scenario called {name}"):
        scenario_class(name)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"params": {"word": "a", "words": 1}}, "unexpected keyword argument 'words'"),
        ({"params": {}}, "argument: 'word'"),
    ],
)
def test_a_brain_that_cannot_be_made_says_why(changes: dict[str, object], said: str) -> None:
    brain = {"kind": "custom", "name": f"{HERE}:Parrot", **changes}
    with pytest.raises(SimulationError, match="cannot be made with these params") as caught:
        run(chat(brain))
    assert said in str(caught.value)


@pytest.mark.parametrize("name", [f"{HERE}:HERE", f"{HERE}:Shoal", "builtins:dict"])
def test_what_does_not_decide_is_no_brain_though_others_would_stand_in_for_it(name: str) -> None:
    with pytest.raises(SimulationError, match=f"{name} is no brain"):
        run(chat({"kind": "custom", "name": name}, straggler={"policy": "default"}))


def test_a_topology_that_cannot_be_made_says_why() -> None:
    topology = {"kind": "custom", "name": f"{HERE}:Shoal", "params": {"size": 3}}
    with pytest.raises(SimulationError, match="cannot be made with these params") as caught:
        run(chat(topology=topology))
    assert "3 fish" in str(caught.value)


def test_a_scenario_that_is_not_finished_says_what_it_lacks() -> None:
    with pytest.raises(SimulationError, match="is not finished") as caught:
        scenario(f"{HERE}:Half", {})
    assert "no scripted, done, metrics" in str(caught.value)
