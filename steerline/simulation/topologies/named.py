"""The topology that a spec names."""

from __future__ import annotations

from steerline.config import simulation_topology as specs
from steerline.errors import SimulationError
from steerline.simulation.names import own_topology
from steerline.simulation.topologies.graphs import RandomRegular, Rewiring, ScaleFree, SmallWorld
from steerline.simulation.topologies.masks import Masks
from steerline.simulation.topologies.pool import Pool
from steerline.simulation.topologies.pruned import Pruned
from steerline.simulation.topologies.shapes import Chain, Layered, Ring, Star, Tree
from steerline.simulation.topology import Full, Topology, Unlinked


def topology_of(spec: specs.TopologySpec) -> Topology:  # noqa: PLR0911, PLR0912 (a table of kinds)
    """The topology that a spec names.

    Raises:
        SimulationError: it cannot be made, or names no topology.
    """
    match spec:
        case specs.FullTopology():
            return Full()
        case specs.NoTopology():
            return Unlinked()
        case specs.RingTopology():
            return Ring(spec.reach)
        case specs.ChainTopology():
            return Chain(spec.order)
        case specs.StarTopology():
            return Star(spec.hub)
        case specs.LayeredTopology():
            return Layered(spec.levels, within=spec.within, upward=spec.upward)
        case specs.TreeTopology():
            return Tree(spec.branching)
        case specs.PoolTopology():
            return Pool(spec.subscriptions)
        case specs.SmallWorldTopology():
            return SmallWorld(spec.neighbours, spec.rewire)
        case specs.ScaleFreeTopology():
            return ScaleFree(spec.links)
        case specs.RandomRegularTopology():
            return RandomRegular(spec.degree)
        case specs.RewiringTopology():
            return Rewiring(spec.degree, spec.every, spec.share)
        case specs.PrunedTopology():
            return Pruned(spec.keep, spec.every, spec.consensus)
        case specs.MasksTopology():
            return Masks(spec)
        case specs.CustomTopology():
            return _own(spec)


def _own(spec: specs.CustomTopology) -> Topology:
    made = own_topology(spec)
    if not isinstance(made, Topology):
        raise SimulationError(f"{spec.name} is no topology", got=type(made).__name__, expected="a Topology")
    return made
