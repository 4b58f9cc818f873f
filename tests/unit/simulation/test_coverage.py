"""The scenarios against the survey's table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from steerline.config.simulation import SimulationSpec
from steerline.config.simulation_agents import WindowMemory
from steerline.simulation.coverage import columns, coverages, page, uncovered
from steerline.simulation.engine import Surroundings
from steerline.simulation.names import scenario_class
from steerline.simulation.runner import run
from steerline.simulation.scenarios import debate, epidemic, recommender, software_brains
from steerline.simulation.turn import Decider, Decision, Turn

PAGE = Path(__file__).parents[3] / "docs" / "simulation_coverage.md"
SHORT = {
    "debate": debate.game(["stubborn", "follower"], rounds=2),
    "epidemic": epidemic.game([("ann", "careless", {})], inhabitants=20),
    "recommender": recommender.game(["picky"]),
    "software": software_brains.team({"bug_rate": 1.0, "fixes": 0.0}, rounds=2),
}
"""Games of several ticks with agents, where the first oracle of a scenario has none, or a long one."""
REMEMBER = sorted(name for name, coverage in coverages().items() if "memory" in coverage.adjustment)


class Watching:
    """Brains, and the turns that they were asked for."""

    def __init__(self, brains: Decider) -> None:
        self.turns: list[Turn] = []
        self._brains = brains

    async def decide(self, turns: Sequence[Turn]) -> Sequence[Decision]:
        self.turns += turns
        return await self._brains.decide(turns)


def test_the_scenarios_fill_every_value_of_every_column() -> None:
    assert sum(map(len, columns().values())) == 20
    assert uncovered() == []


def test_the_page_is_what_the_scenarios_say() -> None:
    assert PAGE.read_text() == page(), "python -m steerline.simulation.coverage > docs/simulation_coverage.md"


@pytest.mark.parametrize("name", REMEMBER)
def test_agents_remember_what_they_did_in_earlier_ticks(name: str) -> None:
    spec: SimulationSpec = SHORT.get(name) or scenario_class(name).oracles()[0].spec
    watching: list[Watching] = []

    def watched(brains: Decider) -> Decider:
        watching.append(Watching(brains))
        return watching[0]

    agents = tuple(agent.model_copy(update={"memory": WindowMemory(kind="window")}) for agent in spec.agents)
    run(spec.model_copy(update={"agents": agents}), ticks=3, around=Surroundings(decider=watched))
    later = [turn.observation for turn in watching[0].turns if turn.observation.tick]
    assert later
    assert any("action: " in seen.memory for seen in later)
