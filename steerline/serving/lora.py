"""Weights of the registry: of a whole model, or of a LoRA adapter over a served one.

An adapter is merged into a copy of its base: rows of one batch may then differ in steering as those of any model do,
and it takes the memory of a whole model.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from steerline.config.inference import LocalBackendSpec
from steerline.config.model import LocalModel, ModelSpec
from steerline.errors import ModelError
from steerline.serving.registry import Weights
from steerline.tracking.registry import Registered

if TYPE_CHECKING:
    from steerline.inference.backends.local import LocalBackend

_ADAPTER = "adapter_config.json"
_ADAPTER_WEIGHTS = "adapter_model.safetensors"


@contextmanager
def weights_of(
    version: Registered,
    served: Mapping[str, LocalBackendSpec],
    precision: str,
    fetch: Callable[[Registered], AbstractContextManager[Path]],
) -> Iterator[Weights]:
    """The weights of a registered version, not yet in memory. Their files stay inside the `with` block.

    Args:
        version: from the registry.
        served: local models of the endpoint, by name: the bases that adapters may have.
        precision: of a whole model's weights in memory; an adapter has its base's.
        fetch: has a version's files from the tracking server stay on this machine, where they are not anyway.

    Raises:
        ModelError: they are nowhere, were altered, cannot be read safely, or have another base.
        TrackingError: the server is away.
    """
    from steerline.models.export import MANIFEST, check_manifest

    shared = Path(version.weights)
    with nullcontext(shared) if shared.is_dir() else fetch(version) as folder:
        if folder is not shared and not any(folder.glob("*.safetensors")):
            raise ModelError(
                "the weights of a registered model are neither on this machine nor in MLflow",
                where=version.uri,
                got=version.weights,
                fix="share the runs' storage with the endpoint's machines, or train with tracking.upload_weights: true",
            )
        if (folder / MANIFEST).is_file():
            check_manifest(folder)
        yield _weights_in(folder, version, served, precision)


def _weights_in(folder: Path, version: Registered, served: Mapping[str, LocalBackendSpec], precision: str) -> Weights:
    from steerline.inference.backends.local import LocalBackend
    from steerline.models.sources import local_folder

    if (folder / _ADAPTER).is_file() and not (folder / "config.json").is_file():
        base = _base_of(folder, version, served)
        # A base that has no files, a random one, does not say before it is made.
        files = local_folder(base.model)
        return Weights(0 if files is None else _size(files, base.dtype), partial(_adapted, folder, version, base))
    source = LocalModel(kind="local", path=str(folder))
    spec = LocalBackendSpec.model_validate({"model": {"source": source}, "dtype": precision})
    return Weights(_size(folder, precision), partial(LocalBackend.open, spec))


def _adapted(folder: Path, version: Registered, base: LocalBackendSpec) -> LocalBackend:
    from peft import PeftModel

    from steerline.inference.backends.local import LocalBackend
    from steerline.models.load import LoadedModel
    from steerline.models.lora import merge_lora

    loaded = LocalBackend.load(base)
    try:
        adapted = PeftModel.from_pretrained(loaded.model, str(folder), autocast_adapter_dtype=False)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelError("an adapter does not fit its base", where=version.uri, got=str(error)[:300]) from error
    return LocalBackend(LoadedModel(merge_lora(adapted).eval(), loaded.tokenizer), base)


def _size(folder: Path, precision: str) -> int:
    """Bytes that the weights in a folder take in memory. Their files may have another precision."""
    import torch
    from safetensors import SafetensorError, safe_open

    numbers = 0
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, "pt") as tensors:
                numbers += sum(prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
        except SafetensorError as error:
            raise ModelError("a file of weights is damaged", where=str(file), got=error) from error
    return numbers * int(getattr(torch, precision).itemsize)


def _base_of(folder: Path, version: Registered, served: Mapping[str, LocalBackendSpec]) -> LocalBackendSpec:
    if not (folder / _ADAPTER_WEIGHTS).is_file():
        raise ModelError(
            "an adapter's weights are read from safetensors alone", where=version.uri, expected=_ADAPTER_WEIGHTS
        )
    return _base(json.loads((folder / _ADAPTER).read_text())["base_model_name_or_path"], version, served)


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
