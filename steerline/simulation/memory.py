"""What agents remember: records that are only ever added, and which of them reach a prompt.

Retrieval scores records as Park et al., "Generative Agents" (2023) do: recency + importance + relevance, each weighed.
Relevance is BM25 (Robertson and Zaragoza 2009; k1 = 1.5, b = 0.75) over the agent's own records, so that no model is
needed and equal histories remember equally. Records stand in a prompt in order of time, which keeps its beginning.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from steerline.config.simulation_agents import (
    BeliefMemory,
    MemorySpec,
    RetrievalMemory,
    SummaryMemory,
    WindowMemory,
)
from steerline.simulation.text import quoted

RecordKind = Literal["observation", "message", "action", "feedback", "interview", "reflection", "summary"]
IMPORTANCE: dict[RecordKind, float] = {
    "observation": 0.3,
    "action": 0.4,
    "message": 0.6,
    "feedback": 0.8,
    "interview": 0.8,
    "reflection": 1.0,
    "summary": 1.0,
}
"""How much a record of each kind matters, from 0 to 1."""

_K1, _B = 1.5, 0.75
_WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Record:
    """One thing that an agent remembers."""

    tick: int
    kind: RecordKind
    text: str
    about: str = ""
    """Who said it, where it was said."""

    def shown(self) -> str:
        """The record in words; what others said is marked as theirs."""
        if self.kind == "message":
            return f"[tick {self.tick}] {self.about} said:\n{quoted(self.text)}"
        return f"[tick {self.tick}] {self.kind}: {self.text}"


def recall(spec: MemorySpec, records: Sequence[Record], query: str, tick: int) -> str:
    """What of the records reaches the prompt.

    Args:
        spec: the policy.
        records: all records of the agent, oldest first.
        query: what the agent sees now.
        tick: now.
    """
    match spec:
        case WindowMemory():
            return _packed(records[-spec.size :], spec.max_tokens)
        case RetrievalMemory():
            return _packed(_retrieved(spec, records, query, tick), spec.max_tokens)
        case SummaryMemory():
            summary, since = since_summary(records)
            return "\n".join(part for part in (summary, _packed(since, spec.max_tokens)) if part)
        case BeliefMemory():
            return _cut("\n".join(_beliefs(records)), spec.max_tokens)
    return ""


def since_summary(records: Sequence[Record]) -> tuple[str, Sequence[Record]]:
    """The newest summary, and the records since."""
    for place in range(len(records) - 1, -1, -1):
        if records[place].kind == "summary":
            return records[place].text, records[place + 1 :]
    return "", records


def extract(records: Sequence[Record], max_tokens: int) -> str:
    """A summary without a model: the first line of each record, the newest that fit."""
    summary, since = since_summary(records)
    briefly = (replace(record, text=record.text.strip().splitlines()[0]) for record in since if record.text.strip())
    lines = [*summary.splitlines(), *(line for record in briefly for line in record.shown().splitlines())]
    kept: list[str] = []
    for line in reversed(lines):
        max_tokens -= num_words(line)
        if max_tokens < 0:
            break
        kept.append(line)
    return "\n".join(reversed(kept))


def num_words(text: str) -> int:
    """Words and signs of a text."""
    return len(_WORD.findall(text))


def relevance(texts: Sequence[str], query: str) -> list[float]:
    """BM25 of each text for a query, scaled to 0..1 by the best; zeros where nothing matches."""
    documents = [Counter(_terms(text)) for text in texts]
    lengths = [sum(document.values()) for document in documents]
    mean = sum(lengths) / len(lengths) if lengths else 0.0
    scores = [0.0] * len(documents)
    for term in sorted(set(_terms(query))):
        holding = sum(term in document for document in documents)
        rarity = math.log(1 + (len(documents) - holding + 0.5) / (holding + 0.5))
        for place, document in enumerate(documents):
            count = document[term]
            if count:
                scores[place] += rarity * count * (_K1 + 1) / (count + _K1 * (1 - _B + _B * lengths[place] / mean))
    best = max(scores, default=0.0)
    return [score / best for score in scores] if best > 0 else scores


def _retrieved(spec: RetrievalMemory, records: Sequence[Record], query: str, tick: int) -> list[Record]:
    relevant = relevance([record.text for record in records], query)
    scores = [
        spec.recency * spec.decay ** (tick - record.tick)
        + spec.importance * IMPORTANCE[record.kind]
        + spec.relevance * relevant[place]
        for place, record in enumerate(records)
    ]
    # Of equal scores the newer one.
    best = sorted(range(len(records)), key=lambda place: (-scores[place], -place))[: spec.top]
    return [records[place] for place in sorted(best)]


def _beliefs(records: Sequence[Record]) -> Iterator[str]:
    heard: dict[str, list[Record]] = {}
    for record in records:
        if record.kind == "message":
            heard.setdefault(record.about, []).append(record)
    for other in sorted(heard):
        last = heard[other][-1]
        yield f"{other} (heard {len(heard[other])} times, last in tick {last.tick}):\n{quoted(last.text)}"


def _packed(records: Sequence[Record], max_tokens: int) -> str:
    """The newest records that fit, oldest first."""
    kept: list[str] = []
    for record in reversed(records):
        text = record.shown()
        max_tokens -= num_words(text)
        if max_tokens < 0:
            break
        kept.append(text)
    return "\n".join(reversed(kept))


def _cut(text: str, max_tokens: int) -> str:
    words = list(_WORD.finditer(text))
    return text if len(words) <= max_tokens else text[: words[max_tokens].start()].rstrip()


def _terms(text: str) -> list[str]:
    return [word for word in _WORD.findall(text.casefold()) if word[0].isalnum()]
