"""What follows the last step: export, proof of the export, evaluation, figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel

from steerline.analysis.infosteer.comparison_figure import comparison_figure
from steerline.analysis.infosteer.distribution_figure import distribution_figure
from steerline.analysis.infosteer.entropy_figure import entropy_figure
from steerline.analysis.infosteer.histogram import KeyHistogram
from steerline.analysis.infosteer.history import EntropyHistory
from steerline.analysis.infosteer.keys import measure_keys
from steerline.analysis.infosteer.loss_figure import loss_figure
from steerline.config.model import LocalModel, ModelSpec
from steerline.config.steering import SteeringSpec
from steerline.data.batch import Batch, collate
from steerline.data.dataset import build
from steerline.errors import SteerlineError
from steerline.evaluation.results import EvaluationResult, merge
from steerline.evaluation.tasks import evaluate
from steerline.models.anatomy import anatomy
from steerline.models.card import ModelCard
from steerline.models.export import ExportReport, export_model
from steerline.models.facts import model_facts
from steerline.models.load import LoadedModel, load_model
from steerline.models.sources import describe
from steerline.models.verify import merge_rounding, probe_logits, verify_logits
from steerline.steering.attach import attach
from steerline.steering.vmask_file import load_gate
from steerline.tracking.recorder import Recorder
from steerline.training.engine import Engine
from steerline.training.history import read_history
from steerline.training.job import Job
from steerline.training.safr_figures import draw_safr, has_safr
from steerline.training.setup import Materials, dtype_of, load_untrained
from steerline.training.workers import Workers

# Held-out rows that are read for figures: enough for a histogram, quick on a CPU.
_ROWS_FOR_FIGURES = 64


def export_and_prove(
    job: Job, materials: Materials, engine: Engine, workers: Workers, *, step: int
) -> ExportReport | None:
    """Write the model, as it is after `step`, as a Hugging Face folder, reload it and compare logits.

    Every worker calls this; the engine is closed. Returns the report on worker 0, none elsewhere.

    Raises:
        ModelError: on every worker, when the export cannot be written or computes something else.
    """
    objective = materials.objective
    objective.detach()
    expected = probe_logits(objective.model, materials.tokenizer)
    weights, gate = engine.state_dict(), engine.gate_state_dict()
    model, attention = objective.model, objective.model.config._attn_implementation
    report, error = None, None
    if workers.is_first:
        try:
            about = card(job, materials, step)
            kept = gate if about.gate == "saved" else None
            report = export_model(weights, model, materials.tokenizer, job.export, about, replace=True, gate=kept)
            _prove(job, expected, attention, workers.device)
        except SteerlineError as found:
            error = found
    engine.close()
    failed = workers.first_error(error)
    if failed is not None:
        raise failed
    return report


def _prove(job: Job, expected: tuple[Tensor, ...], attention: str, device: torch.device) -> None:
    # Merged adapters add B A to the weights before the product and not after it.
    tolerance = 0.0 if job.spec.model.lora is None else merge_rounding(expected)
    verify_logits(
        expected,
        job.export,
        dtype=dtype_of(job),
        attention=attention,
        device=device,
        tolerance=tolerance,
        trust_remote_code=job.spec.model.trust_remote_code,
    )


def card(job: Job, materials: Materials, step: int) -> ModelCard:
    """The model card of the run's export, whose weights are those after `step`."""
    spec = job.spec
    steering = spec.objective.steering
    return ModelCard(
        name=job.name,
        base_model=describe(spec.model.source),
        base_licence=model_facts(spec.model).licence,
        config_hash=job.config_hash,
        run_id=None if job.run is None else job.run.run_id,
        step=step,
        precision=spec.training.precision,
        data={"train": materials.train.digest},
        steering=None if steering == SteeringSpec() else steering.model_dump(mode="json"),
        classes=spec.classes,
        gate=_fate_of_gate(materials, steering),
    )


def _fate_of_gate(materials: Materials, steering: SteeringSpec) -> Literal["saved", "left out"] | None:
    if materials.objective.gate is None or steering.vmask is None:
        return None
    return "saved" if steering.vmask.apply == "multiply" else "left out"


def exported(job: Job, device: torch.device) -> LoadedModel:
    """The exported model, in the precision of training."""
    spec = ModelSpec(
        source=LocalModel(kind="local", path=str(job.export)),
        attention=job.spec.model.attention,
        trust_remote_code=job.spec.model.trust_remote_code,
    )
    loaded = load_model(spec, dtype=dtype_of(job), classes=job.spec.classes)
    return LoadedModel(loaded.model.to(device), loaded.tokenizer)


def base(job: Job, device: torch.device) -> LoadedModel:
    """The untrained model, in the precision of training."""
    loaded = load_untrained(job)
    return LoadedModel(loaded.model.to(device), loaded.tokenizer)


def evaluate_model(
    job: Job, loaded: LoadedModel, workers: Workers, *, steered: bool, say: Callable[[str], None]
) -> EvaluationResult:
    """Evaluate, each worker its share of the items; the whole result on every worker.

    Args:
        job: names the tasks and whether the boost acts.
        loaded: the model.
        workers: all of them.
        steered: attach the run's steering as `evaluation.steering` says; the base model has none.
        say: told of progress on worker 0.

    Raises:
        EvaluationError, DataError: on every worker.
    """
    spec = job.spec.evaluation
    steering = _steering_in_evaluation(job) if steered else SteeringSpec()
    result, error = None, None
    said: dict[str, int] = {}

    def progress(task: str, done: int, total: int) -> None:
        tenth = 10 * done // max(1, total)
        if workers.is_first and said.get(task) != tenth:
            said[task] = tenth
            say(f"steerline: evaluating {task} {done}/{total}")

    sites = anatomy(loaded.model, job.spec.model.sites)
    with attach(loaded.model, steering, anatomy=sites, seed=job.spec.seed) as attachment:
        attachment.phase = "eval"
        try:
            if attachment.safr.vmask.added is not None:
                load_gate(attachment, job.export)
            result = evaluate(
                loaded.model,
                loaded.tokenizer,
                spec,
                rank=workers.rank,
                world_size=workers.world_size,
                max_length=job.spec.data.max_length_tokens,
                on_progress=progress,
            )
        except SteerlineError as found:
            error = found
    failed = workers.first_error(error)
    if failed is not None:
        raise failed
    return merge([share for share in workers.gather(result) if share is not None])


def _steering_in_evaluation(job: Job) -> SteeringSpec:
    steering, wanted = job.spec.objective.steering, job.spec.evaluation.steering
    # A gate that multiplies is a part of the model, whatever steers it.
    vmask = steering.vmask if steering.vmask is not None and steering.vmask.apply == "multiply" else None
    if wanted == "off":
        return SteeringSpec(vmask=vmask)
    boost, scale = steering.boost, steering.residual_scale
    if wanted == "on":
        boost = None if boost is None else boost.model_copy(update={"active_in": "both"})
        scale = None if scale is None else scale.model_copy(update={"active_in": "both"})
    return SteeringSpec(boost=boost, residual_scale=scale, vmask=vmask)


def draw(job: Job, recorder: Recorder, results: Mapping[str, EvaluationResult], workers: Workers) -> None:
    """Record the run's figures: losses, key entropy, shift of the keys against the base, accuracies, SAFR's."""
    import matplotlib as mpl

    mpl.use("Agg")
    history = {name: list(steps.items()) for name, steps in read_history(job.folder).items()}
    recorder.figure(loss_figure({job.name: history}), "figures/losses.png")
    for phase in ("train", "heldout"):
        prefix = f"{phase}/key_entropy/"
        if any(name.startswith(prefix) for name in history):
            entropy = EntropyHistory.from_metrics(history, prefix=prefix)
            recorder.figure(entropy_figure({job.name: entropy}), f"figures/key_entropy_{phase}.png")
    if results:
        recorder.figure(comparison_figure(results), "figures/accuracy.png")
    if job.spec.data.heldout:
        _draw_keys(job, recorder, workers)
    if has_safr(job.spec.objective.steering):
        trained = exported(job, workers.device)
        draw_safr(
            recorder,
            job.spec.objective.steering,
            job.name,
            history,
            {"base": lambda: base(job, workers.device).model, job.name: lambda: trained.model},
            trained.tokenizer,
            _heldout_batches(job, trained, workers) if job.spec.data.heldout else (),
            sites=job.spec.model.sites,
            seed=job.spec.seed,
        )


def _heldout_batches(job: Job, trained: LoadedModel, workers: Workers) -> list[Batch]:
    size, pad = job.spec.training.micro_batch_size, trained.tokenizer.pad_token_id
    rows = build(job.spec.data.heldout, job.spec.data, trained.tokenizer, job.spec.seed).rows[:_ROWS_FOR_FIGURES]
    return [collate(rows[i : i + size], pad).to(workers.device) for i in range(0, len(rows), size)]


def _draw_keys(job: Job, recorder: Recorder, workers: Workers) -> None:
    trained = exported(job, workers.device)
    batches = _heldout_batches(job, trained, workers)

    def histogram(model: PreTrainedModel) -> KeyHistogram:
        return measure_keys(model, batches, sites=anatomy(model, job.spec.model.sites)).histogram

    after = histogram(trained.model)
    before = histogram(base(job, workers.device).model)
    recorder.figure(distribution_figure(before, {job.name: after}), "figures/key_shift.png")
