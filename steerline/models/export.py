"""Trained weights as an ordinary Hugging Face folder, and the proof that it computes what the trained model computed.

The folder holds safetensors, config, generation config, tokenizer with its chat template, a model card,
`steerline.json` (provenance and the steering the model was trained under) and `manifest.json` (size and SHA-256 of
every file). A model trained with LoRA is merged; its adapter lies in `adapter/`.
"""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from steerline.errors import ModelError
from steerline.models.anatomy import transformers_model
from steerline.models.card import ModelCard
from steerline.models.quiet import quiet_bars
from steerline.models.vmask import save_gate

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MANIFEST = "manifest.json"
PROVENANCE = "steerline.json"
_SHARD_SIZE = "5GB"


@dataclass(frozen=True)
class ExportReport:
    """What was written.

    Args:
        folder: the export.
        num_parameters: weights, shared ones counted once.
        num_bytes: size of all files.
        files: relative path of each file and its SHA-256.
        merged_lora: whether an adapter was merged into the weights.
    """

    folder: Path
    num_parameters: int
    num_bytes: int
    files: Mapping[str, str]
    merged_lora: bool


def export_model(
    state_dict: Mapping[str, Tensor] | None,
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    card: ModelCard,
    *,
    replace: bool = False,
    dtype: torch.dtype | None = None,
    gate: Mapping[str, Tensor] | None = None,
) -> ExportReport:
    """Write the export. It appears under its name only when complete.

    Args:
        state_dict: weights by the names that `model`'s Transformers (or PEFT) model gives them; none takes the model's
            own. Under ZeRO-3 these are the gathered ones, while `model` itself holds only a part.
        model: a Transformers model, or a PEFT model around one, perhaps inside wrappers. Not changed.
        tokenizer: saved beside it.
        folder: must not exist, unless `replace`.
        card: lineage.
        replace: remove an export that is there already, once the new one is complete.
        dtype: precision of the saved weights; none keeps that of `state_dict`. A run in bf16 with fp32 master weights
            saves bf16: what its forward pass computed with.
        gate: state dict of a VMASK gate that multiplies the embeddings, saved beside the model.

    Raises:
        ModelError: `folder` exists, or the state dict is not this model's.
    """
    folder = Path(folder)
    if folder.exists() and not replace:
        raise ModelError(
            "there is already something at the place of the export",
            where=str(folder),
            fix="choose another folder, or ask for it to be replaced",
        )
    _, root = transformers_model(model)
    adapted = _adapted(model)
    weights = dict((adapted or root).state_dict() if state_dict is None else state_dict)
    if dtype is not None:
        weights = {name: value.to(dtype) if value.is_floating_point() else value for name, value in weights.items()}
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        plain = _write_weights(root, adapted, weights, scratch, card.base_model)
        with quiet_bars():
            tokenizer.save_pretrained(scratch)
        if gate:
            save_gate(gate, scratch)
        (scratch / PROVENANCE).write_text(json.dumps(card.provenance(), indent=2) + "\n")
        (scratch / "README.md").write_text(card.markdown(adapter=adapted is not None), encoding="utf-8")
        files = _write_manifest(scratch)
        scratch.chmod(0o755)
        _move_into_place(scratch, folder)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    num_bytes = sum((folder / name).stat().st_size for name in files)
    return ExportReport(folder, plain.num_parameters(), num_bytes, files, adapted is not None)


def check_manifest(folder: Path) -> None:
    """Compare every file with the manifest.

    Raises:
        ModelError: naming the files that are missing or altered.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise ModelError(
            "the export has no manifest, so it was never completed", where=str(folder), got="no " + MANIFEST
        )
    wanted: dict[str, dict[str, Any]] = json.loads(path.read_text())["files"]
    wrong = [name for name, entry in wanted.items() if not _is_intact(folder / name, entry)]
    if wrong:
        raise ModelError(
            "files of the export are missing or altered", where=str(folder), got=", ".join(wrong), fix="export again"
        )


def _is_intact(path: Path, entry: Mapping[str, Any]) -> bool:
    return path.is_file() and path.stat().st_size == entry["bytes"] and _sha256(path) == entry["sha256"]


def _adapted(model: nn.Module) -> PeftModel | None:
    """The PEFT model inside `model`, where there is one."""
    from peft import PeftModel

    return next((module for module in model.modules() if isinstance(module, PeftModel)), None)


def _write_weights(
    root: PreTrainedModel, adapted: PeftModel | None, weights: dict[str, Tensor], folder: Path, base_model: str
) -> PreTrainedModel:
    """Save from an empty copy filled with `weights`: the live model may be partitioned, hooked or in training."""
    from peft import get_peft_model

    config = copy.deepcopy(root.config)
    # Otherwise PEFT would write down the folder in this machine's cache.
    config.name_or_path = base_model
    with torch.device("meta"):
        plain: PreTrainedModel = type(root)(config)
    # Only a model that can generate has one.
    if root.can_generate():
        plain.generation_config = copy.deepcopy(root.generation_config)
    if adapted is None:
        _fill(plain, plain, weights)
    else:
        with torch.device("meta"):
            copied = get_peft_model(plain, copy.deepcopy(adapted.peft_config[adapted.active_adapter]))
        # Merging adds to these in place, and they are the live model's own.
        own = {name: value.clone() if ".base_layer." in name else value for name, value in weights.items()}
        _fill(copied, plain, own)
        _save_adapter(copied, folder / "adapter")
        plain = copied.merge_and_unload()
    with quiet_bars():
        plain.save_pretrained(folder, max_shard_size=_SHARD_SIZE)
    return plain


def _save_adapter(model: PeftModel, folder: Path) -> None:
    # By itself PEFT asks the hub whether the vocabulary grew; it never does here.
    model.save_pretrained(folder, save_embedding_layers=False)
    # PEFT's own card has nothing but placeholders in it.
    (folder / "README.md").unlink(missing_ok=True)


def _fill(copied: nn.Module, plain: PreTrainedModel, weights: dict[str, Tensor]) -> None:
    """Give the empty copy its weights; head and embedding that share one weight need be there only once."""
    missing, unexpected = copied.load_state_dict(weights, strict=False, assign=True)
    plain.tie_weights()
    state = copied.state_dict()
    absent = sorted(name for name in missing if state[name].is_meta)
    if absent or unexpected:
        raise ModelError(
            "these weights are not this model's",
            where=type(plain).__name__,
            got=f"missing: {_some(absent)}; unknown: {_some(unexpected)}",
            expected="the state dict of the Transformers (or PEFT) model, without prefixes of wrappers around it",
        )


def _some(names: Sequence[str]) -> str:
    return f"{len(names)} ({', '.join(names[:4])})" if names else "none"


def _write_manifest(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    entries = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": _sha256(path)} for path in files
    }
    (folder / MANIFEST).write_text(json.dumps({"files": entries}, indent=2) + "\n")
    return {name: str(entry["sha256"]) for name, entry in entries.items()}


def _move_into_place(scratch: Path, folder: Path) -> None:
    """Rename; an old export steps aside first and is removed only when the new one stands."""
    if not folder.exists():
        scratch.rename(folder)
        return
    aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-old-"))
    folder.rename(aside / folder.name)
    scratch.rename(folder)
    shutil.rmtree(aside)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
