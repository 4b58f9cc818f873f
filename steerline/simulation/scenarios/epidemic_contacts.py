"""Contact networks of large populations, made as arrays: who meets whom, in compressed rows.

A network is a function of its kind, size and key, so that a simulation's state holds the key and not the links.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from steerline.config.base import Spec

Ids = NDArray[np.int32]
"""Numbers of people."""
Places = NDArray[np.intp]
"""The same, as places in arrays."""
Links = NDArray[np.int64]
"""[E, 2]: the two ends of each link."""


class Mixing(Spec):
    """Everybody meets everybody: no network."""

    kind: Literal["mixing"]
    r0: float = Field(default=2.0, ge=0)
    """People whom one ill person infects, among people who have never been ill."""


class RegularContacts(Spec):
    """Everybody meets the same number of people, drawn at random."""

    kind: Literal["regular"]
    degree: int = Field(default=6, ge=2)
    """People whom one meets; a few pairs that are drawn twice count once."""
    chance: float = Field(default=0.1, ge=0, le=1)
    """Chance that one day's contact with an ill person infects."""


class SmallWorldContacts(Spec):
    """Watts and Strogatz (1998): neighbours on a circle, and some links moved to anybody."""

    kind: Literal["small_world"]
    degree: int = Field(default=6, ge=2, multiple_of=2)
    """People whom one meets before links are moved."""
    rewire: float = Field(default=0.1, ge=0, le=1)
    """Share of links that are moved."""
    chance: float = Field(default=0.1, ge=0, le=1)
    """Chance that one day's contact with an ill person infects."""


class ScaleFreeContacts(Spec):
    """Barabasi and Albert (1999): people come one by one and meet those that many others meet."""

    kind: Literal["scale_free"]
    links: int = Field(default=3, ge=1)
    """Links that everybody brings."""
    chance: float = Field(default=0.1, ge=0, le=1)
    """Chance that one day's contact with an ill person infects."""


NetworkSpec = RegularContacts | SmallWorldContacts | ScaleFreeContacts
ContactSpec = Annotated[Mixing | NetworkSpec, Field(discriminator="kind")]


@dataclass(frozen=True, eq=False)
class Contacts:
    """A network in compressed rows: the neighbours of `i` are `others[starts[i] : starts[i + 1]]`."""

    starts: NDArray[np.int64]
    """[N + 1]"""
    others: Ids
    """[2 E]; each link stands in both rows."""

    def drawn(self, people: Places, chance: float, draws: np.random.Generator) -> Ids:
        """A share of the neighbours of all these people: each link from one of them is drawn with this chance.

        How many are drawn, and then which, are two draws instead of one for every link.
        """
        starts = self.starts[people]
        sizes = self.starts[people + 1] - starts
        ends = np.cumsum(sizes)
        total = int(ends[-1]) if len(ends) else 0
        picked = draws.choice(total, draws.binomial(total, chance), replace=False, shuffle=False)
        # The n-th link of all is the (n - links of those before) one in its person's row.
        others: Ids = self.others[picked + np.repeat(starts - (ends - sizes), sizes)[picked]]
        return others


# A simulation asks for its network at every tick; some may be under way at once.
@lru_cache(maxsize=8)
def contacts(spec: NetworkSpec, count: int, key: int) -> Contacts:
    """The network of `count` people under a key."""
    generator = np.random.Generator(np.random.Philox(key=key))
    match spec:
        case RegularContacts(degree=degree):
            links = _regular(count, degree, generator)
        case SmallWorldContacts(degree=degree, rewire=rewire):
            links = _small_world(count, degree, rewire, generator)
        case ScaleFreeContacts(links=brought):
            links = _scale_free(count, brought, generator)
    return _rows(links, count)


def _regular(count: int, degree: int, generator: np.random.Generator) -> Links:
    """The configuration model: everybody holds `degree` ends of links, and ends are joined at random."""
    ends = generator.permutation(np.repeat(np.arange(count), degree))
    return ends[: len(ends) // 2 * 2].reshape(-1, 2)


def _small_world(count: int, degree: int, rewire: float, generator: np.random.Generator) -> Links:
    people = np.tile(np.arange(count), degree // 2)
    others = (people + np.repeat(np.arange(1, degree // 2 + 1), count)) % count
    moved = generator.random(len(others)) < rewire
    others[moved] = generator.integers(0, count, int(moved.sum()))
    return np.column_stack((people, others))


def _scale_free(count: int, brought: int, generator: np.random.Generator) -> Links:
    """Batagelj and Brandes (2005): a link copies one end, drawn among all ends of the links before it.

    Ends stand in one row: even places hold the person who comes, odd places refer to an earlier place. References are
    followed for all at once, each round twice as far.
    """
    total = count * brought
    places = np.arange(2 * total)
    places[1::2] = (generator.random(total) * (2 * np.arange(total) + 1)).astype(np.int64)
    while np.any(places % 2):
        places = places[places]
    return (places // 2 // brought).reshape(-1, 2)


def _rows(links: Links, count: int) -> Contacts:
    """Compressed rows of links, without those to oneself and those that stand twice."""
    low, high = links.min(axis=1), links.max(axis=1)
    once = np.unique((low * count + high)[low != high])
    low, high = once // count, once % count
    people, others = np.concatenate((low, high)), np.concatenate((high, low))
    starts = np.concatenate(([0], np.cumsum(np.bincount(people, minlength=count))))
    return Contacts(starts, others[np.argsort(people, kind="stable")].astype(np.int32))
