"""Small jobs of scripted simulations."""

from __future__ import annotations

from typing import Any

from steerline.config.simulate import SimulateSpec
from steerline.config.tracking import TrackingSpec
from steerline.simulation.scenarios import debate, public_goods


def games(**fields: Any) -> SimulateSpec:
    """A public goods game among three."""
    players = [("ann", "conditional"), ("bob", "conditional"), ("eve", "free_rider")]
    game = public_goods.game(players, rounds=3)
    return SimulateSpec(name="games", simulation=game, tracking=TrackingSpec(uri="http://127.0.0.1:1"), **fields)


def debates(**fields: Any) -> SimulateSpec:
    """Three who debate a sum, and hear each other."""
    return SimulateSpec(name="debates", simulation=debate.game(["independent"] * 3, rounds=1), **fields)
