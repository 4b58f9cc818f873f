"""Commands about a config file: validate, preview, schema."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from steerline.cli.options import ConfigFile, Sets

if TYPE_CHECKING:
    from steerline.config.evaluate import EvaluateSpec
    from steerline.config.finetune import FinetuneSpec
    from steerline.config.kinds import JobSpec
    from steerline.config.load import Loaded
    from steerline.config.residual_fit import ResidualFitSpec
    from steerline.config.simulate import SimulateSpec
    from steerline.config.sweep import BaseSpec, SweepSpec


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (validate, preview, schema):
        app.command(rich_help_panel="Configs")(command)


def validate(
    file: ConfigFile,
    sets: Sets = [],  # noqa: B006  typer copies it
    resolved: Annotated[bool, typer.Option("--resolved", help="Print only the resolved config, as JSON.")] = False,
    provenance: Annotated[bool, typer.Option("--provenance", help="Also print where each setting comes from.")] = False,
) -> None:
    """Check a config and the cluster as `submit` does, without submitting anything.

    Shows the run's name and the arithmetic of its batch. All problems are listed at once; the exit code is 2 when the
    config cannot be read and 3 when it could not run.

    Examples:

        steerline validate jobs/configs/infosteer_smollm2.yaml

        steerline validate jobs/configs/sft_smollm2.yaml --set training.num_steps=10 --set cluster.num_workers=2

        steerline validate jobs/configs/sft_smollm2.yaml --resolved | jq .objective
    """
    from steerline.config.load import load
    from steerline.config.render import resolved_json, run_name

    loaded = load(file, sets)
    if resolved:
        typer.echo(resolved_json(loaded.spec), nl=False)
        return
    from steerline.cli.terminal import err, grid, out, warn, working
    from steerline.orchestration.check import look, reachable

    with working("looking at the cluster, the model and the data"):
        target = reachable()
        report = look(loaded, target)
    out.print(grid(_summary(loaded, target.address if target else "this machine; no cluster is up")))
    if provenance:
        out.print(grid(sorted(loaded.provenance.items())))
    for finding in report.warnings:
        warn(str(finding.problem))
    report.raise_for_problems(run_name(loaded.spec))
    err.print("[green]ready to submit[/green]")


def preview(
    file: ConfigFile,
    sets: Sets = [],  # noqa: B006
    rows: Annotated[int, typer.Option(min=1, help="Training rows to show.")] = 4,
    heldout: Annotated[bool, typer.Option("--heldout", help="Show held-out rows instead.")] = False,
) -> None:
    """Show what a model would be trained on: decoded rows with the tokens that carry the loss, packing and lengths.

    Tokens that carry the loss are marked by colour in a terminal, and by [[ ]] elsewhere.

    Examples:

        steerline preview jobs/configs/sft_smollm2.yaml

        steerline preview jobs/configs/sft_smollm2.yaml --rows 8 --set data.packing=true
    """
    from steerline.cli.preview import show
    from steerline.cli.terminal import out, working
    from steerline.config.finetune import FinetuneSpec
    from steerline.config.load import load
    from steerline.config.sweep import SweepSpec
    from steerline.data.dataset import build
    from steerline.data.load import texts_of
    from steerline.errors import DataError
    from steerline.models.load import load_tokenizer

    loaded = load(file, sets)
    if isinstance(loaded.spec, SweepSpec):
        loaded = replace(loaded, spec=loaded.spec.base)
    spec = loaded.of(FinetuneSpec).spec
    sources = spec.data.heldout if heldout else spec.data.train
    if not sources:
        raise DataError("the config names no held-out data", where=str(file), fix="add `data.heldout`")
    with working("reading the data") as tell:
        tokenizer = load_tokenizer(spec.model, lambda: texts_of(spec.data.train))
        tell("turning examples into tokens")
        dataset = build(sources, spec.data, tokenizer, spec.seed)
    show(dataset, tokenizer, out, num_rows=rows, capacity=spec.data.max_length_tokens)


def schema(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="The kind of job, e.g. finetune.")] = "finetune",
) -> None:
    """Print the JSON schema of a job's config, for editors and other programs.

    Example:

        steerline schema finetune > finetune.schema.json
    """
    from steerline.config.render import json_schema

    typer.echo(json.dumps(json_schema(kind), indent=2))


def _summary(loaded: Loaded[JobSpec], judged_against: str) -> list[tuple[str, str]]:
    from steerline.config.render import identity_hash, run_name
    from steerline.config.sweep import SweepSpec

    spec = loaded.spec
    return [
        ("run", run_name(spec)),
        ("identity", identity_hash(spec)),
        ("layers", " < ".join(map(str, loaded.layers))),
        *(_sweep_summary(spec) if isinstance(spec, SweepSpec) else _work_summary(spec)),
        ("judged for", judged_against),
    ]


def _work_summary(spec: BaseSpec | SimulateSpec) -> list[tuple[str, str]]:
    from steerline.config.evaluate import EvaluateSpec
    from steerline.config.residual_fit import ResidualFitSpec
    from steerline.config.simulate import SimulateSpec

    if isinstance(spec, SimulateSpec):
        return _simulations_summary(spec)
    if isinstance(spec, ResidualFitSpec):
        return _fit_summary(spec)
    if isinstance(spec, EvaluateSpec):
        return [("tasks", ", ".join(task.name for task in spec.evaluation.tasks)), ("points", _points(spec))]
    return _training_summary(spec)


def _training_summary(spec: FinetuneSpec) -> list[tuple[str, str]]:
    training = spec.training
    length = f"{training.num_steps} steps" if training.num_steps else f"{training.num_epochs:g} epochs"
    return [("batch", batch_arithmetic(spec)), ("length", length)]


def _points(spec: EvaluateSpec) -> str:
    return ", ".join(["the plain model", *spec.points])


def _simulations_summary(spec: SimulateSpec) -> list[tuple[str, str]]:
    count = math.prod(len(values) for values in spec.grid.values()) * max(1, len(spec.seeds))
    return [("scenario", spec.simulation.scenario), ("simulations", str(count))]


def _fit_summary(spec: ResidualFitSpec) -> list[tuple[str, str]]:
    fit = spec.fit
    count = len(spec.splits) * len(fit.seeds)
    return [
        ("fits", f"{count}: {', '.join(split.name for split in spec.splits)}, each with {len(fit.seeds)} seeds"),
        ("batch", f"{count * fit.rows_per_step} rows, {fit.rows_per_step} of each fit"),
        ("length", f"{fit.num_steps} steps"),
    ]


def _sweep_summary(spec: SweepSpec) -> list[tuple[str, str]]:
    from steerline.config.sweep_points import num_points, num_trials

    more = [f"{len(spec.controls)} controls"] if spec.controls else []
    more = ["the baseline", *more] if spec.baseline is not None else more
    points = " and ".join([f"{num_points(spec)} points", *more])
    within = "" if spec.budget.trials is None else f", at most {spec.budget.trials}"
    return [
        ("space", ", ".join(spec.space)),
        ("trials", f"{num_trials(spec)}{within}: {points}, each with {len(spec.seeds)} seeds"),
        ("each trial", ", ".join(f"{name}: {text}" for name, text in _work_summary(spec.base))),
    ]


def batch_arithmetic(spec: FinetuneSpec) -> str:
    """How a batch is made of micro batches, or that it cannot be."""
    batch, micro, workers = spec.training.global_batch_size, spec.training.micro_batch_size, spec.cluster.num_workers
    accumulation, left = divmod(batch, micro * workers)
    parts = f"{workers} worker{'s' * (workers > 1)} x {micro} rows"
    if left:
        return f"{batch} rows are no multiple of {parts}"
    return f"{batch} rows = {accumulation} accumulation step{'s' * (accumulation > 1)} x {parts}"
