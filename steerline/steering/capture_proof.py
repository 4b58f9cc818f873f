"""Proof, once for each layer, that the probabilities computed again are those that the attention kernel uses.

Attention may hold what query and key do not tell: sinks, position biases, chunks. So the first time a layer is
captured, its kernel's output for a few tokens is compared with that of the recomputed probabilities.
"""

from __future__ import annotations

import torch
from torch import Tensor

from steerline.errors import SteeringError
from steerline.models.anatomy import Site
from steerline.steering.attention_capture import AttentionCall, attention_probabilities

_NUM_QUERIES = 8
# Relative to the largest entry. Some families take their softmax in float32 whatever the model's type is.
_TOLERANCES = {torch.float64: 1e-5, torch.float32: 1e-3, torch.float16: 5e-2, torch.bfloat16: 5e-2}


class CaptureProof:
    """Checks layers the first time they are captured.

    Args:
        family: of the model, for the message.
    """

    def __init__(self, family: str) -> None:
        self._family = family
        self._proven: set[int | None] = set()

    @torch.no_grad()
    def check(self, site: Site, call: AttentionCall, segment_ids: Tensor) -> None:
        """Compare on a batch [B, T]; layers that were checked before are left alone.

        Raises:
            SteeringError: the layer's attention is not the softmax of its queries and keys.
        """
        if site.layer in self._proven:
            return
        if call.key.shape[2] != segment_ids.shape[1] or call.query.shape[2] != segment_ids.shape[1]:
            raise self._refused(
                site, f"{call.query.shape[2]} queries and {call.key.shape[2]} keys", "one of each token"
            )
        row = int((segment_ids > 0).sum(1).argmax())
        real = (segment_ids[row] > 0).nonzero().squeeze(1)
        if len(real) == 0:
            return
        chosen = real[torch.linspace(0, len(real) - 1, min(_NUM_QUERIES, len(real)), device=real.device).long()]
        alone = call.row(row)
        expected = attention_probabilities(alone, segment_ids[row : row + 1], chosen)
        groups = call.query.shape[1] // call.key.shape[1]
        value = alone.value.repeat_interleave(groups, dim=1).to(expected.dtype)
        ours = (expected @ value)[0].transpose(0, 1)
        theirs = call.output()[row, chosen].reshape(ours.shape).to(ours.dtype)
        deviation = float((ours - theirs).abs().max() / theirs.abs().max().clamp_min(1e-12))
        if not deviation <= _TOLERANCES[call.query.dtype]:
            raise self._refused(
                site,
                f"its output differs by {deviation:.1e} from that of softmax(query key)",
                f"at most {_TOLERANCES[call.query.dtype]:.0e}",
            )
        self._proven.add(site.layer)

    def _refused(self, site: Site, got: str, expected: str) -> SteeringError:
        return SteeringError(
            "attention probabilities cannot be recomputed at this layer",
            where=f"layer {site.layer} of {self._family}, {site.path}",
            got=got,
            expected=expected,
            fix="leave the layer out of `interaction.layers`",
        )
