"""What replicas hold and do, for Prometheus, beside what `metering` counts. Make these inside a replica."""

from __future__ import annotations

from collections.abc import Mapping

from ray.serve import metrics

from steerline.inference.load import Load


class Holding:
    """What a replica of the models is at, and which models of the registry it has in memory."""

    def __init__(self) -> None:
        self._rows = metrics.Gauge("steerline_rows", "Requests for text that run or wait on a replica of the models.")
        self._models = metrics.Gauge("steerline_registered_models", "Registered models in memory.")
        self._bytes = metrics.Gauge("steerline_registered_bytes", "Bytes of their weights.")
        self._batch = metrics.Gauge(
            "steerline_batch_rows", "Rows of a model's batch, and those that wait for it.", tag_keys=("model", "state")
        )
        self._pages = metrics.Gauge(
            "steerline_kv_pages", "Pages of a model's keys and values.", tag_keys=("model", "state")
        )
        self._shown: set[str] = set()

    def show(self, rows: int, sizes: Mapping[str, int], loads: Mapping[str, Load]) -> None:
        """As it is now: requests, bytes of weights by version, and the load of each model of this process."""
        self._rows.set(rows)
        self._models.set(len(sizes))
        self._bytes.set(sum(sizes.values()))
        # A series keeps its last value, also of a model that has gone.
        for model in self._shown - loads.keys():
            self._show_load(model, Load(0, 0, 0, 0, 0))
        for model, load in loads.items():
            self._show_load(model, load)
        self._shown = set(loads)

    def _show_load(self, model: str, load: Load) -> None:
        for state, rows in (("running", load.running), ("waiting", load.waiting)):
            self._batch.set(rows, tags={"model": model, "state": state})
        for state, pages in (("used", load.pages_used), ("kept", load.pages_kept), ("free", load.pages_free)):
            self._pages.set(pages, tags={"model": model, "state": state})


class Hosting:
    """Simulations that a host plays."""

    def __init__(self) -> None:
        self._playing = metrics.Gauge("steerline_simulations_playing", "Simulations that a host plays.")

    def show(self, playing: int) -> None:
        """As it is now."""
        self._playing.set(playing)
