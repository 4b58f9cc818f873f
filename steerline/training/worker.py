"""What each training worker does, from an empty process to a finished run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from steerline.errors import AnatomyError, EvaluationError, NonFiniteLossError, SteerlineError
from steerline.evaluation.report import markdown, metrics
from steerline.evaluation.results import EvaluationResult
from steerline.progress import format_progress
from steerline.tracking.recorder import Recorder
from steerline.tracking.system_metrics import SystemMonitor
from steerline.training.checkpoint import Checkpoint, CheckpointStore
from steerline.training.finishing import base, draw, evaluate_model, export_and_prove, exported
from steerline.training.history import History, read_history
from steerline.training.job import Failure, Job, Outcome, evaluation_config
from steerline.training.loop import Ending, Loop, Observer
from steerline.training.setup import Materials, back_at, build_engine, gather_materials, state_identity
from steerline.training.workers import Workers

Say = Callable[[str], None]
_SHOWN = {"train/loss": "loss", "train/grad_norm": "grad_norm", "train/tokens_per_s": "tokens_per_s"}


@dataclass(frozen=True)
class Surroundings:
    """What a worker needs from whoever started it.

    Args:
        workers: all of them.
        say: told one line of progress at a time, on worker 0.
        leaving: asked after every step, on all workers: true when this place is about to go away, so save now.
    """

    workers: Workers
    say: Say
    leaving: Callable[[], bool]


def work(job: Job, around: Surroundings) -> Outcome | Failure:
    """Train (or go on training), export, evaluate. The outcome is the same on every worker.

    Returns a failure where all workers met the same error at the same point, because trying again would meet it again;
    raises where only this one did, or where another try may succeed.
    """
    workers = around.workers
    before = Outcome.load(job.folder)
    try:
        with _recording(job, workers) as recorder:
            if before is None or before.state != "finished":
                before = _train(job, around, recorder)
            return before if before.state == "stopped" else _judge(job, around, recorder, before)
    except _SharedError as shared:
        return Failure(shared.error)
    except NonFiniteLossError as error:
        return Failure(error)
    except SteerlineError as error:
        if workers.world_size == 1:
            return Failure(error)
        raise


class _SharedError(Exception):
    """Every worker raises it at the same point."""

    def __init__(self, error: SteerlineError) -> None:
        super().__init__(str(error))
        self.error = error


@contextmanager
def _shared() -> Iterator[None]:
    """Around steps whose errors are raised on every worker."""
    try:
        yield
    except SteerlineError as error:
        raise _SharedError(error) from error


@contextmanager
def _recording(job: Job, workers: Workers) -> Iterator[Recorder | None]:
    if job.run is None or not workers.is_first:
        yield None
        return
    every_s = job.spec.tracking.system_metrics_every_s
    with Recorder(job.run, job.spool) as recorder:
        if every_s is None:
            yield recorder
            return
        with SystemMonitor(recorder, every_s, disk=job.folder):
            yield recorder


def _train(job: Job, around: Surroundings, recorder: Recorder | None) -> Outcome:
    workers = around.workers
    materials, error = None, None
    try:
        materials = gather_materials(job)
    except SteerlineError as found:
        error = found
    failed = workers.first_error(error)
    if failed is not None:
        raise _SharedError(failed)
    assert materials is not None
    _record_inputs(job, materials, recorder)
    store = CheckpointStore(job.checkpoints, job.spec.training.keep_checkpoints)
    with _shared():
        engine, checkpoint = build_engine(job, materials, store, workers, around.say)
    constants = materials.objective.balance
    if recorder is not None and constants:
        recorder.params({f"objective.balance.constant.{name}": value for name, value in constants.items()})
    loop = Loop(
        engine,
        materials.course,
        job.spec.training,
        workers,
        store,
        identity=state_identity(job, materials),
        observe=_observer(job, materials.course.num_steps, around.say, recorder),
        leaving=around.leaving,
        stopping=job.stop_request.exists,
        saved=_saved(recorder),
    )
    ending = loop.run(checkpoint)
    outcome = Outcome(
        job.name, "stopped", ending.step, materials.course.num_steps, files={"checkpoint": str(store.path(ending.step))}
    )
    if ending.reason == "asked":
        return outcome
    _tell(ending, around, recorder)
    chosen = ending.chosen
    with _shared():
        if chosen != ending.step:
            engine.close()
            materials, engine = back_at(chosen, job, materials, store, workers)
        report = export_and_prove(job, materials, engine, workers, step=chosen)
    if recorder is not None and report is not None:
        recorder.exported_model(
            "export",
            job.export,
            chosen,
            digests=report.files,
            parents={"checkpoint": store.path(chosen).name.replace("step", "checkpoint")},
            upload_weights=job.spec.tracking.upload_weights,
        )
    return replace(
        outcome,
        state="finished",
        files={"checkpoint": str(store.path(chosen)), "export": str(job.export)},
        best_step=None if ending.early_stopping is None else ending.early_stopping.best_step,
        ended_because=ending.why,
    )


def _tell(ending: Ending, around: Surroundings, recorder: Recorder | None) -> None:
    """Say and record which step was the best, and why the run ended."""
    early = ending.early_stopping
    if early is None or not around.workers.is_first:
        return
    why = ending.why or "it was the last step"
    around.say(f"steerline: training ended after step {ending.step}: {why}")
    if early.best_step is not None and early.best_value is not None:
        around.say(f"steerline: step {early.best_step} was the best: {early.spec.metric} {early.best_value:.6g}")
    if recorder is not None:
        recorder.tags({"steerline.ended_because": why, "steerline.best_step": str(early.best_step)})


def _judge(job: Job, around: Surroundings, recorder: Recorder | None, outcome: Outcome) -> Outcome:
    workers, spec = around.workers, job.spec.evaluation
    values: dict[str, float] = {}
    files: dict[str, str] = {}
    results: dict[str, EvaluationResult] = {}
    if spec.tasks:
        with _shared():
            model = exported(job, workers.device)
            results[job.name] = evaluate_model(job, model, workers, steered=True, say=around.say)
            if spec.include_base:
                untrained = base(job, workers.device)
                results["base"] = evaluate_model(job, untrained, workers, steered=False, say=around.say)
    if workers.is_first:
        values = _followed(job, outcome)
        for name, result in results.items():
            own = name == job.name
            files |= _keep_evaluation(job, result, "evaluation" if own else "evaluation_base", recorder)
            found = metrics(result, prefix="eval" if own else "eval_base")
            values |= found
            if recorder is not None:
                recorder.metrics(found, outcome.best_step or outcome.step)
        if recorder is not None:
            _draw(job, around, recorder, results)
    values, files = workers.from_first((values, files))
    done = replace(
        outcome, metrics=values, files=outcome.files | files, evaluated_as=evaluation_config(job.spec), error=None
    )
    if workers.is_first:
        done.save(job.folder)
    workers.barrier()
    return done


def _draw(job: Job, around: Surroundings, recorder: Recorder, results: Mapping[str, EvaluationResult]) -> None:
    """The figures. A model that cannot be read for them is trained and judged all the same: this is said, and kept."""
    try:
        draw(job, recorder, results, around.workers)
    except (AnatomyError, EvaluationError) as error:
        around.say(f"steerline: not every figure could be drawn: {error}")
        recorder.text(str(error), "figures/not_drawn.txt")


def _followed(job: Job, outcome: Outcome) -> dict[str, float]:
    """Losses and accuracies at the best step where there is one, else the last of each."""
    found = {}
    for name, steps in read_history(job.folder).items():
        if "/loss" in name or name.endswith("/accuracy"):
            found[name] = steps.get(outcome.best_step or max(steps), steps[max(steps)])
    return found


def _keep_evaluation(job: Job, result: EvaluationResult, name: str, recorder: Recorder | None) -> dict[str, str]:
    path = job.folder / f"{name}.json"
    result.save(path)
    if recorder is not None:
        recorder.artifact(path)
        recorder.text(markdown(result), f"{name}.md")
    return {name: str(path)}


def _observer(job: Job, num_steps: int, say: Say, recorder: Recorder | None) -> Observer:
    history = History(job.folder)

    def observe(values: Mapping[str, float], step: int) -> None:
        history.append(values, step)
        if recorder is not None:
            recorder.metrics(values, step)
        shown = {short: values[name] for name, short in _SHOWN.items() if name in values}
        if shown:
            say(format_progress(step, num_steps, shown))
        elif "heldout/loss" in values:
            accuracy = f", accuracy {values['heldout/accuracy']:.4f}" if "heldout/accuracy" in values else ""
            say(f"steerline: held-out loss {values['heldout/loss']:.5g}{accuracy} after step {step}")

    return observe


def _saved(recorder: Recorder | None) -> Callable[[Checkpoint], None]:
    def saved(checkpoint: Checkpoint) -> None:
        if recorder is not None:
            name = checkpoint.folder.name.replace("step", "checkpoint")
            facts = {key: checkpoint.state[key] for key in ("world_size", "zero_stage", "precision", "samples_seen")}
            recorder.checkpoint(
                name, str(checkpoint.folder), checkpoint.step, params=facts, digests=checkpoint.digests()
            )

    return saved


def _record_inputs(job: Job, materials: Materials, recorder: Recorder | None) -> None:
    if recorder is None:
        return
    for context, data, specs in (
        ("training", materials.train, job.spec.data.train),
        ("heldout", materials.heldout, job.spec.data.heldout),
    ):
        if data is not None:
            source = "; ".join(spec.source.model_dump_json(exclude_none=True) for spec in specs)
            profile = {
                "tokens": data.report.tokens,
                "targets": data.report.targets,
                "efficiency": data.report.efficiency,
            }
            recorder.dataset(context, data.digest, context, source, rows=len(data), profile=profile)
