"""The endpoint on Ray Serve: a gateway that speaks HTTP, the models, and the hosts of simulations.

None of them reserves a CPU, so that jobs find room on a small cluster beside them; a Serve config's `deployments` gives
them what a large one has. Serve asks for the class of `build`'s argument at run time, hence no postponed annotations.
Each replica imports what it needs itself: the gateway does without torch.
"""

import logging
import os
from collections.abc import AsyncGenerator
from typing import Any

import ray
from fastapi import FastAPI
from ray import serve
from ray.serve import Application, Deployment
from ray.serve.handle import DeploymentHandle

from services.app import web_app
from services.gauges import Holding, Hosting
from services.inference.port import ModelCard
from services.metering import Metered
from services.parts import Parts
from services.serve_backend import ServedBackend, ServeInference, limits_of
from services.tracing import Traced
from steerline.config.inference import LocalBackendSpec
from steerline.config.serving import ServingSpec
from steerline.home import home
from steerline.inference.request import Delta, GenRequest, GenResult
from steerline.serving.keys import open_keys
from steerline.serving.usage import usage_beside
from steerline.serving.versions import versions_of
from steerline.simulation.store.opening import open_store

log = logging.getLogger("steerline.serving")

_ONGOING = 1000
# Calls that are neither for text nor streams.
_BESIDE = 256
# A tick that is under way may end within the grace. It is short, since the models may be ending as well, and what they
# have answered by then is kept; Serve waits for longer.
_GRACE_S = 5.0
_SHUTDOWN_S = 30.0
# A caller does better to come again than to wait; hosts, who have what a tick has cost, wait for longer.
_BUSY_S = 1.5


class SimulationHosts:
    """The hosts' bell, over the handle of their deployment.

    Args:
        handle: of a deployment with `wake`.
    """

    def __init__(self, handle: DeploymentHandle[Any]) -> None:
        self._handle = handle

    async def wake(self, sim: str) -> None:
        """Have a host look at a simulation now; whether one has heard it does not matter."""
        self._handle.wake.remote(sim)


class Models:
    """Holds the served models. Each replica has those of the spec; one of the registry is on few.

    Args:
        spec: the endpoint's.
    """

    def __init__(self, spec: ServingSpec) -> None:
        from steerline.serving.models import ServedModels

        _take_cores(spec)
        self._models = ServedModels(spec)
        # What Serve remembers of the replica: which registered models it was sent requests for, the last of them. What
        # is in memory is up to `ServedModels`, which lets none go that is being asked, as `multiplexed` would.
        most = 1 if spec.registry is None else spec.registry.most_loaded
        self._taken_on = serve.multiplexed(max_num_models_per_replica=most)(_itself)
        self._gauges = Holding()

    async def generate(self, requests: list[GenRequest]) -> list[GenResult]:
        """One result for each request, in order."""
        await self._take_on()
        return await self._models.generate(requests)

    async def stream(self, request: GenRequest) -> AsyncGenerator[Delta, None]:
        """The pieces of one answer. A caller that goes away stops it."""
        await self._take_on()
        pieces = self._models.stream(request)
        try:
            async for piece in pieces:
                yield piece
        finally:
            await pieces.aclose()

    async def cards(self) -> list[ModelCard]:
        """The models that may be asked."""
        return await self._models.models()

    async def check_health(self) -> None:
        """Serve asks now and then."""
        self._gauges.show(self._models.rows, self._models.registered, self._models.loads)

    async def __del__(self) -> None:
        """Serve calls this at the end."""
        await self._models.close()

    async def _take_on(self) -> None:
        """Has Serve send further requests for the model of this one here."""
        version = serve.get_multiplexed_model_id()
        if version:
            await self._taken_on(version)


class Simulations:
    """Plays simulations of the store, beside the other replicas, which take over from one that dies.

    Args:
        spec: the endpoint's.
        models: handle of `Models`.
    """

    async def __init__(self, spec: ServingSpec, models: DeploymentHandle[Any]) -> None:  # type: ignore[misc]  # Serve's way
        from steerline.serving.paying import Purses
        from steerline.serving.posted import is_registered
        from steerline.serving.recording import MlflowRecording
        from steerline.serving.simulations import HostLimits, SimulationHost

        inference = ServeInference(models, versions_of(spec))
        tracking = spec.tracking
        keys = open_keys(spec.access.keys_file)
        registered = () if spec.registry is None else spec.registry.allow

        def more(name: str) -> ServedBackend | None:
            return ServedBackend(name, inference, limits_of(None)) if is_registered(name, registered) else None

        self._store = open_store(spec.store)
        self._host = SimulationHost(
            self._store,
            {name: ServedBackend(name, inference, limits_of(backend)) for name, backend in spec.models.items()},
            more=more,
            client=spec.client,
            limits=HostLimits(together=spec.limits.simulations, lease_s=spec.limits.lease_s),
            recording=None if tracking is None else MlflowRecording(tracking, home() / "spool", spec.models),
            purses=Purses(keys, usage_beside(keys.file)) if spec.access.required else None,
            grace_s=_GRACE_S,
        )
        self._gauges = Hosting()
        await self._host.__aenter__()

    async def wake(self, sim: str) -> None:
        """Look into the store, where simulation `sim` may be played."""
        log.debug("woken for %s", sim)
        self._host.wake()

    async def check_health(self) -> None:
        """Serve asks now and then, and replaces a replica that raises."""
        self._gauges.show(len(self._host.playing))
        self._host.check()

    async def __del__(self) -> None:
        """Serve calls this at the end: ticks end, leases are given back."""
        await self._host.close()
        self._store.close()


class Gateway:
    """Speaks HTTP.

    Args:
        spec: the endpoint's.
        models: handle of `Models`.
        simulations: handle of `Simulations`.
    """

    def __init__(self, spec: ServingSpec, models: DeploymentHandle[Any], simulations: DeploymentHandle[Any]) -> None:
        self._parts = Parts(
            spec=spec,
            inference=Metered(Traced(ServeInference(models, versions_of(spec))), spec.models),
            store=open_store(spec.store, busy_s=_BUSY_S),
            hosts=SimulationHosts(simulations),
            keys=open_keys(spec.access.keys_file),
        )

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Serve calls this once the replica is there."""
        return web_app(self._parts)


def build(args: ServingSpec) -> Application:
    """The endpoint that a spec describes; `import_path` of `deploy/serve/*.yaml`."""
    batches = [spec.max_batch for spec in args.models.values() if isinstance(spec, LocalBackendSpec)]
    # More than the gateway lets in (`limits`), so that it answers 429 itself and in one shape.
    room = max(_ONGOING, args.limits.in_flight + args.limits.streams + _BESIDE)
    # Batches never fill unless a replica is given more than one of them at once.
    models = _deployed(Models, max(room, 4 * max(batches, default=1))).bind(args)
    simulations = _deployed(Simulations, _ONGOING).bind(args, models)
    return _deployed(serve.ingress()(Gateway), room).bind(args, models, simulations)


async def _itself(version: str) -> str:
    return version


def _deployed(replica: type[Any], ongoing: int) -> Deployment:
    deployment: Deployment = serve.deployment(replica).options(
        name=replica.__name__,
        max_ongoing_requests=ongoing,
        ray_actor_options={"num_cpus": 0},
        graceful_shutdown_timeout_s=_SHUTDOWN_S,
    )
    return deployment


def _take_cores(spec: ServingSpec) -> None:
    """Local models compute on the cores of the replica: those that it reserves, else all of the machine's."""
    if any(isinstance(backend, LocalBackendSpec) for backend in spec.models.values()) or spec.registry is not None:
        import torch

        # Ray itself gives one thread to an actor that reserves no CPU.
        reserved = ray.get_runtime_context().get_assigned_resources().get("CPU", 0)
        torch.set_num_threads(int(reserved) or os.cpu_count() or 1)
