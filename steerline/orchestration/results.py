"""Where a run's results lie: its folder on this machine, or MLflow."""

from __future__ import annotations

import tempfile
from pathlib import Path

from steerline.config.cluster import ClusterSpec
from steerline.errors import EvaluationError, SubmitError, TrackingError
from steerline.evaluation.results import EvaluationResult
from steerline.home import storage_folder
from steerline.orchestration.ledger import Ledger
from steerline.tracking.queries import download_artifact, find_run

EVALUATION_FILE = "evaluation.json"


def run_folder(reference: str, ledger: Ledger | None = None) -> Path | None:
    """A run's folder; none when this machine has none.

    Args:
        reference: a folder, a run's name, its unique beginning, or a submission id.
        ledger: knows where runs were told to put their results; none takes this machine's.

    Raises:
        SubmitError: more than one run fits.
    """
    if Path(reference).is_dir():
        return Path(reference)
    attempt = (Ledger() if ledger is None else ledger).find(reference)
    if attempt is not None:
        folder = Path(attempt.storage_path) / attempt.run_name
        return folder if folder.is_dir() else None
    # Jobs of the plain `ray job submit` are not in the ledger; without settings of their own they end up here.
    storage = storage_folder(ClusterSpec().storage_path)
    exact = storage / reference
    here = storage.iterdir() if storage.is_dir() else ()
    beginning = sorted(path for path in here if path.name.startswith(reference) and path.is_dir())
    fitting = [exact] if exact.is_dir() else beginning
    if len(fitting) > 1:
        raise SubmitError(
            "more than one run fits this name",
            where=str(storage),
            got=reference,
            expected=f"one of {', '.join(path.name for path in fitting)}",
            fix="type more of the name",
        )
    return fitting[0] if fitting else None


def evaluation(reference: str, tracking_uri: str) -> EvaluationResult:
    """What a run scored, item by item.

    Args:
        reference: an evaluation file, or a run as for `run_folder`.
        tracking_uri: the MLflow server that is asked when this machine has no such folder.

    Raises:
        EvaluationError: the run was not evaluated, or neither place knows it.
    """
    if Path(reference).is_file():
        return EvaluationResult.load(Path(reference))
    folder = run_folder(reference)
    if folder is not None:
        file = folder / EVALUATION_FILE
        if not file.is_file():
            raise EvaluationError(
                "this run has no evaluation",
                where=str(folder),
                expected=EVALUATION_FILE,
                fix="let it finish: `steerline resume` goes on with it. Its config must name `evaluation.tasks`",
            )
        return EvaluationResult.load(file)
    with tempfile.TemporaryDirectory() as temporary:
        try:
            run = find_run(tracking_uri, reference)
            file = download_artifact(tracking_uri, run.ref.run_id, EVALUATION_FILE, Path(temporary))
        except TrackingError as error:
            raise EvaluationError(
                "no evaluation of this run is here or in MLflow",
                where=tracking_uri,
                got=f"{reference}: {error.what}",
                fix="give a run's name as `steerline status` shows it, its folder, or an evaluation.json",
            ) from error
        return EvaluationResult.load(file)
