"""Fitting residual scales: fits share a batch and stay apart, the model stays as it is, planted scales are found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from steerline.analysis.inforidge.residual_profiles import ResidualProfiles
from steerline.config.residual_fit import FitSpec, ResidualFitSpec
from steerline.config.residual_scale import ResidualScaleSpec
from steerline.config.steering import SteeringSpec
from steerline.data.batch import Row
from steerline.data.tokens import TokenizedExample
from steerline.errors import DataError, NonFiniteLossError
from steerline.models.anatomy import anatomy
from steerline.steering import attach
from steerline.training.residual_fit import ScaledModel, fit_scales
from steerline.training.residual_fit_job import PROFILES_FILE, fit_and_judge
from steerline.training.residual_fit_scores import score
from tests.tiny import tiny_model

SOURCE = {"kind": "synthetic", "generator": "signal_noise", "size": 12, "args": {"layout": "spaced", "elements": 3}}
ASK = {"kind": "prompt_answer", "prompt": "{prompt}", "answer": "{answer}"}


def dataset(seed: int, **args: object) -> dict[str, object]:
    return {"source": {**SOURCE, "seed": seed, "args": {**SOURCE["args"], **args}}, "format": ASK}  # type: ignore[dict-item]


def job(**changes: object) -> ResidualFitSpec:
    small = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    words = {"kind": "words", "min_frequency": 1, "end_of_text": "<eos>"}
    source = {"kind": "random", "architecture": "llama", "overrides": small, "tokenizer": words}
    splits = [
        {"name": name, "train": [dataset(0, split=name)], "heldout": [dataset(1, split=name)]} for name in ("id", "ood")
    ]
    fit = {"seeds": (0, 1), "num_steps": 3, "rows_per_step": 4}
    whole = {"kind": "residual_scale", "name": "tiny", "model": {"source": source}, "splits": splits, "fit": fit}
    return ResidualFitSpec.model_validate({**whole, "single_token": True, **changes})


def rows(seed: int, count: int = 8) -> list[Row]:
    rng = np.random.default_rng(seed)
    made = []
    for index in range(count):
        ids = rng.integers(4, 200, rng.integers(5, 12)).astype(np.int32)
        made.append((TokenizedExample(f"e{index}", ids, np.arange(len(ids)) >= 3),))
    return made


def scaled(spec: FitSpec, model: PreTrainedModel | None = None) -> ScaledModel:
    model = tiny_model("gpt2", dtype=torch.float64) if model is None else model
    return ScaledModel(model, anatomy(model), spec, 0)


@pytest.mark.parametrize("positivity", ["clamp", "softplus"])
@pytest.mark.parametrize("split", [False, True])
def test_fits_of_one_batch_equal_fits_of_their_own(split: bool, positivity: str) -> None:
    settings = {"split": split, "positivity": positivity, "num_steps": 4, "rows_per_step": 3, "learning_rate": 0.3}
    spec = FitSpec.model_validate({**settings, "seeds": (0, 1), "batch_tokens": 64})
    sets = [rows(0), rows(1)]
    with scaled(spec) as model:
        together = fit_scales(model, sets, spec)
    for index, seed in enumerate(spec.seeds):
        for number, part in enumerate(sets):
            alone = spec.model_copy(update={"seeds": (seed,), "batch_tokens": 4096})
            with scaled(alone) as model:
                found = fit_scales(model, [part], alone)
            torch.testing.assert_close(found.betas[0], together.betas[2 * number + index], rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(found.losses[:, 0], together.losses[:, 2 * number + index])
    assert bool((together.betas >= 0).all())


def test_a_fit_lowers_the_loss_and_leaves_the_model_as_it_was() -> None:
    model = tiny_model("llama")
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    spec = FitSpec(seeds=(0,), num_steps=30, rows_per_step=8, learning_rate=0.05)
    with scaled(spec, model) as frozen:
        found = fit_scales(frozen, [rows(0)], spec)
    assert found.losses[-1, 0] < found.losses[0, 0] - 0.05
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_block_that_was_weakened_is_found() -> None:
    model = tiny_model("gpt2", num_layers=3)
    taught = SteeringSpec(residual_scale=ResidualScaleSpec(betas=(1.0, 0.2, 1.0)))
    data = rows(3, 24)
    with attach(model, taught), torch.no_grad():
        for ((example,),) in zip(data, strict=True):
            # What the changed model would say is what is to be fitted.
            logits = model(input_ids=torch.from_numpy(example.input_ids).long()[None]).logits[0]
            example.input_ids[-1] = logits[-2].argmax()
            example.targets[:-1] = False
    spec = FitSpec(seeds=(0,), num_steps=60, rows_per_step=24, learning_rate=0.05)
    with scaled(spec, model) as frozen:
        betas = fit_scales(frozen, [data], spec).betas[0, 0]
    assert betas[1] < 0.6
    assert int(betas.argmin()) == 1


def test_sets_of_scales_are_judged_in_one_pass_as_apart_and_ones_are_the_plain_model() -> None:
    spec = FitSpec(seeds=(0,))
    data, sets = rows(0), 0.5 + torch.rand(3, 1, 2, dtype=torch.float64)
    sets[0] = 1
    with scaled(spec) as model:
        right, loss = score(model, data, sets, end_of_text=2, batch_tokens=70)
        for index in range(3):
            one = score(model, data, sets[index : index + 1], end_of_text=2, batch_tokens=4096)
            np.testing.assert_allclose(one[1][0], loss[index], rtol=1e-9)
            np.testing.assert_array_equal(one[0][0], right[index])
        logits, targets, _ = model.logits([data[0]], None)
    plain = torch.nn.functional.cross_entropy(logits, targets)
    assert loss[0, 0] == pytest.approx(plain.item(), rel=1e-9)


def test_an_item_is_right_where_every_token_of_its_answer_is_the_likeliest_but_for_the_end_of_text() -> None:
    model = tiny_model("gpt2", dtype=torch.float64)
    ids = np.array([5, 9, 30, 77, 0, 0], dtype=np.int32)
    with torch.no_grad():
        for place in (4, 5):
            prefix = torch.from_numpy(ids[:place]).long()[None]
            ids[place] = int(model(input_ids=prefix).logits[0, -1].argmax())
    likely = TokenizedExample("likely", ids.copy(), np.arange(6) >= 4)
    ids[5] = 99
    missed = TokenizedExample("missed", ids.copy(), np.arange(6) >= 4)
    plain = torch.ones(1, 1, 2, dtype=torch.float64)
    with scaled(FitSpec(), model) as frozen:
        assert score(frozen, [(likely,), (missed,)], plain, end_of_text=2, batch_tokens=99)[0].tolist() == [[1, 0]]
        assert score(frozen, [(missed,)], plain, end_of_text=99, batch_tokens=99)[0].tolist() == [[1]]


def test_a_loss_that_is_not_finite_ends_the_fit() -> None:
    model = tiny_model("gpt2")
    with torch.no_grad():
        model.get_output_embeddings().weight[0, 0] = float("nan")
    with scaled(FitSpec(), model) as frozen, pytest.raises(NonFiniteLossError, match="fit 0"):
        fit_scales(frozen, [rows(0)], FitSpec(seeds=(0,), num_steps=1))


def test_a_job_leaves_profiles_that_load_again_and_tells_every_effect(tmp_path: Path) -> None:
    said: list[str] = []
    outcome = fit_and_judge(job(), tmp_path, said.append)
    profiles = ResidualProfiles.load(tmp_path / PROFILES_FILE)
    assert profiles.betas.shape == (2, 2, 1, 3)
    assert profiles.losses.shape == (2, 2, 3)
    assert [judged.correct_after.shape for judged in profiles.judged] == [(2, 2, 12)] * 2
    assert outcome.state == "finished"
    assert {"before/id/accuracy", "fitted_on_ood/id/loss", "fitted_on_id/ood/accuracy"} <= outcome.metrics.keys()
    assert sum(line.startswith("steerline: | ") for line in said) == 5
    assert any("step=3/3 loss_id=" in line for line in said)


def test_answers_of_several_tokens_are_refused_where_one_is_asked_for(tmp_path: Path) -> None:
    byte_level = {
        "source": {"kind": "random", "architecture": "gpt2", "overrides": {"n_layer": 1, "n_embd": 16, "n_head": 2}}
    }
    with pytest.raises(DataError, match="not a single token"):
        fit_and_judge(job(model=byte_level), tmp_path, print)
