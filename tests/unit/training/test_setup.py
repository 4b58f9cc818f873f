"""What a worker gathers before the first step."""

from __future__ import annotations

from pathlib import Path

import pytest

from steerline.errors import AnatomyError, DataError
from steerline.training.setup import gather_materials
from tests.law.runs import tiny_job

BLOOM = {
    "kind": "random",
    "architecture": "bloom",
    "overrides": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
}


def test_a_model_that_would_mix_packed_examples_is_refused_before_the_first_step(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="see each other"):
        gather_materials(tiny_job(tmp_path, model__source=BLOOM, model__attention="eager", data__packing=True))


def test_the_same_model_is_trained_without_packing(tmp_path: Path) -> None:
    materials = gather_materials(tiny_job(tmp_path, model__source=BLOOM, model__attention="eager"))
    assert len(materials.train) == 40


def test_sites_named_by_hand_are_proven_before_the_first_step(tmp_path: Path) -> None:
    gather_materials(tiny_job(tmp_path / "good", model__sites={"block_out": "transformer.h.{layer}"}))
    # This one exists in every layer, and is three times as wide.
    attention = {"block_out": "transformer.h.{layer}.attn.c_attn"}
    with pytest.raises(AnatomyError, match="another shape"):
        gather_materials(tiny_job(tmp_path / "bad", model__sites=attention))
