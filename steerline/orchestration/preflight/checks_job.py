"""What the config alone can be judged by: batch arithmetic, schedules, settings that have no effect."""

from __future__ import annotations

from collections.abc import Iterator

from steerline.config.safr import ImportanceSpec, InteractionSpec
from steerline.config.steering import BoostSpec, EntropySpec
from steerline.orchestration.preflight.core import Finding, ModelScene, Scene, failure, warning

_MANY = 8
_Mechanism = BoostSpec | EntropySpec | ImportanceSpec | InteractionSpec


def batch(scene: Scene) -> Iterator[Finding]:
    """Every worker takes the same number of whole micro batches in each step."""
    training, workers = scene.spec.training, scene.spec.cluster.num_workers
    rows, micro = training.global_batch_size, training.micro_batch_size
    together = workers * micro
    if rows % together == 0:
        return
    fits = [f"`training.global_batch_size` a multiple of {together}, e.g. {max(1, round(rows / together)) * together}"]
    if rows % workers == 0:
        fits.append(f"`training.micro_batch_size` one of {_some(_divisors(rows // workers))}")
    fits.append(f"`cluster.num_workers` one of {_some(_divisors(rows // micro))}")
    yield failure(
        f"a batch of {rows} rows cannot be shared by {workers} workers in whole micro batches of {micro}",
        path="training.global_batch_size",
        got=f"{rows} / ({workers} x {micro}) = {rows / together:.3g} accumulation steps",
        expected="`global_batch_size` = accumulation steps x `num_workers` x `micro_batch_size`",
        fix="set " + ", or ".join(fits),
    )


def _divisors(number: int) -> list[int]:
    return [n for n in range(1, number + 1) if number % n == 0]


def _some(numbers: list[int]) -> str:
    # The largest are the interesting ones.
    return str(numbers) if len(numbers) <= _MANY else "[1, ..., " + str(numbers[-_MANY:])[1:]


def schedule(scene: Scene) -> Iterator[Finding]:
    """Warm-ups that are longer than the run."""
    training = scene.spec.training
    steps = training.num_steps
    if steps is None:
        return
    warmup = training.schedule.warmup_steps
    if warmup >= steps:
        reached = training.optimizer.learning_rate * steps / warmup
        yield warning(
            "the learning rate is still warming up when the run ends",
            path="training.schedule.warmup_steps",
            got=f"{warmup} of {steps} steps; it reaches {reached:.2g} of {training.optimizer.learning_rate:.2g}",
            fix=f"set `training.schedule.warmup_steps` to {max(1, steps // 10)}, a tenth of the run",
        )
    for name, part in _mechanisms(scene):
        if part.schedule.warmup_steps >= steps:
            yield warning(
                "the strength is still warming up when the run ends",
                path=f"objective.steering.{name}.schedule.warmup_steps",
                got=f"{part.schedule.warmup_steps} of {steps} steps",
                fix="shorten the warm-up",
            )


def _mechanisms(scene: Scene) -> Iterator[tuple[str, _Mechanism]]:
    steering = scene.spec.objective.steering
    parts: tuple[tuple[str, _Mechanism | None], ...] = (
        ("boost", steering.boost),
        ("entropy", steering.entropy),
        ("importance", steering.importance),
        ("interaction", steering.interaction),
    )
    for name, part in parts:
        if part is not None:
            yield name, part


def steering(scene: Scene) -> Iterator[Finding]:
    """The literal reading of the boost, and layers that the model does not have."""
    boost = scene.spec.objective.steering.boost
    if boost is not None and boost.strength > 0 and _is_literal(boost):
        yield warning(
            "the literal reading of the boost erases strong negative keys of gated models",
            path="objective.steering.boost.select",
            got="select: value, mean: signed (SmolLM2-135M's loss goes from 3.295 to 10.206 nats per token, with the "
            "settings below to 3.308: `python -m benchmarks.readings`)",
            fix="set `select: magnitude`, `mean: abs`, `keep_sign: true`, unless you study the literal text",
        )
    depth = scene.model.num_layers
    for name, part in _mechanisms(scene):
        beyond = [layer for layer in part.layers if isinstance(layer, int) and layer >= (depth or layer + 1)]
        if beyond:
            yield failure(
                f"the model has {depth} layers",
                path=f"objective.steering.{name}.layers",
                got=f"layers {beyond}",
                expected=f"0 to {(depth or 0) - 1}",
            )


def _is_literal(boost: BoostSpec) -> bool:
    return boost.select == "value" and boost.mean == "signed" and boost.control == "none"


def effect(scene: Scene) -> Iterator[Finding]:
    """Settings that do nothing, or less than they seem to."""
    spec = scene.spec
    offloads = {"offload_optimizer": spec.zero.offload_optimizer, "offload_parameters": spec.zero.offload_parameters}
    for name, is_on in offloads.items():
        if is_on and not spec.cluster.use_gpu:
            yield warning(
                "offloading does nothing on CPU: that memory is host memory already",
                path=f"zero.{name}",
                fix="set `cluster.use_gpu: true`, or leave it out",
            )
    for name in ("heldout_every_steps", "heldout_every_epochs"):
        if getattr(spec.training, name) is not None and not spec.data.heldout:
            yield warning("there is no held-out data to measure", path=f"training.{name}", fix="set `data.heldout`")
    if spec.evaluation.steering == "on" and spec.objective.steering.boost is None:
        yield warning(
            "there is no boost to switch on", path="evaluation.steering", fix="set `objective.steering.boost`"
        )
    if spec.training.keep_checkpoints == 1:
        yield warning(
            "one checkpoint is kept, so nothing is left if it is damaged",
            path="training.keep_checkpoints",
            fix="keep 2 or more",
        )


def leakage(scene: Scene) -> Iterator[Finding]:
    """Held-out or evaluation rows that were trained on."""
    data = scene.spec.data
    trained = [dataset.source for dataset in data.train]
    judged = [(f"data.heldout.{index}.source", dataset) for index, dataset in enumerate(data.heldout)]
    judged += [
        (f"evaluation.tasks.{i}.dataset.source", task.dataset) for i, task in enumerate(scene.spec.evaluation.tasks)
    ]
    for path, dataset in judged:
        if dataset.source in trained:
            yield warning(
                "the model is judged by rows of the source that it is trained on",
                path=path,
                got=f"the same source as data.train.{trained.index(dataset.source)}",
                fix="use another split",
            )


def trust(scene: ModelScene) -> Iterator[Finding]:
    """Code that a model's repository carries."""
    if scene.spec.model.trust_remote_code:
        yield warning(
            "Python code from the model's repository will run on every worker",
            path="model.trust_remote_code",
            fix="leave it off unless you have read that code and pinned its commit",
        )
