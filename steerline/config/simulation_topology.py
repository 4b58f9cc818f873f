"""Who can hear whom, and what stands between a message and its delivery."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from steerline.config.base import Spec, misfit
from steerline.config.simulation_agents import AgentId


def _is_pattern(text: str) -> str:
    try:
        re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise misfit(f"this is no regular expression: {error}") from error
    return text


# Reading one takes time that grows faster than its length.
Pattern = Annotated[str, Field(max_length=1000), AfterValidator(_is_pattern)]
"""A regular expression."""


class FullTopology(Spec):
    """Everybody hears everybody (decentralised)."""

    kind: Literal["full"]


class NoTopology(Spec):
    """Nobody hears anybody; agents meet in the scenario alone."""

    kind: Literal["none"]


class RingTopology(Spec):
    """Agents in a circle, in order of their ids."""

    kind: Literal["ring"]
    reach: int = Field(default=1, ge=1)
    """Neighbours on either side."""


class ChainTopology(Spec):
    """Each agent is heard by the next one only."""

    kind: Literal["chain"]
    order: tuple[AgentId, ...] | None = None
    """The agents from first to last; none takes the order of their ids."""


class StarTopology(Spec):
    """A hub that hears all and is heard by all (centralised)."""

    kind: Literal["star"]
    hub: AgentId
    """The agent in the middle."""


class LayeredTopology(Spec):
    """Levels of roles: talk within a level and to the adjacent ones."""

    kind: Literal["layered"]
    levels: tuple[tuple[AgentId, ...], ...] = Field(min_length=1)
    """Agents by level, from top to bottom."""
    within: bool = True
    """Talk inside a level."""
    upward: bool = True
    """A level is heard by the one above it too."""


class TreeTopology(Spec):
    """A tree filled in order of ids; talk between parent and child."""

    kind: Literal["tree"]
    branching: int = Field(default=2, ge=1)
    """Children of an agent."""


class PoolTopology(Spec):
    """A shared message pool: messages go out under a topic and reach its subscribers."""

    kind: Literal["pool"]
    subscriptions: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Topics by agent id or role; `*` is every topic. An agent that is not named hears every topic."""


class SmallWorldTopology(Spec):
    """Watts and Strogatz: a ring with some links rewired at random."""

    kind: Literal["small_world"]
    neighbours: int = Field(default=4, ge=2)
    """Links of an agent before rewiring; an even number."""
    rewire: float = Field(default=0.1, ge=0, le=1)
    """Share of links that are rewired."""


class ScaleFreeTopology(Spec):
    """Barabasi and Albert: agents join one by one and link to those that have many links."""

    kind: Literal["scale_free"]
    links: int = Field(default=2, ge=1)
    """Links that an agent brings."""


class RandomRegularTopology(Spec):
    """Every agent has the same number of links, drawn at random."""

    kind: Literal["random_regular"]
    degree: int = Field(default=4, ge=1)
    """Links of an agent."""


class RewiringTopology(Spec):
    """A ring-shaped start whose links move over time."""

    kind: Literal["rewiring"]
    degree: int = Field(default=4, ge=1)
    """Links that each agent sends out."""
    every: int = Field(default=1, ge=1)
    """Ticks between changes."""
    share: float = Field(default=0.1, ge=0, le=1)
    """Share of links that move at a change."""


class PrunedTopology(Spec):
    """DyLAN-like: after each round the agents least agreed with fall silent; consensus ends the run early."""

    kind: Literal["pruned"]
    keep: int = Field(default=2, ge=1)
    """Agents that are never pruned below."""
    every: int = Field(default=1, ge=1)
    """Ticks between prunings."""
    consensus: float = Field(default=1.0, gt=0, le=1)
    """Share of equal actions at which the run ends."""


Matrix = tuple[tuple[Literal[0, 1], ...], ...]
"""Row u, column v: 1 where u is heard by v."""


class MasksTopology(Spec):
    """Links by round, written out; `steerline.simulation.masks` reads them from a folder of three JSON files.

    Use it with `engine: sequential`: in a round, agents act in an order in which nobody waits for a later one.
    """

    kind: Literal["masks"]
    nodes: tuple[AgentId, ...] = Field(min_length=1)
    """The agents, in order of rows and columns."""
    spatial: tuple[Matrix, ...] = Field(min_length=1)
    """[T][N][N], who is heard by whom in the same round; no circles."""
    temporal: tuple[Matrix, ...] = Field(min_length=1)
    """[T][N][N], who of the round before is heard by whom in this one; the first is never used."""
    active: tuple[tuple[Literal[0, 1], ...], ...] = Field(min_length=1)
    """[T][N], who acts in a round."""

    @model_validator(mode="after")
    def _nodes_are_unique(self) -> MasksTopology:
        twice = [name for place, name in enumerate(self.nodes) if name in self.nodes[:place]]
        if twice:
            raise misfit(f"{twice[0]} is named twice", "nodes", expected="each agent once")
        return self

    @model_validator(mode="after")
    def _sizes_agree(self) -> MasksTopology:
        rounds, size = len(self.spatial), len(self.nodes)
        if len(self.temporal) != rounds or len(self.active) != rounds:
            raise misfit("the masks are of different lengths", "temporal", "active", expected=f"{rounds} rounds each")
        rows = [row for matrix in (*self.spatial, *self.temporal) for row in (matrix, *matrix)]
        if any(len(row) != size for row in (*rows, *self.active)):
            raise misfit("a mask is not of the size of the nodes", "nodes", expected=f"{size} by {size}")
        return self


class CustomTopology(Spec):
    """A topology of your own."""

    kind: Literal["custom"]
    name: str
    """Entry point of the group `steerline.topologies`, or `module:Class`."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the class."""


TopologySpec = Annotated[
    FullTopology
    | NoTopology
    | RingTopology
    | ChainTopology
    | StarTopology
    | LayeredTopology
    | TreeTopology
    | PoolTopology
    | SmallWorldTopology
    | ScaleFreeTopology
    | RandomRegularTopology
    | RewiringTopology
    | PrunedTopology
    | MasksTopology
    | CustomTopology,
    Field(discriminator="kind"),
]


class MessageMatch(Spec):
    """Which messages an interceptor looks at. What is not given matches everything."""

    senders: tuple[AgentId, ...] | None = None
    """From these agents."""
    recipients: tuple[AgentId, ...] | None = None
    """To these agents."""
    ticks: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    """Sent in these ticks."""
    pattern: Pattern | None = None
    """Regular expression that the text contains."""


class DropInterceptor(Spec):
    """Messages that never arrive."""

    kind: Literal["drop"]
    match: MessageMatch = MessageMatch()
    """Which messages."""
    probability: float = Field(default=1.0, ge=0, le=1)
    """Chance of each delivery to be dropped."""


class EditInterceptor(Spec):
    """Text that is replaced on its way."""

    kind: Literal["edit"]
    match: MessageMatch = MessageMatch()
    """Which messages."""
    pattern: Pattern
    """Regular expression to replace."""
    replacement: str
    """What takes its place."""

    @model_validator(mode="after")
    def _replaces(self) -> EditInterceptor:
        try:
            re.sub(f"{self.pattern}|", self.replacement, "")
        except (re.error, IndexError) as error:
            raise misfit(f"the pattern has no such group: {error}", "replacement", "pattern") from error
        return self


class DelayInterceptor(Spec):
    """Messages that arrive later."""

    kind: Literal["delay"]
    match: MessageMatch = MessageMatch()
    """Which messages."""
    ticks: int = Field(ge=1)
    """Ticks added."""


class RateLimitInterceptor(Spec):
    """Agents that may send only so much."""

    kind: Literal["rate_limit"]
    match: MessageMatch = MessageMatch()
    """Which messages."""
    per_tick: int = Field(ge=0)
    """Messages of a sender that pass in one tick."""


class ModerateInterceptor(Spec):
    """Forbidden words: the message is blocked, and an agent that offends too often is muted."""

    kind: Literal["moderate"]
    match: MessageMatch = MessageMatch()
    """Which messages."""
    forbidden: tuple[str, ...] = Field(min_length=1)
    """Words, whole and whatever their case."""
    mute_after: int | None = Field(default=None, ge=1)
    """Blocked messages after which the sender is muted; none never mutes."""


class FaultInterceptor(Spec):
    """Errors put in on purpose: a digit of the text is changed, to see how far an error travels."""

    kind: Literal["fault"]
    match: MessageMatch = MessageMatch()
    """Which messages."""
    probability: float = Field(default=1.0, ge=0, le=1)
    """Chance of each delivery to be falsified."""


InterceptorSpec = Annotated[
    DropInterceptor
    | EditInterceptor
    | DelayInterceptor
    | RateLimitInterceptor
    | ModerateInterceptor
    | FaultInterceptor,
    Field(discriminator="kind"),
]
