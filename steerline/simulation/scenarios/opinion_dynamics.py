"""How opinions in [0, 1] move and how they lie: DeGroot averaging, bounded confidence, and measures, over arrays.

Sums are made in a set order (`bincount`, `cumsum`), so that the same opinions move the same way on every machine.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from steerline.simulation.scenarios.epidemic_contacts import (
    Contacts,
    RegularContacts,
    ScaleFreeContacts,
    SmallWorldContacts,
    contacts,
)

Opinions = npt.NDArray[np.float64]
"""[N]"""

NetworkKind = Literal["complete", "ring", "star", "regular", "small_world", "scale_free"]


def network(kind: NetworkKind, degree: int, count: int, key: int) -> Contacts | None:
    """Who listens to whom among `count` people; none where everybody listens to everybody.

    Args:
        kind: shape. The hub of a star is the first.
        degree: people to whom each listens, on average; a star needs none.
        count: people.
        key: what random links are drawn from.
    """
    match kind:
        case "complete":
            return None
        case "star":
            hub = np.zeros(count - 1, np.int32)
            starts = np.concatenate(([0], np.arange(count - 1, 2 * count - 1)))
            return Contacts(starts, np.concatenate((np.arange(1, count, dtype=np.int32), hub)))
        case "ring":
            return contacts(SmallWorldContacts(kind="small_world", degree=degree, rewire=0.0), count, key)
        case "small_world":
            return contacts(SmallWorldContacts(kind="small_world", degree=degree), count, key)
        case "regular":
            return contacts(RegularContacts(kind="regular", degree=degree), count, key)
        case "scale_free":
            return contacts(ScaleFreeContacts(kind="scale_free", links=max(1, degree // 2)), count, key)


def degroot(opinions: Opinions, links: Contacts | None, self_weight: float) -> Opinions:
    """One step of DeGroot (1974): everybody takes the mean of own opinion and of those listened to.

    `x_i <- s x_i + (1 - s) mean_j x_j`; who listens to nobody stays.
    """
    if links is None:
        others = (opinions.sum() - opinions) / (len(opinions) - 1)
        return np.asarray(self_weight * opinions + (1 - self_weight) * others)
    people, sizes = _rows(links)
    sums = np.bincount(people, opinions[links.others], len(opinions))
    means = np.where(sizes > 0, sums / np.maximum(sizes, 1), opinions)
    return self_weight * opinions + (1 - self_weight) * means


def bounded_confidence(opinions: Opinions, links: Contacts | None, confidence: float) -> Opinions:
    """One step of Hegselmann and Krause (2002): the mean of all listened to, oneself among them, who are near enough.

    `x_i <- mean {x_j : |x_j - x_i| <= confidence}`; without links by sorting, in O(N log N).
    """
    if links is None:
        order = np.argsort(opinions, kind="stable")
        ordered = opinions[order]
        low = np.searchsorted(ordered, ordered - confidence, "left")
        high = np.searchsorted(ordered, ordered + confidence, "right")
        sums = np.concatenate(([0.0], np.cumsum(ordered)))
        moved = np.empty_like(opinions)
        moved[order] = (sums[high] - sums[low]) / (high - low)
        return moved
    people, _ = _rows(links)
    heard = opinions[links.others]
    near = np.abs(heard - opinions[people]) <= confidence
    sums = np.bincount(people[near], heard[near], len(opinions))
    counts = np.bincount(people[near], minlength=len(opinions))
    return np.asarray((opinions + sums) / (1 + counts))


def heard_by(person: int, opinions: Opinions, links: Contacts | None) -> Opinions:
    """The opinions of those to whom somebody listens."""
    if links is None:
        return np.delete(opinions, person)
    return opinions[links.others[links.starts[person] : links.starts[person + 1]]]


def influence(links: Contacts | None, count: int) -> Opinions:
    """The weight of everybody's first opinion in DeGroot's consensus [N]: the stationary law of the averaging.

    With links that go both ways and one self-weight for all it is the share of links: `pi_i = d_i / sum d`.
    """
    if links is None:
        return np.full(count, 1 / count)
    sizes = np.diff(links.starts)
    return np.asarray(sizes / sizes.sum())


def camps(opinions: Opinions, gap: float) -> list[tuple[float, int]]:
    """Mean and size of groups of opinions, from low to high; a distance above `gap` parts two groups."""
    ordered = np.sort(opinions)
    parts = np.split(ordered, np.flatnonzero(np.diff(ordered) > gap) + 1)
    return [(float(part.mean()), len(part)) for part in parts]


def polarisation(opinions: Opinions) -> float:
    """Four times the variance of the distances between all pairs (Flache and Maes 2008).

    0 where all agree or all distances are alike, 1 where two halves stand at the ends. From moments, in O(N log N).
    """
    count = len(opinions)
    ordered = np.sort(opinions)
    ranks = 2 * np.arange(1, count + 1) - count - 1
    pairs = count * count
    mean = 2 * float(np.dot(ranks, ordered)) / pairs
    return max(0.0, 4 * (2 * float(opinions.var()) - mean * mean))


def _rows(links: Contacts) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Who listens, link by link [2 E], and to how many [N]."""
    sizes = np.diff(links.starts)
    return np.repeat(np.arange(len(sizes)), sizes), sizes
