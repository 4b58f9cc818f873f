"""Weights of the registry: of a whole model, or of a LoRA adapter over a served one.

An adapter that is plain products beside linear maps acts in the served base itself, row by row, and takes the memory of
its matrices twice: by themselves, and beside those of others while its rows run. Any other is merged into a copy of its
base and takes the memory of a whole model.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from steerline.config.inference import LocalBackendSpec
from steerline.config.model import LocalModel, ModelSpec
from steerline.errors import ModelError
from steerline.inference.request import StreamingBackend
from steerline.serving.registry import Weights
from steerline.tracking.registry import Registered

if TYPE_CHECKING:
    from steerline.inference.backends.local import LocalBackend

_CONFIG = "adapter_config.json"
log = logging.getLogger("steerline.serving")


@contextmanager
def weights_of(
    version: Registered,
    served: Mapping[str, LocalBackendSpec],
    resident: Mapping[str, StreamingBackend],
    precision: str,
    fetch: Callable[[Registered], AbstractContextManager[Path]],
) -> Iterator[Weights]:
    """The weights of a registered version, not yet in memory. Their files stay inside the `with` block.

    Args:
        version: from the registry.
        served: local models of the endpoint, by name: the bases that adapters may have.
        resident: who answers for these, by name.
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
        yield _weights_in(folder, version, served, resident, precision)


def _weights_in(
    folder: Path,
    version: Registered,
    served: Mapping[str, LocalBackendSpec],
    resident: Mapping[str, StreamingBackend],
    precision: str,
) -> Weights:
    from steerline.inference.backends.local import LocalBackend

    if (folder / _CONFIG).is_file() and not (folder / "config.json").is_file():
        name = _base_of(folder, version, served)
        return _adapter(folder, version, served[name], resident.get(name))
    source = LocalModel(kind="local", path=str(folder))
    spec = LocalBackendSpec.model_validate({"model": {"source": source}, "dtype": precision})
    return Weights(_size(folder, precision), partial(LocalBackend.open, spec))


def _adapter(folder: Path, version: Registered, base: LocalBackendSpec, resident: StreamingBackend | None) -> Weights:
    from steerline.inference.backends.adapted import AdaptedBackend
    from steerline.inference.backends.local import LocalBackend
    from steerline.models.adapter import obstacle
    from steerline.models.sources import local_folder

    reason: str | None = "its base is not in this process"
    if isinstance(resident, LocalBackend):
        reason = obstacle(folder, resident.model)
        if reason is None:
            return Weights(2 * _size(folder, base.dtype), partial(AdaptedBackend.open, resident, folder))
    log.info("%s is merged into a copy of its base, since %s", version.uri, reason)
    # A base that has no files, a random one, does not say before it is made.
    files = local_folder(base.model)
    return Weights(0 if files is None else _size(files, base.dtype), partial(_merged, folder, version, base))


def _merged(folder: Path, version: Registered, base: LocalBackendSpec) -> LocalBackend:
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


def _base_of(folder: Path, version: Registered, served: Mapping[str, LocalBackendSpec]) -> str:
    from steerline.models.adapter import WEIGHTS

    if not (folder / WEIGHTS).is_file():
        raise ModelError("an adapter's weights are read from safetensors alone", where=version.uri, expected=WEIGHTS)
    return _base(json.loads((folder / _CONFIG).read_text())["base_model_name_or_path"], version, served)


def _base(name: str, version: Registered, served: Mapping[str, LocalBackendSpec]) -> str:
    """The served model that an adapter was trained on, by name. What the adapter names is compared and never opened."""
    from steerline.models.sources import describe

    for own, spec in served.items():
        if name in (describe(spec.model.source), _hub_id(spec.model)):
            return own
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
