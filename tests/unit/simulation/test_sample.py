"""A sample of every scenario can be played as it comes, and changed in every part."""

from __future__ import annotations

import pytest

from steerline.config.simulation_agents import HumanBrain, LlmBrain, ScriptedBrain
from steerline.errors import ConfigError, SimulationError
from steerline.simulation.names import SCENARIOS
from steerline.simulation.runner import run
from steerline.simulation.sample import sample

BACKEND = {"kind": "noisy", "answers": ("ANSWER: 3",)}


def policies(**wanted: object) -> list[str]:
    spec = sample("public_goods", **wanted)
    return [agent.brain.policy if isinstance(agent.brain, ScriptedBrain) else agent.brain.kind for agent in spec.agents]


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_built_in_scenario_is_played_by_its_usual_cast(name: str) -> None:
    result = run(sample(name, ticks=2))
    assert result.status == "ended"
    assert list(result.of_kind("action.taken"))


def test_policies_are_dealt_in_turn() -> None:
    assert policies(agents=3, policies=["punisher", "free_rider"]) == ["punisher", "free_rider", "punisher"]


def test_a_model_answers_for_all_or_beside_policies_for_the_first() -> None:
    assert policies(agents=2, backend=BACKEND) == ["llm", "llm"]
    assert policies(agents=3, backend=BACKEND, policies=["punisher"]) == ["llm", "punisher", "punisher"]
    result = run(sample("public_goods", agents=2, ticks=1, backend=BACKEND))
    assert [event.payload["payload"] for event in result.of_kind("action.taken")] == [3, 3]


def test_a_person_is_one_agent_more() -> None:
    spec = sample("public_goods", agents=2, person=True)
    assert [agent.id for agent in spec.agents] == ["you", "agent-1", "agent-2"]
    assert isinstance(spec.agents[0].brain, HumanBrain)


def test_changes_are_laid_over_the_sample() -> None:
    changes = {"agents.1.brain.steering.boost.strength": 0.5, "params.rounds": 2}
    spec = sample("public_goods", agents=2, backend=BACKEND, changes=changes)
    brain = spec.agents[1].brain
    assert isinstance(brain, LlmBrain)
    assert brain.steering is not None
    assert brain.steering.boost.strength == 0.5
    assert run(sample("public_goods", changes={"params.rounds": 2})).tick == 2


def test_what_does_not_exist_is_refused_with_what_does() -> None:
    with pytest.raises(SimulationError, match="no policy called saint") as caught:
        sample("public_goods", policies=["saint"])
    assert "punisher" in str(caught.value)
    with pytest.raises(ConfigError) as refused:
        sample("public_goods", changes={"max_tick": 2})
    assert "max_ticks" in str(refused.value)
