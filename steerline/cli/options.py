"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[Path, typer.Argument(metavar="FILE", help="A job's config, e.g. jobs/configs/sft_smollm2.yaml.")]
Sets = Annotated[
    list[str],
    typer.Option("--set", metavar="A.B=C", help="Override one setting; C is YAML. May be given several times."),
]
Run = Annotated[str, typer.Argument(metavar="RUN", help="A run's name, its unique beginning, or a submission id.")]
Address = Annotated[
    str | None,
    typer.Option(help="The cluster's job server, http://HOST:8265; otherwise the environment's, then the local stack."),
]
TrackingUri = Annotated[
    str | None,
    typer.Option("--tracking-uri", help="The MLflow server; else MLFLOW_TRACKING_URI's, else the local one."),
]
