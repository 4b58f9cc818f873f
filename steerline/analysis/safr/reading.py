"""Runs a model over batches and hands out, sequence by sequence, what SAFR's measures and figures need.

One batch is held at a time. Attention probabilities are taken from the eager kernel, to which the model is switched
for the reading; a token's importance is its VMASK gate where the model has one, else |gradient x input| of its loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from steerline.analysis.safr.measures import Floats
from steerline.data.batch import Batch
from steerline.errors import EvaluationError
from steerline.models.anatomy import Anatomy, Site, anatomy, first_tensor, replace_first, transformers_model
from steerline.models.vmask import VmaskGate

Ints = NDArray[np.int64]
ImportanceFrom = Literal["vmask", "gradient_x_input"]


@dataclass(frozen=True)
class TokenReading:
    """One sequence of n tokens, without padding.

    Args:
        id: its example's id.
        batch, row: where it lies in the batches.
        positions: of its tokens in the row [n]; with gaps where a long sequence was thinned out.
        input_ids: its tokens [n].
        importance: of each token [n]; the gate's value in 0..1, or |gradient x input| in nats.
        importance_from: which of the two.
        embed: token embeddings [n, E] as the embedding site gives them.
        keys: FFN keys [n, F], by layer.
        blocks: outputs of the residual blocks [n, E], by layer.
        attention: probabilities [n, n], mean over heads, by layer; rows are queries.
    """

    id: str
    batch: int
    row: int
    positions: Ints
    input_ids: Ints
    importance: Floats
    importance_from: ImportanceFrom
    embed: Floats
    keys: Mapping[int, Floats]
    blocks: Mapping[int, Floats]
    attention: Mapping[int, Floats]

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def causal(self) -> bool:
        """Whether no token attends to a later one, in any layer that was read."""
        return not any(np.triu(attention, 1).any() for attention in self.attention.values())


def read_tokens(
    model: nn.Module,
    batches: Sequence[Batch],
    *,
    layers: Sequence[int] | None = None,
    limit: int | None = None,
    max_tokens: int | None = 256,
    seed: int = 0,
    sites: Anatomy | None = None,
) -> Iterator[TokenReading]:
    """Read sequences one after another; compare models on the same batches, with the same seed.

    Args:
        model: any Transformers model with an anatomy; it is read in eval mode, and left in the mode it had.
        batches: held-out batches, packed or not. Labels are needed only for |gradient x input|.
        layers: layers whose keys, block outputs and attention are kept; all by default.
        limit: sequences to read, drawn without replacement; all by default.
        max_tokens: longer sequences keep so many tokens, drawn at random; none keeps all.
        seed: of both draws.
        sites: the model's anatomy, where it is already known.

    Raises:
        EvaluationError: there is no sequence or no such layer, the model gives no attention probabilities there, or no
            gradient reaches its embeddings.
        AnatomyError: the sites cannot be found.
    """
    found = sites or anatomy(model)
    chosen = _chosen_layers(found, layers)
    places = [(index, row, segment) for index, batch in enumerate(batches) for row, segment in _sequences(batch)]
    if not places:
        raise EvaluationError("there is no sequence to read", fix="pass at least one batch with tokens")
    if limit is not None and limit < len(places):
        kept = np.random.default_rng(seed).choice(len(places), size=limit, replace=False)
        places = [places[i] for i in sorted(kept)]
    reader = _Reader(model, found, chosen)
    for index, batch in enumerate(batches):
        here = [(row, segment) for number, row, segment in places if number == index]
        if not here:
            continue
        caught = reader.read(batch)
        for row, segment in here:
            rng = np.random.default_rng([seed, index, row, segment])
            yield caught.sequence(batch, index, row, segment, max_tokens, rng)


def _sequences(batch: Batch) -> list[tuple[int, int]]:
    """Row and segment of every example of a batch."""
    return [
        (row, int(segment))
        for row, segments in enumerate(batch.segment_ids)
        for segment in segments.unique().tolist()
        if segment > 0
    ]


def _chosen_layers(sites: Anatomy, layers: Sequence[int] | None) -> tuple[int, ...]:
    everything = tuple(range(sites.num_layers))
    chosen = everything if layers is None else tuple(sorted(set(layers)))
    missing = [layer for layer in chosen if layer not in everything]
    if missing:
        raise EvaluationError("no such layer", got=missing, expected=f"0 to {sites.num_layers - 1}")
    without = sorted(set(chosen) - {site.layer for site in sites.attention})
    if without:
        raise EvaluationError(
            "there is no attention in these layers", got=without, fix="choose layers that have attention"
        )
    return chosen


@dataclass
class _Caught:
    """Activations of one batch: [B, T, width], and attention [B, T, T], mean over heads."""

    gate: Tensor | None = None
    gradient_x_input: Tensor | None = None
    at: dict[tuple[str, int | None], Tensor] = field(default_factory=dict)

    def sequence(
        self, batch: Batch, index: int, row: int, segment: int, max_tokens: int | None, rng: np.random.Generator
    ) -> TokenReading:
        """One sequence of the batch, on the CPU."""
        positions = (batch.segment_ids[row] == segment).nonzero()[:, 0].cpu().numpy()
        example = batch.sample_ids[row][segment - 1]
        if max_tokens is not None and len(positions) > max_tokens:
            positions = np.sort(rng.choice(positions, size=max_tokens, replace=False))
        places = torch.from_numpy(positions)

        def pick(name: str) -> dict[int, Floats]:
            return {
                layer: tensor[row].cpu()[places].double().numpy()
                for (kind, layer), tensor in self.at.items()
                if kind == name and layer is not None
            }

        importance = self.gate if self.gate is not None else self.gradient_x_input
        assert importance is not None
        return TokenReading(
            id=example,
            batch=index,
            row=row,
            positions=positions,
            input_ids=batch.input_ids[row].cpu()[places].numpy(),
            importance=importance[row].cpu()[places].double().numpy(),
            importance_from="gradient_x_input" if self.gate is None else "vmask",
            embed=self.at["embed", None][row].cpu()[places].double().numpy(),
            keys=pick("ffn_keys"),
            blocks=pick("block_out"),
            attention={
                layer: tensor[row].cpu()[places][:, places].double().numpy()
                for (kind, layer), tensor in self.at.items()
                if kind == "attention" and layer is not None
            },
        )


class _Reader:
    """Reads one batch after another. Hooks, kernel and mode are changed only while a batch runs."""

    def __init__(self, model: nn.Module, sites: Anatomy, layers: tuple[int, ...]) -> None:
        self._model = model
        self._sites = sites
        self._layers = layers
        self._inner = transformers_model(model)[1]
        self._gates = [module for module in model.modules() if isinstance(module, VmaskGate)]
        self._caught = _Caught()
        self._shape = (0, 0)
        self._leaf: Tensor | None = None

    def read(self, batch: Batch) -> _Caught:
        """Run one batch."""
        self._caught, self._leaf = _Caught(), None
        self._shape = (batch.input_ids.shape[0], batch.input_ids.shape[1])
        on_device = batch.to(next(self._model.parameters()).device)
        with ExitStack() as stack:
            stack.enter_context(eager_attention(self._model))
            stack.enter_context(evaluating(self._model))
            for site in (self._sites.embed, *self._sites.ffn_keys, *self._sites.block_out, *self._sites.attention):
                if site.layer is None or site.layer in self._layers:
                    stack.callback(self._hook(site).remove)
            for gate in self._gates[:1]:
                stack.callback(gate.register_forward_hook(self._catch_gate).remove)
            stack.enter_context(torch.set_grad_enabled(not self._gates))
            output = self._inner(**on_device.model_inputs(self._inner.config))
            if not self._gates:
                self._caught.gradient_x_input = self._saliency(output.logits, on_device)
        return self._caught

    def _saliency(self, logits: Tensor, batch: Batch) -> Tensor:
        """|e_i . d loss / d e_i| for every token [B, T]; the loss is the summed cross entropy, in nats."""
        assert self._leaf is not None
        logits, labels = target_logits(logits, batch)
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        loss = nn.functional.cross_entropy(wide, labels, reduction="sum")
        if not loss.requires_grad:
            raise EvaluationError(
                "no gradient reaches the embeddings",
                got="the model's forward cuts the graph",
                fix="read the model outside torch.no_grad() and inference mode",
            )
        (gradient,) = torch.autograd.grad(loss, self._leaf)
        return (gradient.float() * self._leaf.detach().float()).sum(-1).abs()

    def _hook(self, site: Site) -> Any:
        if site.side == "input":
            return site.module.register_forward_pre_hook(lambda _module, args: self._catch(site, first_tensor(args)))
        if site.name == "attention":
            return site.module.register_forward_hook(self._catch_attention(site))
        if site.name == "embed":
            return site.module.register_forward_hook(self._catch_embedding)
        return site.module.register_forward_hook(lambda _module, _args, out: self._catch(site, first_tensor(out)))

    def _catch(self, site: Site, value: Tensor) -> None:
        self._caught.at[site.name, site.layer] = value.detach().view(*self._shape, -1)

    def _catch_embedding(self, _module: nn.Module, _args: Any, output: Any) -> Any:
        self._catch(self._sites.embed, first_tensor(output))
        if not torch.is_grad_enabled():
            return None
        # A leaf of its own: the gradient is wanted here and nowhere before.
        self._leaf = first_tensor(output).detach().requires_grad_()
        return replace_first(output, self._leaf)

    def _catch_attention(self, site: Site) -> Callable[[nn.Module, Any, Any], None]:
        def catch(_module: nn.Module, _args: Any, output: Any) -> None:
            probabilities = output[1] if isinstance(output, tuple) and len(output) > 1 else None
            if not isinstance(probabilities, Tensor) or probabilities.ndim != 4:
                raise EvaluationError(
                    "the model gives no attention probabilities",
                    where=site.path,
                    got=type(probabilities).__name__,
                    expected="[B, H, T, T] as the second output of the layer's attention, under the eager kernel",
                    fix="name the site in `model.sites.attention`, or read other layers",
                )
            # Several layers of all heads would take far more memory than the model.
            self._caught.at["attention", site.layer] = probabilities.detach().mean(1)

        return catch

    def _catch_gate(self, _module: nn.Module, _args: Any, output: Any) -> None:
        self._caught.gate = output[1].detach()


def target_logits(logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Logits and labels [N, ...] of what the model is asked: the next token at each target, or each row's class.

    Args:
        logits: [B, T, V] of a language model, or [B, C] of a classifier.
        batch: with at most one label a row for a classifier.
    """
    if logits.ndim == 3:
        return logits[batch.target_mask], batch.labels[batch.target_mask]
    labelled = batch.target_mask.any(-1)
    # Positions without a label hold a negative number.
    return logits[labelled], batch.labels.max(-1).values[labelled]


@contextmanager
def eager_attention(model: nn.Module) -> Iterator[None]:
    """While inside, attention is computed by the kernel that returns its probabilities."""
    inner = transformers_model(model)[1]
    before = inner.config._attn_implementation
    inner.set_attn_implementation("eager")
    try:
        yield
    finally:
        inner.set_attn_implementation(before)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """While inside, the model is in eval mode; every module's own mode comes back."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
