"""Trials under Ray Tune. The only importer of `ray.tune`.

Tune starts, watches, stops and retries trials; the board says which ones there are, the sweep's own ledger what came
out. Nothing is ever read back from Tune's files, so a restart is a new Tune experiment with fewer trials.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune import PlacementGroupFactory
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler
from ray.tune.search import Searcher
from ray.util.placement_group import PlacementGroup

from steerline.config.finetune import FinetuneSpec
from steerline.config.sweep import SweepSpec
from steerline.config.sweep_metrics import training_tokens
from steerline.config.sweep_points import Point, Trial, trial
from steerline.config.sweep_search import MetricSpec
from steerline.errors import SteerlineError
from steerline.home import HOME_VARIABLE, home
from steerline.orchestration.preflight import ClusterResources
from steerline.sweeps.board import Board
from steerline.sweeps.kinds import Ended, Running, SharedTrials, StopSign, TrialKind, WholeTrials
from steerline.sweeps.ledger import Found
from steerline.tracking.references import RunRef

# A search that learns wants to hear of a few trials before it proposes more.
_LEARNING_CHUNK = 8

_STEP, _FOUND, _WORK = "step", "found", "work"
_NO_REASON = "no reason given"

Tell = Callable[[Trial, Found | None], None]
"""Told of each trial that has ended; none for one that will go on in another attempt."""

_QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # Its own record of the experiment is not used.
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    # The driver decides what a signal means.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # A trial that is stopped early saves a checkpoint and gives its workers back first.
    "TUNE_FORCE_TRIAL_CLEANUP_S": "300",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}

# A process that only watches takes none of the CPUs that its workers wait for, but Ray wants something to be named.
_WATCHER = {"memory": float(1 << 20)}
_OF_THE_JOB = ("RAY_JOB_CONFIG_JSON_ENV_VAR",)

# Where there is room, Ray takes milliseconds to set resources aside; a full cluster must not hold Tune up for long.
_SET_ASIDE_S = 1.0


@dataclass(frozen=True)
class _Context:
    """What every trial's process needs to know."""

    sweep: SweepSpec
    kind: TrialKind
    run: RunRef | None
    stop: StopSign
    environment: Mapping[str, str]


def carry_out(board: Board, kind: TrialKind, run: RunRef | None, folder: Path, tell: Tell) -> None:
    """Run what the board hands out until it is done or closed.

    Args:
        board: the trials.
        kind: how they are carried out.
        run: the sweep's run; none records nowhere.
        folder: the sweep's folder, where Tune keeps its own files while it runs.
        tell: told of each trial that has ended.
    """
    # Not at the top: trials import this module, and most of them do without Ray Train and torch.
    from steerline.training.ray_trainer import cluster_nodes, passed_on

    sweep, light = board.sweep, isinstance(kind, SharedTrials)
    nodes = cluster_nodes()
    os.environ |= _QUIET
    # It looks for the metrics in files that are not written, and warns for each trial.
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    seconds = sweep.budget.wall_time_s
    stop_at = None if seconds is None else time.time() + seconds - board.ledger.seconds
    limit = concurrency(sweep, ClusterResources.from_ray(nodes), light=light)
    chunk = kind.together if isinstance(kind, SharedTrials) else 1
    if sweep.search.kind == "tpe":
        chunk = min(chunk, _LEARNING_CHUNK)
    supply = _Supply(board, limit=limit, chunk=chunk, stop_at=stop_at)
    context = _Context(sweep, kind, run, StopSign(stop_at, stop_request(folder)), {**_environment(), **passed_on()})
    resources = _resources(sweep) if light else _WATCHER
    scratch = folder / "tune"
    tuner = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(_LightTrials if light else _WholeTrial, context=context),
            TrialResources([resources]),
        ),
        tune_config=tune.TuneConfig(
            search_alg=supply, scheduler=_scheduler(sweep, board), num_samples=-1, reuse_actors=light
        ),
        run_config=tune.RunConfig(
            name=f"attempt-{time.time_ns()}",
            storage_path=str(scratch),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            failure_config=tune.FailureConfig(max_failures=sweep.budget.retries),
            callbacks=[_Report(board, supply, tell)],
            verbose=0,
        ),
    )
    tuner.fit()
    shutil.rmtree(scratch, ignore_errors=True)


def stop_request(folder: Path) -> Path:
    """A file in a sweep's folder whose presence asks the trials that are going to save and end."""
    return folder / "stop-requested"


def concurrency(sweep: SweepSpec, cluster: ClusterResources, *, light: bool) -> int:
    """How many trials run at once: as many as the cluster has room for their workers, within the budget's limit."""
    wanted = sweep.cluster
    room = sum(node.num_workers(wanted.cpus_per_worker, wanted.use_gpu) for node in cluster.nodes)
    most = max(1, room // (1 if light else wanted.num_workers))
    return min(most, sweep.budget.max_concurrent or most)


def _environment() -> dict[str, str]:
    """What trials need beyond a worker: they open their own runs, and find their folders by themselves."""
    ours = {name: text for name, text in os.environ.items() if name.startswith("MLFLOW_") or name in _OF_THE_JOB}
    return {**ours, HOME_VARIABLE: str(home())}


def _resources(sweep: SweepSpec) -> dict[str, float]:
    wanted = sweep.cluster
    return {"CPU": wanted.cpus_per_worker, **({"GPU": 1.0} if wanted.use_gpu else {})}


class TrialResources(PlacementGroupFactory):
    """What a trial's process takes, waited for when it is asked for.

    Tune takes a request back when the process of another trial falls free, which may be at once. Ray (2.60) loses for
    good what belongs to a placement group that is removed while a node has promised it and nobody has claimed it yet.
    """

    def to_placement_group(self) -> PlacementGroup:
        """The request, granted already unless the cluster is full."""
        group: PlacementGroup = super().to_placement_group()
        group.wait(_SET_ASIDE_S)
        return group


class _NotKept:
    """Tune writes down what it was given; a restart makes these anew from the ledger, so nothing of them is kept."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Supply(_NotKept, Searcher):
    """Gives Tune the trials of the board, as text: a point and a seed say all."""

    def __init__(self, board: Board, *, limit: int, chunk: int, stop_at: float | None) -> None:
        super().__init__()
        self._board, self._limit, self._chunk, self._stop_at = board, limit, chunk, stop_at
        self._alone: list[Trial] = []
        self.going: dict[str, list[Trial]] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """What a new trial of Tune carries out; none for now, or that there is nothing left."""
        if self._stop_at is not None and time.time() > self._stop_at:
            self._board.closed = True
        if len(self.going) >= self._limit:
            return None
        work = [self._alone.pop()] if self._alone else self._board.take(self._chunk)
        if work:
            self.going[trial_id] = work
            return {_WORK: json.dumps([_as_json(one) for one in work])}
        return Searcher.FINISHED if self._board.is_done else None

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: the callback hears more."""

    def apart(self, trials: Sequence[Trial]) -> None:
        """Have trials carried out one by one, because one of them broke what they shared."""
        self._alone.extend(trials)

    def save(self, checkpoint_path: str) -> None:
        """Nothing."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing."""


class _Report(_NotKept, tune.Callback):
    """Takes what came out of each of Tune's trials to the board."""

    def __init__(self, board: Board, supply: _Supply, tell: Tell) -> None:
        self._board, self._supply, self._tell = board, supply, tell
        self._curves: dict[str, dict[str, dict[str, float]]] = {}

    def on_trial_result(self, *, trial: TuneTrial, result: dict[str, Any], **_: object) -> None:
        """It has come further."""
        metrics = {name: value for name, value in result.items() if "/" in name and isinstance(value, int | float)}
        if metrics:
            self._curves.setdefault(trial.trial_id, {})[str(result[_STEP])] = metrics

    def on_trial_complete(self, *, trial: TuneTrial, **_: object) -> None:
        """It ended, or its scheduler ended it."""
        work = self._supply.going.pop(trial.trial_id)
        text, curve = trial.last_result.get(_FOUND), self._curves.pop(trial.trial_id, {})
        if text is None:
            step = max(curve, key=int, default="0")
            tokens = training_tokens(work[0].spec, int(step)) or 0
            found: list[Found | None] = [Found("stopped_early", metrics=curve.get(step, {}), tokens=tokens)]
        else:
            found = [None if one is None else Found(**one) for one in json.loads(text)]
        self._put(work, [one if one is None or one.curve else replace(one, curve=curve) for one in found])

    def on_trial_error(self, *, trial: TuneTrial, **_: object) -> None:
        """It broke more often than the budget allows."""
        work = self._supply.going.pop(trial.trial_id)
        if len(work) > 1:
            self._supply.apart(work)
            return
        self._put(work, [Found("failed", cause=_cause(trial))])

    def _put(self, work: list[Trial], found: list[Found | None]) -> None:
        results = list(zip(work, found, strict=True))
        self._board.put(results)
        for one, result in results:
            self._tell(one, result)


class _WholeTrial(tune.Trainable):
    """A trial that is a job of its own; its process only watches it."""

    def setup(self, config: dict[str, Any], context: _Context) -> None:
        """Begin the job."""
        os.environ |= context.environment
        (work,) = _from_json(context.sweep, config[_WORK])
        self._last: dict[str, Any] = {_STEP: 0}
        assert isinstance(context.kind, WholeTrials)
        self._running: Running | None = context.kind.start(work, context.sweep, context.run, context.stop)

    def step(self) -> dict[str, Any]:
        """The next thing that happens to it."""
        assert self._running is not None
        news = self._running.next()
        if isinstance(news, Ended):
            self._running = None
            return {**self._last, **_done([news.found])}
        self._last |= {_STEP: news.step, **news.metrics}
        return dict(self._last)

    def cleanup(self) -> None:
        """It was stopped before its end."""
        if self._running is not None:
            self._running.stop()


class _LightTrials(tune.Trainable):
    """Trials that are carried out together in this process, which keeps the model for the next ones."""

    def setup(self, config: dict[str, Any], context: _Context) -> None:
        """Take the work."""
        os.environ |= context.environment
        self._context = context
        self._work = _from_json(context.sweep, config[_WORK])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take further work."""
        self._work = _from_json(self._context.sweep, new_config[_WORK])
        return True

    def step(self) -> dict[str, Any]:
        """All of it at once; one by one where one of them cannot be carried out."""
        kind = self._context.kind
        assert isinstance(kind, SharedTrials)
        try:
            found = kind.evaluate(self._work)
        except SteerlineError:
            found = [_one(kind, work) for work in self._work]
        return {_STEP: 1, **_done(found)}


def _one(kind: SharedTrials, work: Trial) -> Found:
    try:
        return kind.evaluate([work])[0]
    except SteerlineError as error:
        return Found("failed", cause=f"{type(error).__name__}: {error}")


def _cause(trial: TuneTrial) -> str:
    """What a trial's last attempt died of: the message at the end of its traceback."""
    text = Path(trial.error_file).read_text(errors="replace") if trial.error_file else _NO_REASON
    last = text.rpartition("Failure # ")[2]
    raised = list(re.finditer(r"^(?:\w+\.)*\w*(?:Error|Exception|Exit)\b.*", last, re.MULTILINE))
    return (last[raised[-1].start() :] if raised else last).strip()[:4000] or _NO_REASON


def _done(found: Sequence[Found | None]) -> dict[str, Any]:
    return {"done": True, _FOUND: json.dumps([None if one is None else asdict(one) for one in found])}


def _as_json(work: Trial) -> dict[str, Any]:
    return {
        "point": asdict(work.point),
        "seed": work.seed,
        "under": None if work.under is None else asdict(work.under),
    }


def _from_json(sweep: SweepSpec, text: str) -> list[Trial]:
    return [
        trial(sweep, Point(**one["point"]), one["seed"], under=None if one["under"] is None else Point(**one["under"]))
        for one in json.loads(text)
    ]


def _scheduler(sweep: SweepSpec, board: Board) -> TrialScheduler:
    spec = sweep.scheduler
    if spec.kind not in ("asha", "median"):
        return FIFOScheduler()
    metric = spec.metric or sweep.metrics[0]
    if spec.kind == "asha":
        steps = (isinstance(sweep.base, FinetuneSpec) and sweep.base.training.num_steps) or 10**6
        scheduler: TrialScheduler = ASHAScheduler(
            time_attr=_STEP, metric=metric.name, mode=metric.goal, grace_period=spec.grace_steps,
            reduction_factor=spec.reduction_factor, max_t=max(steps, spec.grace_steps) + 1, stop_last_trials=False,
        )  # fmt: skip
    else:
        # A pause would need a checkpoint of Tune's.
        scheduler = MedianStoppingRule(
            time_attr=_STEP, metric=metric.name, mode=metric.goal, grace_period=spec.grace_steps,
            min_samples_required=spec.min_trials, min_time_slice=math.inf, hard_stop=True,
        )  # fmt: skip
    _replay(scheduler, metric, board)
    return scheduler


@dataclass(frozen=True)
class _Earlier:
    """A trial of an earlier attempt, as schedulers know trials."""

    trial_id: str


def _replay(scheduler: TrialScheduler, metric: MetricSpec, board: Board) -> None:
    """Show a scheduler what trials of earlier attempts had come to, so that a restart compares with them too."""
    for name, record in board.ledger.records.items():
        earlier = _Earlier(name)
        scheduler.on_trial_add(None, earlier)
        for step, metrics in sorted(record.found.curve.items(), key=lambda pair: int(pair[0])):
            if metric.name in metrics:
                scheduler.on_trial_result(None, earlier, {_STEP: int(step), metric.name: metrics[metric.name]})
