"""Proof that an export computes what the trained model computed: logits on fixed prompts, before and after the disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from steerline.errors import ModelError
from steerline.models.anatomy import transformers_model
from steerline.models.export import check_manifest
from steerline.models.quiet import quiet_bars

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PROMPTS = (
    "The capital of France is",
    "Once upon a time there was a little girl who",
    "Question: Can birds fly? Answer:",
    "2 + 2 =",
    "def factorial(n):\n    ",
    "To keep milk fresh, you should",
    "Tracy didn't go home that evening because she",
    "Der schnelle braune Fuchs springt über den faulen Hund.",
)
"""Eight short texts of different kinds."""

_MERGE_ROUNDING = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 0.02, torch.bfloat16: 0.1}


def probe_logits(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str] = PROMPTS
) -> tuple[Tensor, ...]:
    """Logits of each prompt ([T, V]; [C] of a classifier), one forward pass per prompt, unpadded, in eval mode.

    Under ZeRO-3 every worker has to call it. Whatever steering is attached acts: detach or switch it off for the plain
    model.
    """
    _, root = transformers_model(model)
    device = next(root.parameters()).device
    was_training = root.training
    root.eval()
    try:
        with torch.no_grad():
            return tuple(_logits(root, tokenizer, prompt, device) for prompt in prompts)
    finally:
        root.train(was_training)


def verify_logits(
    expected: Sequence[Tensor],
    folder: Path,
    *,
    dtype: torch.dtype,
    attention: str = "sdpa",
    device: torch.device | str = "cpu",
    prompts: Sequence[str] = PROMPTS,
    tolerance: float = 0.0,
    trust_remote_code: bool = False,
) -> float:
    """Reload the export from disk and compare.

    Args:
        expected: from `probe_logits` on the trained model.
        folder: the export; its files are checked against the manifest first.
        dtype: precision of the trained model's forward pass.
        attention: its attention kernel.
        device: where it ran.
        prompts: those of `expected`.
        tolerance: largest |difference| allowed; 0 asks for equal bits, which the same precision and device give.
        trust_remote_code: run the code that the export brought from its base, where the config allowed it.

    Returns:
        The largest |difference| of a logit.

    Raises:
        ModelError: it is above the tolerance, or a file is missing or altered.
    """
    from transformers import AutoTokenizer

    check_manifest(folder)
    with quiet_bars():
        loaded: PreTrainedModel = auto_class(folder).from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation=attention,
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
        )
    model = loaded.to(device)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    reloaded = probe_logits(model, tokenizer, prompts)
    differences = []
    for prompt, before, after in zip(prompts, expected, reloaded, strict=True):
        if before.shape != after.shape:
            raise ModelError(
                "the exported model gives logits of another shape: tokenizer or vocabulary changed on the way",
                where=f"{folder}, prompt {prompt!r}",
                got=list(after.shape),
                expected=list(before.shape),
            )
        differences.append((before.float() - after.float()).abs().max())
    worst = float(torch.stack(differences).max())
    # Written so that NaN fails too.
    if not worst <= tolerance:
        raise ModelError(
            "the exported model does not compute what the trained one computed",
            where=str(folder),
            got=f"max |difference| of a logit {worst:.3g}",
            expected=f"at most {tolerance:.3g}",
            fix="detach steering before exporting, and compare in the precision of training",
        )
    return worst


def auto_class(folder: Path) -> Any:
    """The Auto class that loads an export: what kind of model it is stands in its config."""
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    import steerline.models.safr_classifier  # noqa: F401 (makes the architecture known)

    architectures = json.loads((folder / "config.json").read_text())["architectures"]
    if architectures[0].endswith("ForSequenceClassification"):
        return AutoModelForSequenceClassification
    return AutoModelForCausalLM


def verify_export(
    model: nn.Module,
    folder: Path,
    tokenizer: PreTrainedTokenizerBase,
    *,
    prompts: Sequence[str] = PROMPTS,
    tolerance: float | None = None,
) -> float:
    """`verify_logits` against a live model.

    Args:
        model: the trained model, whole (not partitioned).
        folder: its export.
        tokenizer: the trained model's.
        prompts: at least one.
        tolerance: none means equal bits for plain weights. Merging LoRA adds `B A` to the weights before the product
            and not after, so there it means the rounding of the precision, times the size of the logits.

    Returns:
        The largest |difference| of a logit.

    Raises:
        ModelError: as `verify_logits`.
    """
    _, root = transformers_model(model)
    expected = probe_logits(model, tokenizer, prompts)
    if tolerance is None:
        tolerance = merge_rounding(expected) if _has_adapter(model) else 0.0
    parameter = next(root.parameters())
    return verify_logits(
        expected,
        folder,
        dtype=parameter.dtype,
        attention=root.config._attn_implementation,
        device=parameter.device,
        prompts=prompts,
        tolerance=tolerance,
    )


def merge_rounding(logits: Sequence[Tensor]) -> float:
    """How far logits like these may move when an adapter is merged, relative to the largest one.

    Measured on SmolLM2-135M, rank 8: 4e-6 in fp32. In bf16 0.05, because a merged weight is rounded to 8 bits: there
    the exact adapter is the one in `adapter/`.
    """
    largest = max(float(rows.float().abs().max()) for rows in logits)
    return _MERGE_ROUNDING[logits[0].dtype] * largest


def _has_adapter(model: nn.Module) -> bool:
    from peft.tuners.tuners_utils import BaseTunerLayer

    return any(isinstance(module, BaseTunerLayer) for module in model.modules())


def _logits(root: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: str, device: torch.device) -> Tensor:
    input_ids = tokenizer(prompt, return_tensors="pt").input_ids.to(device)
    logits: Tensor = root(input_ids=input_ids, use_cache=False).logits
    return logits[0].cpu()
