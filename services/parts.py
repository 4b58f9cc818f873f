"""What the HTTP layer stands on."""

from __future__ import annotations

from dataclasses import dataclass

from services.inference.port import Inference
from services.simulation.port import Hosts
from steerline.config.serving import ServingSpec
from steerline.serving.keys import KeyBook
from steerline.simulation.store.base import Store


@dataclass(frozen=True)
class Parts:
    """What the application stands on."""

    spec: ServingSpec
    inference: Inference
    store: Store
    hosts: Hosts
    keys: KeyBook
