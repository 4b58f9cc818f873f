"""A gate that was added to a model, back from the file beside it."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file

from steerline.errors import SteeringError
from steerline.models.vmask import GATE_FILE
from steerline.steering.attach import Attachment


def load_gate(attachment: Attachment, folder: Path) -> None:
    """Gives the gate that `attachment` added the weights that `save_gate` wrote; it then acts as in evaluation.

    Raises:
        SteeringError: the attachment added no gate, or the folder has no file of one.
    """
    gate, path = attachment.safr.vmask.added, folder / GATE_FILE
    if gate is None or not path.is_file():
        raise SteeringError(
            "there is no gate to load",
            where=str(path),
            got="an attachment without an added gate" if gate is None else "no such file",
            expected="a spec with `vmask`, on a model that has no gate of its own, and its export's folder",
        )
    gate.load_state_dict(load_file(path))
    gate.eval()
