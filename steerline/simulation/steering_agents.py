"""An agent whose model is steered, or drawn from, otherwise while its simulation runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from steerline.config.inference import SamplingSpec
from steerline.config.simulation_agents import AgentSpec, LlmBrain, model_part
from steerline.config.simulation_running import ModelRef
from steerline.config.steering import BoostSpec, SteeringSpec
from steerline.errors import SimulationError


def llm_of(agent: AgentSpec) -> LlmBrain | None:
    """The part of an agent's brain that asks a model; none where it has none."""
    return model_part(agent.brain)


def steering_of(agent: AgentSpec, models: Mapping[str, ModelRef]) -> SteeringSpec | None:
    """What acts in an agent's model: its own steering, or its model's."""
    llm = llm_of(agent)
    return None if llm is None else llm.steering or models[llm.model].steering


def steered(agent: AgentSpec, payload: Mapping[str, Any], models: Mapping[str, ModelRef]) -> AgentSpec:
    """An agent with another steering.

    Args:
        agent: as it is.
        payload: `strength`, which moves the boost, or the residual scales where there is no boost; or `steering`,
            which takes the place of all there is, none being the plain model.
        models: by alias.

    Raises:
        SimulationError: the agent asks no model, or the new steering is none.
    """
    llm = llm_of(agent)
    if llm is None:
        raise SimulationError(f"{agent.id} asks no model, so that nothing can be steered", got=agent.brain.kind)
    try:
        if "strength" in payload:
            steering = _of_strength(steering_of(agent, models) or SteeringSpec(), payload["strength"])
        else:
            steering = SteeringSpec.model_validate(payload["steering"] or {})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise SimulationError(f"this is no steering: {where} {first['msg']}".strip(), got=first["input"]) from error
    return _with_llm(agent, llm.model_copy(update={"steering": steering}))


def sampled(agent: AgentSpec, changes: Mapping[str, Any]) -> AgentSpec:
    """An agent whose answers are drawn otherwise; one that asks no model is as it was.

    Args:
        agent: as it is.
        changes: fields of its model's `sampling`.

    Raises:
        SimulationError: the new sampling is none.
    """
    llm = llm_of(agent)
    if llm is None:
        return agent
    try:
        sampling = SamplingSpec.model_validate({**llm.sampling.model_dump(), **changes})
    except ValidationError as error:
        raise SimulationError("this is no sampling", got=dict(changes)) from error
    return _with_llm(agent, llm.model_copy(update={"sampling": sampling}))


def _with_llm(agent: AgentSpec, llm: LlmBrain) -> AgentSpec:
    is_whole = isinstance(agent.brain, LlmBrain)
    return agent.model_copy(update={"brain": llm if is_whole else agent.brain.model_copy(update={"llm": llm})})


def _of_strength(steering: SteeringSpec, strength: Any) -> SteeringSpec:
    fields = steering.model_dump()
    if steering.boost is None and steering.residual_scale is not None:
        fields["residual_scale"]["strength"] = strength
    else:
        fields["boost"] = {**(fields["boost"] or BoostSpec().model_dump()), "strength": strength}
    return SteeringSpec.model_validate(fields)
