"""The objectives that must obey the laws. A new objective joins by adding one entry."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.distributed as dist

from steerline.config.safr import ImportanceSpec, InteractionSpec, VmaskSpec
from steerline.config.steering import BoostSpec, EntropySpec, SteeringSpec
from steerline.config.training import ObjectiveSpec
from steerline.data.batch import Batch, Row, collate
from steerline.data.tokens import TokenizedExample
from steerline.steering.ops import Picked
from steerline.steering.recording import Selection
from steerline.training.objective import ObjectiveModel

OBJECTIVES: dict[str, ObjectiveSpec] = {
    "plain": ObjectiveSpec(),
    "boost_recommended": ObjectiveSpec(
        steering=SteeringSpec(boost=BoostSpec(fraction=0.1, select="magnitude", mean="abs", keep_sign=True))
    ),
    "boost_literal": ObjectiveSpec(steering=SteeringSpec(boost=BoostSpec(fraction=0.1))),
    "entropy": ObjectiveSpec(steering=SteeringSpec(entropy=EntropySpec(strength=0.1))),
    # Between them every site, form and weight, with InfoSteer's regulariser beside SAFR's terms.
    "safr_and_entropy": ObjectiveSpec(
        steering=SteeringSpec(
            entropy=EntropySpec(strength=0.1),
            importance=ImportanceSpec(strength=0.3, site="block_out", weights="vmask"),
            interaction=InteractionSpec(strength=0.7),
            vmask=VmaskSpec(hidden_size=16, entropy_strength=0.2),
        )
    ),
    "safr_on_neurons": ObjectiveSpec(
        steering=SteeringSpec(
            importance=ImportanceSpec(strength=0.5, variant="cosine", site="ffn_keys", center=True),
            interaction=InteractionSpec(strength=0.4, form="hidden", layers=(1,), drop_first_token=True),
            vmask=VmaskSpec(hidden_size=16, apply="multiply"),
        )
    ),
}
AT_STRENGTH_ZERO: dict[str, ObjectiveSpec] = {
    "boost": ObjectiveSpec(steering=SteeringSpec(boost=BoostSpec(strength=0))),
    "entropy": ObjectiveSpec(steering=SteeringSpec(entropy=EntropySpec(strength=0))),
    "safr": ObjectiveSpec(
        steering=SteeringSpec(
            importance=ImportanceSpec(strength=0, weights="vmask"),
            interaction=InteractionSpec(strength=0),
            vmask=VmaskSpec(hidden_size=16),
        )
    ),
}


@pytest.fixture(scope="session")
def process_group() -> Iterator[None]:
    """A process group of one, as a training worker has it."""
    place = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    os.environ.update(place)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()
    for name in place:
        del os.environ[name]


def sample_rows(seed: int = 0) -> list[Row]:
    """Eight rows of one example each, of unlike lengths; the loss falls on a part of each."""
    rng = np.random.default_rng(seed)
    rows = []
    for index, length in enumerate([9, 17, 5, 12, 3, 21, 8, 14]):
        ids = rng.integers(1, 200, length).astype(np.int32)
        rows.append((TokenizedExample(id=f"e{index}", input_ids=ids, targets=np.arange(length) >= length // 3),))
    return rows


def packed(rows: list[Row]) -> list[Row]:
    """The same examples, two to a row."""
    return [rows[i] + rows[i + 1] for i in range(0, len(rows), 2)]


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], relative: float) -> None:
    """Each tensor equals the expected one, up to `relative` of its largest entry."""
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        scale = max(float(tensor.abs().max()), 1e-30)
        deviation = float((found[name] - tensor).abs().max()) / scale
        assert deviation <= relative, f"{name} deviates by {deviation:.2e} of its largest entry"


class Picks:
    """The keys that a boost picks for each token of some examples, to be replayed in any batch of them.

    Picking by rank jumps where rounding swaps two ranks. With one pick for all, float32 computations that differ by
    rounding alone can be compared.
    """

    def __init__(self, module: ObjectiveModel, rows: list[Row]) -> None:
        self._of: dict[str, dict[int, Picked]] = {}
        for row in rows:
            with torch.no_grad(), module.steering.recording_selection() as selection:
                module.model(**collate([row], 0, 1).model_inputs(module.model.config))
            self._of[row[0].id] = dict(selection.layers)

    def of(self, batch: Batch) -> Selection:
        """The picks [B * T, n] of each layer; any keys at all on padding."""
        layers = {}
        for layer, sample in next(iter(self._of.values())).items():
            n = sample.indices.shape[1]
            indices = torch.arange(n, dtype=torch.int32).repeat(*batch.input_ids.shape, 1)
            signs = torch.ones(*batch.input_ids.shape, n, dtype=torch.int8)
            for row, names in enumerate(batch.sample_ids):
                for number, name in enumerate(names, start=1):
                    tokens = batch.segment_ids[row] == number
                    indices[row, tokens], signs[row, tokens] = self._of[name][layer]
            layers[layer] = Picked(indices.flatten(0, 1), signs.flatten(0, 1))
        return Selection(layers)
