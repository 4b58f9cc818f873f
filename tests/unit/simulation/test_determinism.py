"""Equal simulations have equal histories, however they are carried out."""

from __future__ import annotations

import subprocess
import sys

from hypothesis import given, settings
from hypothesis import strategies as st

from steerline.simulation.result import Result
from steerline.simulation.runner import run
from tests.unit.simulation.worlds import Server, llm, spec

MIXED = spec(
    llm(attempts=2),
    llm(),
    {"kind": "hybrid", "llm": llm(), "policy": "conditional", "share": 0.5},
    {"kind": "stub", "policy": "conditional", "wrong": 0.3, "malformed": 0.3, "failing": 0.2},
    "punisher",
    "opportunist",
    agent={"memory": {"kind": "retrieval"}, "evolution": {"every": 2}},
    punishment=True,
    imitation={"every": 2, "share": 0.5, "intensity": 0.1},
    straggler={"policy": "default"},
    engine="simultaneous",
)


def played(**server: int) -> Result:
    return run(MIXED, backends={"m": Server(**server)})


@settings(max_examples=15, deadline=None)
@given(workers=st.sampled_from([1, 8]), max_batch=st.integers(1, 8), shuffle=st.integers(0, 2**16))
def test_neither_workers_nor_batches_nor_the_order_of_answers_change_the_history(
    workers: int, max_batch: int, shuffle: int
) -> None:
    assert played(workers=workers, max_batch=max_batch, shuffle=shuffle).hash == played().hash


def test_the_history_does_not_depend_on_the_order_in_which_agents_are_listed() -> None:
    turned = MIXED.model_copy(update={"agents": MIXED.agents[::-1]})
    events, others = (run(s, backends={"m": Server()}).events[1:] for s in (MIXED, turned))
    assert [(e.kind, e.agent, e.payload) for e in events] == [(e.kind, e.agent, e.payload) for e in others]


def test_simulations_need_neither_torch_nor_ray() -> None:
    code = (
        "import sys; from steerline.simulation.scenarios.public_goods import game; from steerline.simulation.runner"
        " import run; run(game([('a', 'random'), ('b', 'random')]));"
        " print({'torch', 'ray', 'mlflow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
