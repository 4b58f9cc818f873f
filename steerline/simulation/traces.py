"""A run as reasoning traces, for later analysis: one line for each turn of an agent, in the order of the turns.

    sim, tick, round, agent, role
    question    the task of the run where the scenario has one, else what the agent was asked at this turn
    prompt      the whole prompt, where a model was asked
    messages    what it had just read: sender and text
    steps       the text that it answered, by paragraphs
    answer      what the text was read as
    parse, reason
    correct     whether the answer is right; null where the scenario does not say
    steering    what acted inside the model; null for the plain model and for scripted brains
    model, calls, prompt_tokens, completion_tokens

A scenario says what is right by giving `outcome` a `question` and a `reference`, the right answer; or `references`, by
agent.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from steerline.config.simulation_agents import AgentSpec, model_part
from steerline.simulation.canonical import canonical
from steerline.simulation.event import Event
from steerline.simulation.result import Result
from steerline.simulation.store.base import Call, Store

_TAKEN = ("action.taken", "action.invalid")


def traces(result: Result, store: Store) -> Iterator[dict[str, Any]]:
    """The traces of a run."""
    calls: dict[tuple[int, str], list[Call]] = {}
    for call in store.calls(result.sim):
        calls.setdefault((call.tick, call.agent), []).append(call)
    agents = {agent.id: agent for agent in result.spec.agents}
    inbox: dict[str, list[dict[str, str]]] = {}
    sent: dict[str, dict[str, str]] = {}
    for event in result.events:
        match event.kind:
            case "agent.spawned":
                agent = AgentSpec.model_validate(event.payload["agent"])
                agents[agent.id] = agent
            case "control.applied" if event.payload["kind"] == "agents":
                changed = event.payload["payload"]["agents"]
                agents |= {name: AgentSpec.model_validate(agent) for name, agent in changed.items()}
            case "msg.sent":
                text = "\n".join(b["text"] for b in event.payload["blocks"] if b["kind"] == "text")
                sent[event.payload["id"]] = {"from": event.payload["sender"], "text": text}
            case "msg.delivered":
                for recipient in event.payload["recipients"]:
                    inbox.setdefault(recipient, []).append(sent[event.payload["id"]])
            case kind if kind in _TAKEN and event.agent is not None:
                own = calls.get((event.tick, event.agent), [])
                yield _trace(result, event, agents[event.agent], inbox.pop(event.agent, []), own)


def write_traces(result: Result, store: Store, path: Path) -> Path:
    """Write the traces as JSON lines, packed if the name ends in `.gz`."""
    lines = b"".join(canonical(trace) + b"\n" for trace in traces(result, store))
    path.write_bytes(gzip.compress(lines, mtime=0) if path.suffix == ".gz" else lines)
    return path


def _trace(
    result: Result, event: Event, agent: AgentSpec, messages: list[dict[str, str]], calls: list[Call]
) -> dict[str, Any]:
    payload, outcome = event.payload, result.outcome
    call = _call_of(payload, calls)
    prompt = None if call is None else [message["content"] for message in call.request["messages"]]
    llm = model_part(agent.brain)
    model = llm.model if llm is not None and call is not None else None
    usage: Mapping[str, int] = {} if call is None else call.result["usage"]
    return {
        "sim": result.sim,
        "tick": event.tick,
        "round": payload["round"],
        "agent": agent.id,
        "role": agent.profile.role,
        "question": outcome.get("question", prompt[-1] if prompt else None),
        "prompt": prompt,
        "messages": messages,
        "steps": [part.strip() for part in re.split(r"\n\s*\n", payload["text"] or "") if part.strip()],
        "answer": payload["payload"],
        "parse": payload["parse"],
        "reason": payload["reason"],
        "correct": _correct(outcome, agent.id, payload["payload"]),
        "steering": None if call is None else call.request["steering"],
        "model": model,
        "calls": len(calls),
        "prompt_tokens": usage.get("prompt_tokens", 0),
        "completion_tokens": usage.get("completion_tokens", 0),
    }


def _call_of(payload: Mapping[str, Any], calls: list[Call]) -> Call | None:
    """The call whose answer became this action; the last one with its text."""
    text = payload["text"]
    return next((call for call in reversed(calls) if text is not None and call.result["text"] == text), None)


def _correct(outcome: Mapping[str, Any], agent: str, answer: Any) -> bool | None:
    references = outcome.get("references", {})
    if agent in references:
        return bool(references[agent] == answer)
    return bool(outcome["reference"] == answer) if "reference" in outcome else None
