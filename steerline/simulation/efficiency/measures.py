"""The measures of one run. Names follow the works that `multi-agent efficiency` is judged by, where these have names.

Notation: per call c, prompt tokens p_c, completion tokens o_c, cached prompt tokens k_c, seconds s_c. A measure that a
run gives no ground for (no calls, no messages, nobody right or wrong) is left out, never 0.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from steerline.config.inference import LocalBackendSpec
from steerline.config.simulation_running import ModelRef
from steerline.simulation.efficiency.overlap import repeated_share, similarity
from steerline.simulation.event import Event
from steerline.simulation.result import Result
from steerline.simulation.store.base import Call

TURNS = ("action.taken", "action.invalid")
_MILLION = 1e6
_PAIR = 2


def efficiency(result: Result, calls: Sequence[Call]) -> dict[str, float]:
    """All measures of a run.

    Args:
        result: the run.
        calls: its journal.

    Returns:
        Always: turns, messages. With turns: message_density (messages a turn), invalid_share (answers that could not be
        read). With texts: redundancy (mean likeness within a round), distinct_share = 1 - redundancy.

        With model calls: calls, prompt_tokens, completion_tokens, cached_tokens, prefix_hit = sum k / sum p,
        model_seconds = sum s, critical_path_s = sum over ticks of max s, parallel_speed = their ratio, cost and
        cost_uncached by the models' prices, flops = 2 * weights * (p - k + o) where all models' weights are known,
        communication_tax (share of prompt word runs that stood in an earlier prompt or answer), coordination_overhead =
        calls - 1, against one agent that answers once.

        With a right answer: correct, alone_correct (share right in the first round), error_amplification = P(run wrong)
        / P(one agent wrong), error_adoption (of the messages of a sender who was wrong to a receiver who was right, the
        share after which the receiver was wrong). With calls too: correct_per_call, last_round_value (what the last
        round added to the share right, per 1000 tokens of it). cost_per_success where there is a cost and success.
    """
    turns = [event for event in result.events if event.kind in TURNS]
    sent = sum(1 for _ in result.of_kind("msg.sent"))
    found: dict[str, float] = {"turns": float(len(turns)), "messages": float(sent)}
    if turns:
        found["message_density"] = sent / len(turns)
        found["invalid_share"] = sum(event.kind == "action.invalid" for event in turns) / len(turns)
    found |= _redundancy(turns) | _of_calls(result, calls) | _of_success(result, turns, calls)
    if found.get("cost") and found.get("correct"):
        found["cost_per_success"] = found["cost"] / found["correct"]
    return found


def tokens(calls: Sequence[Call]) -> int:
    """Prompt and completion tokens of all calls: what a baseline of equal cost may spend."""
    return sum(_used(call, "prompt_tokens") + _used(call, "completion_tokens") for call in calls)


def _of_calls(result: Result, calls: Sequence[Call]) -> dict[str, float]:
    if not calls:
        return {}
    prompt, completion, cached = (
        sum(_used(call, name) for call in calls) for name in ("prompt_tokens", "completion_tokens", "cached_tokens")
    )
    seconds = sum(float(call.result["seconds"]) for call in calls)
    longest: defaultdict[int, float] = defaultdict(float)
    for call in calls:
        longest[call.tick] = max(longest[call.tick], float(call.result["seconds"]))
    path = sum(longest.values())
    said = [text for call in calls for text in (*_prompts(call), str(call.result["text"]))]
    found = {
        "calls": float(len(calls)),
        "prompt_tokens": float(prompt),
        "completion_tokens": float(completion),
        "cached_tokens": float(cached),
        "model_seconds": seconds,
        "critical_path_s": path,
        "coordination_overhead": float(len(calls) - 1),
        "communication_tax": repeated_share(said),
        **_cost(result, calls),
        **_flops(result, calls),
    }
    if prompt:
        found["prefix_hit"] = cached / prompt
    if path > 0:
        found["parallel_speed"] = seconds / path
    return found


def _cost(result: Result, calls: Sequence[Call]) -> dict[str, float]:
    """Cost by the models' prices, and what it is where cached prompt tokens are free."""
    prices = result.spec.models
    if not any(model.prompt_price or model.completion_price for model in prices.values()):
        return {}
    total = saved = 0.0
    for call in calls:
        model = prices[call.request["model"]]
        total += model.prompt_price * _used(call, "prompt_tokens")
        total += model.completion_price * _used(call, "completion_tokens")
        saved += model.prompt_price * _used(call, "cached_tokens")
    return {"cost": total / _MILLION, "cost_uncached": (total - saved) / _MILLION}


def _flops(result: Result, calls: Sequence[Call]) -> dict[str, float]:
    """Multiplications and additions, two for each weight and token; attention over the context is left out."""
    weights = {alias: num_weights(ref) for alias, ref in result.spec.models.items()}
    total = 0.0
    for call in calls:
        count = weights.get(call.request["model"])
        if count is None:
            return {}
        computed = _used(call, "prompt_tokens") - _used(call, "cached_tokens") + _used(call, "completion_tokens")
        total += 2 * count * computed
    return {"flops": total}


def num_weights(ref: ModelRef) -> float | None:
    """Weights that act on a token: as the reference says, or those of a local model; none where nobody knows."""
    if ref.parameters is not None or not isinstance(ref.backend, LocalBackendSpec):
        return ref.parameters
    from steerline.models.facts import model_facts  # here, for scripted runs need no torch

    return model_facts(ref.backend.model).num_parameters


def _redundancy(turns: Sequence[Event]) -> dict[str, float]:
    rounds: defaultdict[tuple[int, int], list[str]] = defaultdict(list)
    for event in turns:
        if event.payload["text"]:
            rounds[event.tick, event.payload["round"]].append(event.payload["text"])
    likeness = [value for texts in rounds.values() if (value := similarity(texts)) is not None]
    return {"redundancy": fmean(likeness), "distinct_share": 1 - fmean(likeness)} if likeness else {}


def _of_success(result: Result, turns: Sequence[Event], calls: Sequence[Call]) -> dict[str, float]:
    """How right the run is, and whether errors spread: the scenario gives `correct` and the `reference`."""
    outcome = result.outcome
    if not isinstance(outcome.get("correct"), bool):
        return {}
    found = {"correct": float(outcome["correct"])}
    if calls:
        found["correct_per_call"] = found["correct"] / len(calls)
    if "reference" not in outcome:
        return found
    right = str(outcome["reference"])
    answers: defaultdict[tuple[int, int], dict[str, bool]] = defaultdict(dict)
    for event in turns:
        answers[event.tick, event.payload["round"]][str(event.agent)] = _is_right(event, right)
    rounds = [answers[place] for place in sorted(answers)]
    if rounds:
        first = fmean(rounds[0].values())
        found["alone_correct"] = first
        # P(run wrong) / P(one agent wrong): below 1 the others mend errors, above 1 they amplify them.
        if first < 1:
            found["error_amplification"] = (1 - found["correct"]) / (1 - first)
    return found | _adoption(result.events, right) | _last_round(answers, calls)


def _is_right(turn: Event, right: str) -> bool:
    return str(turn.payload["payload"]) == right


def _adoption(events: Sequence[Event], right: str) -> dict[str, float]:
    """Edge by edge: who was right, was told something by somebody who was wrong, and answered again."""
    was_right: dict[str, bool] = {}
    is_wrong: dict[str, bool] = {}
    heard: defaultdict[str, int] = defaultdict(int)
    exposed = adopted = 0
    for event in events:
        match event.kind:
            case "msg.sent":
                is_wrong[event.payload["id"]] = was_right.get(event.payload["sender"]) is False
            case "msg.delivered" if is_wrong[event.payload["id"]]:
                for agent in event.payload["recipients"]:
                    heard[agent] += 1
            case "action.taken" | "action.invalid":
                agent, now = str(event.agent), _is_right(event, right)
                told = heard.pop(agent, 0)
                if was_right.get(agent):
                    exposed += told
                    adopted += 0 if now else told
                was_right[agent] = now
    return {"error_adoption": adopted / exposed} if exposed else {}


def _last_round(answers: Mapping[tuple[int, int], Mapping[str, bool]], calls: Sequence[Call]) -> dict[str, float]:
    """What the last round was worth, where the same agents had answered in an earlier tick."""
    if len(answers) < _PAIR:
        return {}
    before, last = sorted(answers)[-_PAIR:]
    spent = tokens([call for call in calls if call.tick == last[0]])
    if not spent or before[0] == last[0] or answers[before].keys() != answers[last].keys():
        return {}
    gained = fmean(answers[last].values()) - fmean(answers[before].values())
    return {"last_round_value": 1000 * gained / spent}


def _used(call: Call, name: str) -> int:
    usage: dict[str, Any] = call.result["usage"]
    return int(usage[name])


def _prompts(call: Call) -> list[str]:
    return [str(message["content"]) for message in call.request["messages"]]
