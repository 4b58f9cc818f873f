from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure

from steerline.analysis.safr.reading import read_tokens
from steerline.analysis.safr.summary import summarise
from steerline.config.safr import ImportanceSpec, InteractionSpec, VmaskSpec
from steerline.config.steering import EntropySpec, SteeringSpec
from steerline.errors import SteeringError
from steerline.training import safr_figures
from steerline.training.safr_figures import affordable, draw_safr, has_safr
from tests.tiny import tiny_model, tiny_tokenizer
from tests.unit.analysis.test_safr_reading import as_rows_of_a_class, batch, classifier

TEXTS = ("a first text to look at", "another, somewhat longer text")
HISTORY = {"train/loss_ce": [(0, 1.0), (1, 0.9)], "train/importance": [(0, 0.2), (1, 0.1)]}


@dataclass
class Kept:
    """What a recorder was given."""

    figures: dict[str, Figure] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)

    def figure(self, figure: Figure, file: str) -> None:
        self.figures[file] = figure

    def json(self, value: object, file: str) -> None:
        self.values[file] = value


def test_only_an_objective_with_safr_has_its_figures() -> None:
    assert not has_safr(SteeringSpec(entropy=EntropySpec()))
    assert has_safr(SteeringSpec(vmask=VmaskSpec()))
    kept = Kept()
    draw_safr(kept, SteeringSpec(), "run", HISTORY, {}, tiny_tokenizer(), [batch(*TEXTS)])  # type: ignore[arg-type]
    assert not kept.figures
    assert not kept.values


@pytest.mark.parametrize("family", ["classifier", "llama", "bert"])
def test_every_figure_and_measure_is_recorded_for_each_kind_of_model(family: str) -> None:
    kept = Kept()
    made = as_rows_of_a_class(batch(*TEXTS)) if family == "classifier" else batch(*TEXTS)
    load = classifier if family == "classifier" else lambda: tiny_model(family)
    steering = SteeringSpec(importance=ImportanceSpec(center=True), interaction=InteractionSpec())
    draw_safr(kept, steering, "run", HISTORY, {"base": load, "run": load}, tiny_tokenizer(), [made])  # type: ignore[arg-type]
    names = ("terms", "allocation", "interaction", "importance", "deletion")
    assert set(kept.figures) == {f"figures/safr/{name}.png" for name in names}
    measures = kept.values["safr_measures.json"]
    assert measures["base"] == measures["run"]  # the same weights twice
    assert measures["run"]["importance_from"] == ("vmask" if family == "classifier" else "gradient_x_input")
    assert measures["run"]["capacity_ffn"]["mean"] > 0
    assert {"deletion_by_importance", "deletion_by_interaction"} <= measures["run"].keys()


def test_without_held_out_rows_the_loss_terms_alone_are_drawn() -> None:
    kept = Kept()
    draw_safr(kept, SteeringSpec(vmask=VmaskSpec()), "run", HISTORY, {"run": classifier}, tiny_tokenizer(), [])  # type: ignore[arg-type]
    assert set(kept.figures) == {"figures/safr/terms.png"}


def test_the_layers_of_the_interaction_term_are_read() -> None:
    steering = SteeringSpec(interaction=InteractionSpec(layers=(7,)))
    with pytest.raises(SteeringError):
        draw_safr(Kept(), steering, "run", HISTORY, {"run": classifier}, tiny_tokenizer(), [batch(*TEXTS)])  # type: ignore[arg-type]


def test_a_large_model_reads_fewer_rows_and_at_least_one_batch() -> None:
    batches = [batch(*TEXTS)] * 3
    assert len(affordable(batches, tiny_model("llama"))) == 3
    large = tiny_model("llama")
    with torch.device("meta"):
        large.extra = torch.nn.Linear(1 << 17, 1 << 17)
    assert len(affordable(batches, large)) == 1


@pytest.mark.parametrize("budget", [1.0, 1e13])
def test_figures_are_of_the_rows_that_the_model_can_afford(budget: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(safr_figures._BUDGET, "cpu", budget)
    found = []
    for batches in ([batch(TEXTS[0])], [batch(TEXTS[0]), batch(TEXTS[1])]):
        kept = Kept()
        draw_safr(kept, SteeringSpec(vmask=VmaskSpec()), "run", HISTORY, {"run": classifier}, tiny_tokenizer(), batches)  # type: ignore[arg-type]
        found.append(kept.values["safr_measures.json"]["run"]["capacity_block"]["mean"])
    assert (found[0] == found[1]) is (budget == 1.0)


def test_measures_are_of_centred_vectors_where_the_importance_term_is() -> None:
    found = []
    for center in (False, True):
        kept = Kept()
        steering = SteeringSpec(importance=ImportanceSpec(center=center))
        draw_safr(kept, steering, "run", HISTORY, {"run": classifier}, tiny_tokenizer(), [batch(*TEXTS)])  # type: ignore[arg-type]
        found.append(kept.values["safr_measures.json"]["run"]["capacity_block"]["mean"])
    expected = summarise(read_tokens(classifier(), [batch(*TEXTS)]), center=True).mean("capacity_block")
    assert found[1] == pytest.approx(expected)
    assert found[0] != pytest.approx(found[1])
