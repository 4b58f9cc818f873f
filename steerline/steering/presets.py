"""Named readings of the papers."""

from __future__ import annotations

from steerline.config.safr import ImportanceSpec, InteractionSpec, VmaskSpec
from steerline.config.steering import BoostSpec, SteeringSpec

PAPER_LITERAL = SteeringSpec(boost=BoostSpec(select="value", mean="signed", keep_sign=False))
"""The paper's text, word for word. See `LITERAL_WARNING`."""

RECOMMENDED = SteeringSpec(boost=BoostSpec(select="magnitude", mean="abs", keep_sign=True))
"""The paper's motive: the keys of smallest magnitude are raised to the mean magnitude and keep their sign."""

LITERAL_WARNING = (
    "the paper's literal reading (select: value, mean: signed) erases strong negative keys in gated FFNs: the "
    "smallest values are the most negative ones, and the signed mean is about 0. On a pretrained SmolLM2-135M the "
    "loss goes from 3.295 to 10.206 nats per token, while the recommended reading gives 3.308 (python -m "
    "benchmarks.readings). Use select: magnitude, mean: abs, keep_sign: true unless you mean to reproduce the text."
)
"""What a user of `PAPER_LITERAL` should be told."""

SAFR_PAPER = SteeringSpec(
    importance=ImportanceSpec(variant="reference"),
    interaction=InteractionSpec(variant="reference"),
    vmask=VmaskSpec(apply="multiply"),
)
"""The authors' code: both lambdas 1, means over padding too, hard gates on the embeddings without VMASK's entropy."""

SAFR = SteeringSpec(
    importance=ImportanceSpec(variant="masked"),
    interaction=InteractionSpec(variant="masked"),
    vmask=VmaskSpec(apply="multiply", entropy_strength=1.0),
)
"""The same terms over real tokens alone, with VMASK's entropy, which keeps gates from closing or opening at once."""
