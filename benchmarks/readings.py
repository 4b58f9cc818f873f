"""What InfoSteer's edit does to a pretrained model before any training, under each reading of the paper's text.

    python -m benchmarks.readings

The loss of SmolLM2-135M on held-out text of four tasks, all tokens, with the edit acting at strength 1 and scale 1.
"""

from __future__ import annotations

import argparse

import torch

from benchmarks.results import Report, Row, save
from steerline.config.data import DatasetSpec, DataSpec, PackagedData, TaskFormat, TaskName
from steerline.config.model import ModelSpec, PackagedModel
from steerline.config.steering import BoostSpec, SteeringSpec
from steerline.config.training import ObjectiveSpec
from steerline.data.batch import collate
from steerline.data.dataset import build
from steerline.models.load import load_model
from steerline.steering.presets import PAPER_LITERAL, RECOMMENDED
from steerline.training.normaliser import Normaliser
from steerline.training.objective import ObjectiveModel
from steerline.training.workers import Workers

TASKS: tuple[TaskName, ...] = ("boolq", "piqa", "social_i_qa", "arc_easy")
READINGS = {
    "plain model": SteeringSpec(),
    "literal: value, signed": PAPER_LITERAL,
    "value, abs": SteeringSpec(boost=BoostSpec(select="value", mean="abs")),
    "magnitude, signed": SteeringSpec(boost=BoostSpec(select="magnitude", mean="signed")),
    "magnitude, abs": SteeringSpec(boost=BoostSpec(select="magnitude", mean="abs")),
    "recommended: magnitude, abs, keep_sign": RECOMMENDED,
}


def rows(items: int) -> DataSpec:
    """The first `items` validation questions of each task, every token a target."""
    sets = tuple(
        DatasetSpec(
            source=PackagedData(kind="packaged", name=f"{task}-validation"),
            format=TaskFormat(kind="task", task=task),
            limit=items,
        )
        for task in TASKS
    )
    return DataSpec(train=sets, max_length_tokens=192, overlong="drop", packing=True, loss_on="all")


@torch.no_grad()
def losses(items: int) -> dict[str, float]:
    """Cross entropy in nats per token, by reading."""
    loaded = load_model(ModelSpec(source=PackagedModel(kind="packaged", name="smollm2-135m-instruct")))
    data = rows(items)
    dataset = build(data.train, data, loaded.tokenizer, seed=0)
    batches = [collate(dataset.rows[start : start + 4], 0) for start in range(0, len(dataset), 4)]
    normaliser = Normaliser.over(batches, Workers())
    found = {}
    for name, spec in READINGS.items():
        objective = ObjectiveModel(loaded.model, ObjectiveSpec(steering=spec))
        found[name] = sum(float(objective(batch, normaliser).total) for batch in batches)
        objective.detach()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=32, help="questions of each task")
    args = parser.parse_args()
    found = losses(args.items)
    table = [Row(name, "plain model", "report", f"{loss:.3f} nats per token", None) for name, loss in found.items()]
    for row in table:
        print(f"{row.what}: {row.measured}")
    save(
        Report(
            name="readings",
            title="InfoSteer's readings on an untrained model",
            command="python -m benchmarks.readings",
            rows=table,
            notes=[f"The first {args.items} validation questions of each of {', '.join(TASKS)}; fp32, all tokens."],
        )
    )


if __name__ == "__main__":
    main()
