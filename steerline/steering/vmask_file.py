"""A gate that was added to a model, as a file beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from steerline.errors import SteeringError
from steerline.steering.attach import Attachment

NAME = "vmask.safetensors"


def save_gate(weights: Mapping[str, Tensor], folder: Path) -> Path:
    """Writes a gate's weights beside a model: needed where the gate multiplies the embeddings (`vmask.apply`)."""
    path = folder / NAME
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, path)
    return path


def load_gate(attachment: Attachment, folder: Path) -> None:
    """Gives the gate that `attachment` added the weights that `save_gate` wrote; it then acts as in evaluation.

    Raises:
        SteeringError: the attachment added no gate, or the folder has no file of one.
    """
    gate, path = attachment.safr.vmask.added, folder / NAME
    if gate is None or not path.is_file():
        raise SteeringError(
            "there is no gate to load",
            where=str(path),
            got="an attachment without an added gate" if gate is None else "no such file",
            expected="a spec with `vmask`, on a model that has no gate of its own, and its export's folder",
        )
    gate.load_state_dict(load_file(path))
    gate.eval()
