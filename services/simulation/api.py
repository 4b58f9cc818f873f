"""Simulations over HTTP. What they are played by is elsewhere: here the store is read and controls are posted to it."""

from __future__ import annotations

from fastapi import APIRouter

from services.parts import Parts
from services.simulation import controlling, events, experiments, listing, people, reading, scenarios
from services.simulation.desk import Desk
from steerline.serving.following import Following


def router(parts: Parts) -> APIRouter:
    """Every route about simulations, scenarios and experiments."""
    desk, following = Desk(parts), Following(parts.store)
    found = APIRouter()
    # Paths with a verb before those that a name alone would match.
    for tag, routes in (
        ("simulations", controlling.routes(desk)),
        ("simulations", events.routes(desk, following)),
        ("simulations", reading.routes(desk)),
        ("people", people.routes(desk)),
        ("simulations", listing.routes(desk)),
        ("experiments", experiments.routes(desk)),
        ("scenarios", scenarios.routes()),
    ):
        found.include_router(routes, tags=[tag])
    return found
