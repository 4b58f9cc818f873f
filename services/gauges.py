"""What replicas hold and do, for Prometheus, beside what `metering` counts. Make these inside a replica."""

from __future__ import annotations

from collections.abc import Mapping

from ray.serve import metrics


class Holding:
    """What a replica of the models is at, and which models of the registry it has in memory."""

    def __init__(self) -> None:
        self._rows = metrics.Gauge("steerline_rows", "Requests for text that run or wait on a replica of the models.")
        self._models = metrics.Gauge("steerline_registered_models", "Registered models in memory.")
        self._bytes = metrics.Gauge("steerline_registered_bytes", "Bytes of their weights.")

    def show(self, rows: int, sizes: Mapping[str, int]) -> None:
        """As it is now: requests, and bytes of weights by version."""
        self._rows.set(rows)
        self._models.set(len(sizes))
        self._bytes.set(sum(sizes.values()))


class Hosting:
    """Simulations that a host plays."""

    def __init__(self) -> None:
        self._playing = metrics.Gauge("steerline_simulations_playing", "Simulations that a host plays.")

    def show(self, playing: int) -> None:
        """As it is now."""
        self._playing.set(playing)
