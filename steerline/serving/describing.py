"""The card of a model that a spec describes, and which weights these are."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

from steerline.config.inference import BackendSpec, LocalBackendSpec, OpenAIBackendSpec
from steerline.config.model import HubModel, LocalModel, ModelSpec, RandomModel
from steerline.config.render import identity_hash
from steerline.serving.card import ModelCard

_SHOWN = 12  # digits of a digest


def card_of(name: str, spec: BackendSpec) -> ModelCard:
    """The card of a model that is served from now on. It tells no path and no address."""
    created = int(time.time())
    if isinstance(spec, LocalBackendSpec):
        from steerline.models.sources import describe

        source = spec.model.source
        about = Path(source.path).name if isinstance(source, LocalModel) else describe(source)
        return ModelCard(name, created, about=about, fingerprint=_fingerprint(spec))
    about = f"{spec.model}, by another server" if isinstance(spec, OpenAIBackendSpec) else "a stub"
    return ModelCard(name, created, about=about)


def _fingerprint(spec: LocalBackendSpec) -> str | None:
    weights = weights_digest(spec.model)
    if weights is None:
        return None
    # The same weights compute something else in another precision.
    return "fp_" + hashlib.sha256(f"{weights} {spec.dtype}".encode()).hexdigest()[:_SHOWN]


def weights_digest(spec: ModelSpec) -> str | None:
    """What identifies a loaded model's weights; none where nothing says it without reading them."""
    from steerline.models.converted import SOURCE_FILE
    from steerline.models.export import MANIFEST
    from steerline.models.sources import local_folder

    if isinstance(spec.source, RandomModel):
        return identity_hash(spec)
    folder = local_folder(spec)
    if folder is None:
        return None
    if (folder / MANIFEST).is_file():
        files = json.loads((folder / MANIFEST).read_text())["files"]
        return " ".join(files[name]["sha256"] for name in sorted(files) if name.endswith(".safetensors"))
    if (folder / SOURCE_FILE).is_file():
        digest: str | None = json.loads((folder / SOURCE_FILE).read_text()).get("sha256")
        return digest
    # The cache of the hub keeps a snapshot under its commit.
    return folder.name if isinstance(spec.source, HubModel) else None
