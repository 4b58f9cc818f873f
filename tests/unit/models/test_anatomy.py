"""The sites of each family, proved by what flows through them and not by their names."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from steerline.errors import AnatomyError
from steerline.models import anatomy as anatomy_module
from steerline.models.anatomy import Anatomy, Site, anatomy, first_tensor, replace_first
from steerline.models.families import FAMILIES
from steerline.models.proof import prove
from tests.tiny import ENCODER_FAMILIES, NUM_HEADS, TINY_FAMILIES, TINY_VOCAB, tiny_model

B, T, D, F, L = 2, 7, 32, 64, 3


def make(family: str, **overrides: Any) -> Any:
    return tiny_model(family, num_layers=L, hidden=D, intermediate=F, **overrides)


def tokens() -> Tensor:
    return torch.randint(4, TINY_VOCAB, (B, T), generator=torch.Generator().manual_seed(3))


class Watch:
    """Inputs and outputs of chosen modules during one forward pass."""

    def __init__(self, model: nn.Module, modules: dict[str, nn.Module]) -> None:
        self.model, self.modules = model, modules
        self.inputs: dict[str, Any] = {}
        self.outputs: dict[str, Any] = {}

    def run(self, **kwargs: Any) -> Any:
        handles = []
        for name, module in self.modules.items():

            def hook(_: nn.Module, args: Any, kwargs: Any, output: Any, name: str = name) -> None:
                self.inputs[name] = args[0] if args else next(iter(kwargs.values()))
                self.outputs[name] = output

            handles.append(module.register_forward_hook(hook, with_kwargs=True))
        with torch.no_grad():
            outputs = self.model(input_ids=tokens(), **kwargs)
        for handle in handles:
            handle.remove()
        return outputs


def value_matrix(module: nn.Module) -> tuple[Tensor, Tensor | None]:
    """(W [F, D], bias): nn.Linear keeps its weight as [out, in], GPT-2's Conv1D as [in, out]."""
    weight = module.get_parameter("weight")
    bias = dict(module.named_parameters()).get("bias")
    return (weight.T if isinstance(module, nn.Linear) else weight), bias


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_each_family_has_a_site_of_every_kind_in_every_layer(family: str) -> None:
    model = make(family)
    found = anatomy(model)
    assert found.num_layers == L
    for sites in (found.block_out, found.attention, found.ffn_keys):
        assert [site.layer for site in sites] == list(range(L))
    assert {site.width for site in found.ffn_keys} == {F}
    assert {site.side for site in found.ffn_keys} == {"input"}
    assert found.embed.width == D
    assert found.logits is not None
    assert found.logits.width == TINY_VOCAB
    assert all(model.get_submodule(site.path) is site.module for site in found.all_sites())


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_ffn_keys_are_what_the_value_projection_multiplies(family: str) -> None:
    model = make(family)
    sites = anatomy(model).ffn_keys
    watch = Watch(model, {site.path: site.module for site in sites})
    watch.run()
    for site in sites:
        keys, values = watch.inputs[site.path], watch.outputs[site.path]
        assert keys.shape in ((B, T, F), (B * T, F))
        weight, bias = value_matrix(site.module)
        expected = keys @ weight if bias is None else keys @ weight + bias
        torch.testing.assert_close(values, expected)


def test_only_opt_flattens_the_tokens_of_its_keys() -> None:
    flat = []
    for family in TINY_FAMILIES:
        model = make(family)
        site = anatomy(model).ffn_keys[0]
        watch = Watch(model, {"keys": site.module})
        watch.run()
        if watch.inputs["keys"].dim() == 2:
            flat.append(family)
    assert flat == ["opt"]


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_zeroing_the_keys_of_any_layer_leaves_the_ffn_with_its_bias_and_changes_the_logits(family: str) -> None:
    model = make(family)
    with torch.no_grad():
        before = model(input_ids=tokens()).logits
    for site in anatomy(model).ffn_keys:
        out: list[Tensor] = []
        handles = [
            site.module.register_forward_pre_hook(lambda _, args: (torch.zeros_like(args[0]), *args[1:])),
            site.module.register_forward_hook(lambda _, args, output, out=out: out.append(output)),
        ]
        with torch.no_grad():
            after = model(input_ids=tokens()).logits
        for handle in handles:
            handle.remove()
        _, bias = value_matrix(site.module)
        assert torch.equal(out[0], torch.zeros_like(out[0]) if bias is None else bias.expand_as(out[0]))
        assert (after - before).abs().max() > 1e-3


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_each_block_reads_what_the_block_before_it_gave(family: str) -> None:
    model = make(family)
    sites = anatomy(model).block_out
    watch = Watch(model, {site.path: site.module for site in sites})
    watch.run()
    for earlier, later in itertools.pairwise(sites):
        assert torch.equal(first_tensor(watch.outputs[earlier.path]), watch.inputs[later.path])
        assert first_tensor(watch.outputs[earlier.path]).shape == (B, T, earlier.width)


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_the_first_block_reads_the_embedding(family: str) -> None:
    model = make(family)
    found = anatomy(model)
    watch = Watch(model, {"block": found.block_out[0].module})
    handle = found.embed.module.register_forward_hook(lambda _, args, output: output.requires_grad_(True))
    watch.run()
    plain = watch.inputs["block"].clone()
    handle.remove()
    handle = found.embed.module.register_forward_hook(lambda _, args, output: output * 2)
    watch.run()
    handle.remove()
    assert not torch.allclose(plain, watch.inputs["block"])


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_attention_gives_hidden_states_and_under_the_eager_kernel_probabilities(family: str) -> None:
    model = make(family, attention="eager")
    sites = anatomy(model).attention
    watch = Watch(model, {site.path: site.module for site in sites})
    watch.run()
    for site in sites:
        hidden, probabilities = watch.outputs[site.path][:2]
        assert hidden.shape == (B, T, D)
        assert probabilities.shape == (B, NUM_HEADS, T, T)
        torch.testing.assert_close(probabilities.sum(-1), torch.ones(B, NUM_HEADS, T))
        causal = bool((probabilities.triu(1) == 0).all())
        assert causal == (family not in ENCODER_FAMILIES)


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_the_head_and_its_rule_give_the_models_logits_bit_for_bit(family: str) -> None:
    model = make(family)
    found = anatomy(model)
    assert found.logits is not None
    watch = Watch(model, {"head": found.logits.module})
    outputs = watch.run()
    assert torch.equal(found.logit_rule(watch.outputs["head"]), outputs.logits)
    # Gemma 2 alone squashes its logits after the head.
    assert torch.equal(watch.outputs["head"], outputs.logits) == (family != "gemma2")


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_without_its_table_entry_the_same_sites_are_found_by_structure(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make(family)
    known = anatomy(model)
    others = {name: entry for name, entry in FAMILIES.items() if name != model.config.model_type}
    assert len(others) == len(FAMILIES) - 1
    monkeypatch.setattr(anatomy_module, "FAMILIES", others)
    assert anatomy(model) == known


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_the_body_alone_has_the_same_sites_without_logits(family: str) -> None:
    model = make(family)
    whole, body = anatomy(model), anatomy(model.base_model)
    assert body.logits is None
    assert [site.module for site in body.ffn_keys] == [site.module for site in whole.ffn_keys]
    assert body.embed.module is whole.embed.module


@pytest.mark.parametrize("family", TINY_FAMILIES)
def test_proof_accepts_every_family_and_leaves_no_hook_behind(family: str) -> None:
    model = make(family).train()
    prove(model, anatomy(model))
    assert model.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_proof_refuses_a_site_that_is_not_what_it_claims() -> None:
    model = make("llama")
    found = anatomy(model)
    wrong = found.ffn_keys[0]
    changed = Site(wrong.name, 0, wrong.path, wrong.module, "output", wrong.width)
    with pytest.raises(AnatomyError, match="another shape"):
        prove(model, _with(found, ffn_keys=(changed, *found.ffn_keys[1:])))


def test_proof_refuses_a_module_that_no_forward_pass_reaches() -> None:
    model = make("llama")
    model.spare = nn.Linear(F, D)
    found = anatomy(model)
    unused = Site("ffn_keys", 0, "spare", model.spare, "input", F)
    with pytest.raises(AnatomyError, match="exactly once") as error:
        prove(model, _with(found, ffn_keys=(unused, *found.ffn_keys[1:])))
    assert error.value.got == "0 times"


def test_proof_refuses_logits_that_change_after_the_head_in_an_unknown_way() -> None:
    model = make("gemma2")
    found = anatomy(model)
    with pytest.raises(AnatomyError, match="changes its logits"):
        prove(model, _with(found, logit_rule=anatomy_module.LogitRule()))


@pytest.mark.parametrize("family", ["gpt2", "opt", "llama", "gemma2"])
def test_lora_leaves_the_keys_where_they_were(family: str) -> None:
    from peft import LoraConfig, get_peft_model

    model = make(family)
    plain = anatomy(model)
    adapted = get_peft_model(model, LoraConfig(target_modules="all-linear", init_lora_weights=False))
    found = anatomy(adapted)
    assert [site.width for site in found.ffn_keys] == [site.width for site in plain.ffn_keys]
    prove(adapted, found)
    # The adapted layer as a whole, so that an edit of the keys reaches the adapter too.
    site = found.ffn_keys[0]
    assert "lora_A" in dict(site.module.named_children())
    assert adapted.get_submodule(site.path) is site.module


def test_wrappers_are_seen_through() -> None:
    model = make("qwen3")
    inner = anatomy(model)
    wrapped = nn.ModuleDict({"objective": nn.ModuleDict({"policy": model})})
    outer = anatomy(wrapped)
    assert outer.ffn_keys[1].path == "objective.policy." + inner.ffn_keys[1].path
    assert outer.ffn_keys[1].module is inner.ffn_keys[1].module


def test_a_module_that_is_no_transformers_model_is_refused() -> None:
    with pytest.raises(AnatomyError, match="not a Transformers model"):
        anatomy(nn.Linear(2, 2))


def _with(found: Anatomy, **changes: Any) -> Anatomy:
    changed = copy.copy(found)
    for name, value in changes.items():
        object.__setattr__(changed, name, value)
    return changed


def test_replacing_the_activation_keeps_the_rest_of_a_tuple() -> None:
    rest, tensor = object(), torch.ones(1)
    assert replace_first((torch.zeros(1), rest), tensor) == (tensor, rest)
    assert replace_first([torch.zeros(1), rest], tensor) == [tensor, rest]
    assert replace_first(torch.zeros(1), tensor) is tensor
    with pytest.raises(AnatomyError):
        first_tensor((None,))
