"""What a model's files say about it without loading it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from steerline.config.model import HubModel, LocalModel, LoraSpec, ModelSpec, PackagedModel, RandomModel, RunModel
from steerline.data.packaged import CATALOGUE, cached
from steerline.errors import FetchError, ModelError
from steerline.models.converted import file_folder, packaged_folder
from steerline.models.gguf_header import is_gguf, read_header
from steerline.models.run_export import run_exports

_DEPTH = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
_POSITIONS = ("max_position_embeddings", "n_positions")
# Their position embeddings are a table, so a longer sequence has no rows to look up.
_LEARNED_POSITIONS = ("gpt2", "opt", "bert", "distilbert", "roberta", "gpt_neo")
_UNTOUCHED_BY_LORA = ("embed", "wte", "wpe", "lm_head")


@dataclass(frozen=True)
class ModelFacts:
    """What is known; None where it is not."""

    folder: Path | None = None
    """Folder with the model's files on this machine."""
    config: dict[str, Any] = field(default_factory=dict)
    """Its `config.json`, or the overrides of a random model."""
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Shape of each weight in its safetensors files; empty when there are none here."""
    num_packed: int | None = None
    """Parameters of a GGUF file that has not been converted yet."""

    @classmethod
    def of(cls, spec: ModelSpec) -> ModelFacts:
        """Look at the files that are on this machine. Touches no network."""
        source = spec.source
        if isinstance(source, RandomModel):
            return cls(config={"model_type": source.architecture, **source.overrides})
        if isinstance(source, HubModel):
            folder, file = hub_folder(source.id, source.revision), None
        elif isinstance(source, RunModel):
            exports = run_exports(source)
            return cls._of_folder(exports[0]) if len(exports) == 1 else cls()
        elif isinstance(source, LocalModel):
            folder, file = _local(Path(source.path).expanduser())
        else:
            folder, file = _packaged(source)
        if folder is not None and folder.is_dir():
            return cls._of_folder(folder)
        return cls() if file is None else cls._of_gguf(file)

    @classmethod
    def _of_folder(cls, folder: Path) -> ModelFacts:
        shapes = {name: shape for file in sorted(folder.glob("*.safetensors")) for name, shape in _header(file).items()}
        return cls(folder, _read_config(folder / "config.json"), shapes)

    @classmethod
    def _of_gguf(cls, file: Path) -> ModelFacts:
        try:
            header = read_header(file)
        except ModelError:
            return cls()  # its conversion will say what is wrong with it
        sizes = {"num_hidden_layers": header.num_layers, "max_position_embeddings": header.context}
        return cls(config={"model_type": header.architecture, **sizes}, num_packed=header.num_parameters)

    @property
    def num_layers(self) -> int | None:
        """Transformer blocks."""
        return self._number(_DEPTH)

    @property
    def max_positions(self) -> int | None:
        """Longest sequence that the config speaks of."""
        return self._number(_POSITIONS)

    @property
    def learns_positions(self) -> bool:
        """Whether positions beyond the longest do not exist at all."""
        return self.config.get("model_type") in _LEARNED_POSITIONS

    @property
    def num_parameters(self) -> int | None:
        """All parameters."""
        return sum(math.prod(shape) for shape in self.shapes.values()) or self.num_packed

    def num_trained(self, lora: LoraSpec | None) -> int | None:
        """Parameters that are trained: all, or the adapters' `rank * (inputs + outputs)`."""
        if lora is None:
            return self.num_parameters
        if not self.shapes:
            return None
        matrices = {name.removesuffix(".weight"): shape for name, shape in self.shapes.items() if len(shape) == 2}
        if lora.target_modules == "all-linear":
            chosen = [shape for name, shape in matrices.items() if not any(part in name for part in _UNTOUCHED_BY_LORA)]
        else:
            chosen = [shape for name, shape in matrices.items() if name.rsplit(".", 1)[-1] in lora.target_modules]
        return sum(lora.rank * sum(shape) for shape in chosen)

    def _number(self, names: tuple[str, ...]) -> int | None:
        # Models of several modalities keep their language part's sizes one level down.
        text = self.config.get("text_config")
        values = {**(text if isinstance(text, dict) else {}), **self.config}
        return next((values[name] for name in names if isinstance(values.get(name), int)), None)


def _local(path: Path) -> tuple[Path | None, Path | None]:
    """The folder of a local model, and the file that it is to be converted from."""
    if not path.is_file():
        return path, None
    return file_folder(path), path if is_gguf(path) else None


def _packaged(source: PackagedModel) -> tuple[Path | None, Path | None]:
    """The folder of a packaged model's conversion, and the file that it is to be converted from."""
    archive = source.archive if source.name is None else CATALOGUE.get(source.name)
    if archive is None:
        return None, None
    try:
        file = cached(source)
    except FetchError:
        return None, None  # an archive whose member could not be unpacked safely: fetching it says so
    return packaged_folder(archive), file if file is not None and file.is_file() and is_gguf(file) else None


def hub_folder(repository: str, revision: str) -> Path | None:
    """The snapshot of a hub model in this machine's cache."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, "config.json", revision=revision)
    return Path(found).parent if isinstance(found, str) else None


def hub_is_offline() -> bool:
    """Whether `HF_HUB_OFFLINE` forbids the network."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def hub_data_is_cached(repository: str) -> bool:
    """Whether this machine's caches hold anything of a hub data set."""
    from huggingface_hub import constants

    in_hub = Path(constants.HF_HUB_CACHE) / f"datasets--{repository.replace('/', '--')}"
    prepared = Path(constants.HF_HOME) / "datasets" / repository.replace("/", "___")
    return in_hub.is_dir() or prepared.is_dir()


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def damage(path: Path) -> str | None:
    """What is wrong with a safetensors file, told from its header and size."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if start.startswith(b"version "):
            return "a Git LFS pointer in place of the weights"
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > size - 8:
            return "cut short, or not a safetensors file"
        try:
            header = json.loads(file.read(length))
        except ValueError:
            return "not a safetensors file"
    end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
    return None if 8 + length + end == size else f"{size} bytes, but its header speaks of {8 + length + end}"


def _header(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes from the header of a safetensors file: 8 bytes of length, then JSON."""
    if damage(path) is not None:
        return {}
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return {name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}
