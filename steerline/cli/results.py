"""Commands about what runs left behind: export, compare, lineage."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from steerline.cli.options import TrackingUri


class Direction(StrEnum):
    """Which way to trace."""

    UP = "up"
    DOWN = "down"
    BOTH = "both"


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (export, compare, lineage):
        app.command(rich_help_panel="Results")(command)


def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's name, its unique beginning, or its folder.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the model; must not exist yet.")],
) -> None:
    """Turn a run's latest checkpoint into a Hugging Face folder: safetensors, tokenizer, generation config, model card.

    Examples:

        steerline export infosteer-smollm2 exported/infosteer

        steerline export .steerline/runs/infosteer-smollm2-0123456789 exported/infosteer
    """
    from steerline.cli.terminal import say, working
    from steerline.errors import CheckpointError
    from steerline.orchestration.results import run_folder

    folder = run_folder(run)
    if folder is None:
        raise CheckpointError("this machine has no such run", got=run, fix="give the run's folder")
    from steerline.training.export_job import export_run

    with working("exporting"):
        export_run(folder, out)
    say(f"exported to {out}")


def compare(
    run_a: Annotated[str, typer.Argument(metavar="RUN_A", help="The baseline: name, folder or evaluation.json.")],
    run_b: Annotated[str, typer.Argument(metavar="RUN_B", help="The run that is judged against it.")],
    tracking_uri: TrackingUri = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare two evaluated runs item by item: accuracies with intervals, differences, paired p-values.

    Examples:

        steerline compare sft-smollm2 infosteer-smollm2

        steerline compare sft-smollm2 infosteer-smollm2 --markdown > comparison.md
    """
    from steerline.cli.terminal import out, working
    from steerline.evaluation.compare import compare as compare_results
    from steerline.evaluation.compare import comparison_table
    from steerline.evaluation.report import comparison_markdown
    from steerline.orchestration.results import evaluation

    uri = tracking_address(tracking_uri)
    with working("comparing"):
        first, second = evaluation(run_a, uri), evaluation(run_b, uri)
        comparison = compare_results(first, second, label_a=Path(run_a).name, label_b=Path(run_b).name)
    if as_json:
        typer.echo(comparison.to_json())
    elif markdown:
        typer.echo(comparison_markdown(comparison))
    else:
        out.print(comparison_table(comparison))


def lineage(
    reference: Annotated[
        str,
        typer.Argument(metavar="REF", help="A run, models:/NAME@ALIAS, models:/NAME/VERSION, or a data digest."),
    ],
    direction: Annotated[Direction, typer.Option(help="To the sources, to the results, or both.")] = Direction.UP,
    tracking_uri: TrackingUri = None,
) -> None:
    """Trace a model back to its data, or data on to everything made from it.

    Examples:

        steerline lineage models:/infosteer@candidate

        steerline lineage infosteer-smollm2-0123456789 --direction both
    """
    from steerline.cli.terminal import out, working
    from steerline.tracking.lineage import lineage as trace
    from steerline.tracking.lineage import render

    with working("asking MLflow"):
        found = trace(tracking_address(tracking_uri), reference, direction.value)
    out.print(render(found))


def tracking_address(given: str | None) -> str:
    """The tracking server that a command asks: the one given, else the environment's, else the local stack's."""
    from steerline.config.tracking import TrackingSpec
    from steerline.orchestration import stack
    from steerline.tracking.references import resolve_uri

    local = stack.running()
    if given is None and local is not None and "MLFLOW_TRACKING_URI" not in os.environ:
        given = local.tracking_uri
    return resolve_uri(TrackingSpec(uri=given))
