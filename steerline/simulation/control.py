"""What people can do to a simulation in a store, from any process: pause, stop, inject, steer, interview, answer.

A control takes effect at the next boundary between ticks. Its id makes posting it twice the same as once.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from steerline.config.steering import SteeringSpec
from steerline.errors import SimulationError
from steerline.simulation.humans import HumanRequest, answer, open_questions
from steerline.simulation.store.base import Control, ControlKind, Store


class Controls:
    """A simulation's controls.

    Args:
        store: where it is.
        sim: its name.

    Raises:
        SimulationError: there is none of that name.
    """

    def __init__(self, store: Store, sim: str) -> None:
        if store.find(sim) is None:
            known = ", ".join(record.sim for record in store.list()[:20])
            raise SimulationError(f"the store holds no simulation called {sim}", expected=known or "none yet")
        self._store = store
        self._sim = sim

    def pause(self, reason: str = "somebody paused it", *, id_: str | None = None) -> bool:
        """Stand still before the next tick; running it again goes on."""
        return self._post("pause", {"reason": reason}, id_)

    def stop(self, *, id_: str | None = None) -> bool:
        """End before the next tick, for good."""
        return self._post("stop", {}, id_)

    def message(self, text: str, recipients: Sequence[str] | None = None, *, id_: str | None = None) -> bool:
        """Say something to agents, all of them by default, as their environment."""
        return self._post("message", {"text": text, "recipients": recipients and list(recipients)}, id_)

    def set_state(self, fields: Mapping[str, Any], *, id_: str | None = None) -> bool:
        """Set fields of the scenario's state, to values of the kinds that stand there."""
        return self._post("state", {"fields": dict(fields)}, id_)

    def steer(self, agent: str, strength: float, *, id_: str | None = None) -> bool:
        """Move the strength with which an agent's model is steered: of its boost, or of its residual scales where it
        has no boost."""
        return self._post("steering", {"agents": [agent], "strength": strength}, id_)

    def set_steering(self, agent: str, steering: SteeringSpec | None, *, id_: str | None = None) -> bool:
        """Steer an agent's model otherwise; none is the plain model."""
        plain = None if steering is None else steering.model_dump(mode="json")
        return self._post("steering", {"agents": [agent], "steering": plain}, id_)

    def interview(
        self, question: str, agents: Sequence[str] | None = None, *, remember: bool = False, id_: str | None = None
    ) -> bool:
        """Ask agents something on a copy of what they know; the answers are events `interview.answered`."""
        payload = {"question": question, "agents": agents and list(agents), "remember": remember}
        return self._post("interview", payload, id_)

    def survey(
        self, question: str, options: Sequence[str], sample: int | None = None, *, id_: str | None = None
    ) -> bool:
        """Ask a sample of the agents to choose an answer; the answers are events `interview.answered`."""
        return self._post("survey", {"question": question, "options": list(options), "sample": sample}, id_)

    def questions(self) -> list[HumanRequest]:
        """What people are asked and have not answered."""
        return open_questions(self._store, self._sim)

    def answer(self, request: str, text: str) -> bool:
        """Answer a question; whether this was the first answer, which is the one that counts.

        Raises:
            SimulationError: there is no such question, or it is over.
        """
        asked = [question.id for question in self.questions()]
        if request not in asked and f"answer/{request}" not in {c.id for c in self._store.controls(self._sim)}:
            raise SimulationError(f"there is no open question {request}", expected=", ".join(asked) or "none is open")
        return answer(self._store, self._sim, request, text)

    def _post(self, kind: ControlKind, payload: Mapping[str, Any], id_: str | None) -> bool:
        return self._store.post(self._sim, Control(id_ or uuid.uuid4().hex, kind, payload))
