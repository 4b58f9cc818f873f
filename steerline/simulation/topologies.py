"""The topology that a spec names."""

from __future__ import annotations

from steerline.config.simulation_topology import FullTopology, RingTopology, TopologySpec
from steerline.errors import SimulationError
from steerline.simulation.topology import Full, Ring, Topology


def topology_of(spec: TopologySpec) -> Topology:
    """The topology that a spec names.

    Raises:
        SimulationError: there is no such topology.
    """
    match spec:
        case FullTopology():
            return Full()
        case RingTopology(reach=reach):
            return Ring(reach)
    raise SimulationError(f"the topology {spec.kind} is not there yet", where="topology.kind")
