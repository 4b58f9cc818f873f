"""Limits of a run: what was spent, and whether another batch of calls may be sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from steerline.config.simulation_running import BudgetSpec, ModelRef
from steerline.inference.request import GenRequest, GenResult, Usage
from steerline.simulation.interruption import Interruption
from steerline.simulation.store.base import Call

_MILLION = 1e6


class Budget:
    """What a simulation has spent, over all attempts, against its limits.

    Args:
        spec: the limits.
        models: prices, by alias.
        calls: the journal so far.
    """

    def __init__(self, spec: BudgetSpec, models: Mapping[str, ModelRef], calls: Iterable[Call] = ()) -> None:
        self._spec = spec
        self._models = models
        self._tick = -1
        self._calls_of_tick = 0
        self.calls = 0
        self.tokens = 0
        self.cost = 0.0
        for call in calls:
            self._add(str(call.request["model"]), GenResult.from_dict(call.result).usage)

    def check(self, requests: Sequence[GenRequest], tick: int) -> None:
        """Whether all of a batch may be sent, by its own estimate of tokens. Nothing is sent in part.

        Raises:
            Interruption: a limit would be passed.
        """
        spec = self._spec
        if tick != self._tick:
            self._tick, self._calls_of_tick = tick, 0
        wanted = {
            "max_calls": (spec.max_calls, self.calls + len(requests)),
            "max_calls_per_tick": (spec.max_calls_per_tick, self._calls_of_tick + len(requests)),
            "max_tokens": (spec.max_tokens, self.tokens + sum(request.cost for request in requests)),
            "max_cost": (spec.max_cost, self.cost + sum(self._estimate(request) for request in requests)),
        }
        for name, (limit, value) in wanted.items():
            if limit is not None and value > limit:
                raise Interruption("paused", f"budgets.{name} = {limit:g} would be passed: {value:g}")
        self._calls_of_tick += len(requests)

    def spend(self, request: GenRequest, result: GenResult) -> None:
        """Book an answer."""
        self._add(request.model, result.usage)

    def _add(self, model: str, usage: Usage) -> None:
        self.calls += 1
        self.tokens += usage.prompt_tokens + usage.completion_tokens
        self.cost += self._price(model, usage.prompt_tokens, usage.completion_tokens)

    def _estimate(self, request: GenRequest) -> float:
        completion = request.sampling.max_tokens
        return self._price(request.model, request.cost - completion, completion)

    def _price(self, model: str, prompt: int, completion: int) -> float:
        ref = self._models.get(model)
        if ref is None:
            return 0.0
        return (prompt * ref.prompt_price + completion * ref.completion_price) / _MILLION
