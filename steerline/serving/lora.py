"""Weights of the registry, ready to answer: a whole model, or a LoRA adapter over a served one.

An adapter is merged into a copy of its base: rows of one batch may then differ in steering as those of any model do,
and it takes the memory of a whole model.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from steerline.config.inference import LocalBackendSpec
from steerline.config.model import LocalModel, ModelSpec
from steerline.errors import ModelError
from steerline.tracking.registry import Registered

if TYPE_CHECKING:
    from steerline.inference.backends.local import LocalBackend

_ADAPTER = "adapter_config.json"
_ADAPTER_WEIGHTS = "adapter_model.safetensors"


def load_registered(
    version: Registered,
    served: Mapping[str, LocalBackendSpec],
    precision: str,
    fetch: Callable[[Registered], Path],
) -> LocalBackend:
    """A registered version as a backend.

    Args:
        version: from the registry.
        served: local models of the endpoint, by name: the bases that adapters may have.
        precision: of a whole model's weights in memory; an adapter has its base's.
        fetch: gets a version's files from the tracking server, where they are not on this machine.

    Raises:
        ModelError: its weights are nowhere, were altered, cannot be read safely, or have another base.
        TrackingError: the server is away.
        InferenceError: the model cannot write text here.
    """
    from steerline.inference.backends.local import LocalBackend
    from steerline.models.export import MANIFEST, check_manifest

    folder = Path(version.weights)
    if not folder.is_dir():
        folder = fetch(version)
        if not any(folder.glob("*.safetensors")):
            raise ModelError(
                "the weights of a registered model are neither on this machine nor in MLflow",
                where=version.uri,
                got=version.weights,
                fix="share the runs' storage with the endpoint's machines, or train with tracking.upload_weights: true",
            )
    if (folder / MANIFEST).is_file():
        check_manifest(folder)
    if (folder / _ADAPTER).is_file() and not (folder / "config.json").is_file():
        return _adapted(folder, version, served)
    source = LocalModel(kind="local", path=str(folder))
    return LocalBackend.open(LocalBackendSpec.model_validate({"model": {"source": source}, "dtype": precision}))


def _adapted(folder: Path, version: Registered, served: Mapping[str, LocalBackendSpec]) -> LocalBackend:
    from peft import PeftModel

    from steerline.inference.backends.local import LocalBackend
    from steerline.models.load import LoadedModel
    from steerline.models.lora import merge_lora

    if not (folder / _ADAPTER_WEIGHTS).is_file():
        raise ModelError(
            "an adapter's weights are read from safetensors alone", where=version.uri, expected=_ADAPTER_WEIGHTS
        )
    base = _base(json.loads((folder / _ADAPTER).read_text())["base_model_name_or_path"], version, served)
    loaded = LocalBackend.load(base)
    try:
        adapted = PeftModel.from_pretrained(loaded.model, str(folder), autocast_adapter_dtype=False)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelError("an adapter does not fit its base", where=version.uri, got=str(error)[:300]) from error
    return LocalBackend(LoadedModel(merge_lora(adapted).eval(), loaded.tokenizer), base)


def _base(name: str, version: Registered, served: Mapping[str, LocalBackendSpec]) -> LocalBackendSpec:
    """The served model that an adapter was trained on. What the adapter names is compared and never opened."""
    from steerline.models.sources import describe

    for spec in served.values():
        if name in (describe(spec.model.source), _hub_id(spec.model)):
            return spec
    known = ", ".join(describe(spec.model.source) for spec in served.values())
    raise ModelError(
        "the base of a registered adapter is not among the served models",
        where=version.uri,
        got=name,
        expected=known or "a local model under `models`",
        fix="serve its base too",
    )


def _hub_id(spec: ModelSpec) -> str | None:
    """How others than Steerline name a model of the hub."""
    return spec.source.id if spec.source.kind == "hub" else None
