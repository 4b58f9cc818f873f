"""What every route about simulations does: find one, say how it stands, refuse what does not fit, wake the hosts."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar, cast

from fastapi import Header, Path

from services.http.access import Principal
from services.http.errors import ApiError, FieldProblem
from services.parts import Parts
from services.simulation.forms import SimulationView, Status
from steerline.errors import ConfigError, Problem
from steerline.serving.paying import charge
from steerline.simulation.store.base import Control, Hosted

T = TypeVar("T")

Sim = Annotated[str, Path(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$", description="The simulation's id.")]
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        description="Sending the same request again under the same key does nothing a second time.",
    ),
]
FINAL = ("ended", "stopped")


class Desk:
    """The simulations of an endpoint.

    Args:
        parts: what the application stands on.
    """

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.store = parts.store

    def find(self, sim: str) -> Hosted:
        """A simulation.

        Raises:
            ApiError: 404; there is none of that id.
        """
        hosted = self.store.hosted(sim)
        if hosted is None:
            raise ApiError(404, "simulation_not_found", f"there is no simulation {sim}", param="sim")
        return hosted

    def view(self, sim: str) -> SimulationView:
        """How a simulation stands.

        Raises:
            ApiError: 404; there is none of that id.
        """
        return view_of(self.find(sim))

    def play(self, sim: str, caller: Principal, until: int | None = None) -> None:
        """Have the hosts play a simulation, up to so many ticks; whoever asked last pays for it."""
        charge(self.store, sim, caller.payer)
        self.store.want(sim, until)

    def stop(self, sim: str) -> None:
        """Have the hosts end a simulation for good; asked a second time, nothing more happens."""
        self.store.post(sim, Control("stop", "stop", {}))
        self.store.want(sim)

    async def act(self, sim: str, action: Callable[[Hosted], T], *, wake: bool = True) -> T:
        """Do something about a simulation, and have the hosts look at it.

        Raises:
            ApiError: 404; there is none of that id; or what the action raises.
        """
        done = await asyncio.to_thread(lambda: action(self.find(sim)))
        if wake:
            await self.parts.hosts.wake(sim)
        return done

    async def command(
        self, sim: str, allowed: Sequence[Status], verb: str, action: Callable[[Hosted], None]
    ) -> SimulationView:
        """Do something to a simulation, if it stands in one of some ways; how it stands then.

        Raises:
            ApiError: 404; there is none of that id. 409; it stands otherwise.
        """

        def act(hosted: Hosted) -> SimulationView:
            demand(hosted, allowed, verb)
            action(hosted)
            return self.view(sim)

        return await self.act(sim, act)


def view_of(hosted: Hosted) -> SimulationView:
    """How a simulation stands."""
    record = hosted.record
    status = status_of(hosted)
    return SimulationView(
        id=record.sim,
        name=record.spec["name"],
        scenario=record.spec["scenario"],
        status=status,
        # While it runs, the store remembers why it paused last.
        reason="" if status == "running" else record.reason,
        tick=hosted.ticks,
        max_ticks=record.spec["max_ticks"],
        seed=record.spec["seed"],
        events=record.seq,
        hash=record.hash,
        created=hosted.created,
    )


def status_of(hosted: Hosted) -> Status:
    """How a simulation stands, for people: what was asked for and has not been begun is `queued`."""
    return shown_status(hosted.record.status, hosted.due)


def shown_status(stored: str, due: float | None) -> Status:
    """`status_of`, from what the store has: how it stands, and since when it is to be played."""
    status = cast(Status, stored)
    return "queued" if due is not None and status in ("created", "paused", "failed") else status


def demand(hosted: Hosted, allowed: Sequence[Status], verb: str) -> None:
    """See that something can be done to a simulation as it stands.

    Raises:
        ApiError: 409; it cannot.
    """
    status = status_of(hosted)
    if status not in allowed:
        why = f" ({hosted.record.reason})" if hosted.record.reason else ""
        raise ApiError(
            409,
            "simulation_state",
            f"a simulation that is {status}{why} cannot be {verb}; expected: {', '.join(allowed)}",
        )


def name_for(principal: Principal, key: str | None, *what: str) -> str:
    """An id that is the same each time a caller uses the same key for the same thing; without a key a new one."""
    if key is None:
        return uuid.uuid4().hex[:16]
    return hashlib.sha256("\0".join([principal.key_id, *what, key]).encode()).hexdigest()[:16]


def refused(error: ConfigError) -> ApiError:
    """The answer to a spec that does not fit, with every problem."""
    problems = error.problems or (Problem(error.what),)
    return ApiError.unfit([FieldProblem(path=one.path or "", message=_told(one)) for one in problems])


def _told(problem: Problem) -> str:
    parts = {"got": problem.got, "expected": problem.expected, "fix": problem.fix}
    return problem.what + "".join(f"; {name}: {value}" for name, value in parts.items() if value is not None)
