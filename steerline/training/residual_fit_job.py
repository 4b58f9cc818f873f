"""A residual-scale fit from the frozen model to profiles, accuracies and figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from steerline.analysis.inforidge.profile_figure import profile_figure
from steerline.analysis.inforidge.residual_profiles import Effect, Judged, ResidualProfiles, effects, table
from steerline.config.data import DataSpec
from steerline.config.render import run_name
from steerline.config.residual_fit import FitSplit, ResidualFitSpec
from steerline.data.dataset import TokenDataset, build
from steerline.data.load import texts_of
from steerline.data.tokens import end_of_text, padding
from steerline.errors import DataError
from steerline.models.anatomy import anatomy
from steerline.models.load import LoadedModel, load_model
from steerline.progress import format_progress
from steerline.steering.layers import select_layers
from steerline.tracking.recorder import Recorder
from steerline.training.job import Outcome
from steerline.training.residual_fit import Fitted, ScaledModel, fit_scales
from steerline.training.residual_fit_scores import score

PROFILES_FILE = "profiles.json"
_PARTS = {1: ("block",), 2: ("attention", "ffn")}

Say = Callable[[str], None]


def fit_and_judge(spec: ResidualFitSpec, folder: Path, say: Say, recorder: Recorder | None = None) -> Outcome:
    """Fit scales on every split and seed, judge all of them on every split's held-out items, and write the results.

    Args:
        spec: the job.
        folder: gets `profiles.json`.
        say: told of progress.
        recorder: records metrics, data sets and figures; none records nothing.

    Raises:
        ModelError, DataError, SteeringError, NonFiniteLossError: the job cannot be carried out as it is written.
    """
    dtype = torch.bfloat16 if spec.precision == "bf16" else torch.float32
    loaded = load_model(spec.model, dtype=dtype, texts=lambda: texts_of(spec.splits[0].train))
    loaded.model.to("cuda" if spec.cluster.use_gpu else "cpu")
    train = {split.name: _rows(spec, split, loaded, heldout=False) for split in spec.splits}
    heldout = {split.name: _rows(spec, split, loaded, heldout=True) for split in spec.splits}
    sites = anatomy(loaded.model, spec.model.sites)
    layers = select_layers(spec.fit.layers, sites.num_layers)
    with ScaledModel(loaded.model, sites, spec.fit, padding(loaded.tokenizer)) as scaled:
        fitted = fit_scales(
            scaled, [rows.rows for rows in train.values()], spec.fit, on_step=_follow(spec, say, recorder)
        )
        judged = tuple(_judge(spec, name, rows, scaled, fitted, loaded, say) for name, rows in heldout.items())
    profiles = _profiles(spec, fitted, judged, layers)
    profiles.save(folder / PROFILES_FILE)
    found = effects(profiles, num_resamples=spec.num_bootstrap, confidence=spec.confidence)
    if recorder is not None:
        _record(recorder, spec, profiles, found, {"train": train, "heldout": heldout})
    for line in table(found).splitlines():
        say(f"steerline: {line}")
    return Outcome(
        run_name(spec),
        "finished",
        step=spec.fit.num_steps,
        num_steps=spec.fit.num_steps,
        metrics=_metrics(found),
        files={"profiles": str(folder / PROFILES_FILE)},
    )


def _rows(spec: ResidualFitSpec, split: FitSplit, loaded: LoadedModel, *, heldout: bool) -> TokenDataset:
    data = DataSpec(
        train=split.train,
        heldout=split.heldout,
        max_length_tokens=spec.max_length_tokens,
        overlong=spec.overlong,
    )
    rows = build(split.heldout if heldout else split.train, data, loaded.tokenizer, seed=0)
    if spec.single_token:
        _refuse_long_answers(rows, split.name, end_of_text(loaded.tokenizer))
    return rows


def _refuse_long_answers(rows: TokenDataset, split: str, eos: int) -> None:
    for (example,) in rows.rows:
        answer = example.input_ids[example.targets]
        if len(answer[answer != eos]) != 1:
            raise DataError(
                "an answer is not a single token of this model's tokenizer",
                where=f"split {split}, example {example.id}",
                got=f"{len(answer[answer != eos])} tokens",
                expected="1, as `single_token` asks",
                fix="use data whose answers are single tokens, or set `single_token: false`",
            )


def _follow(spec: ResidualFitSpec, say: Say, recorder: Recorder | None) -> Callable[[int, Tensor], None]:
    every = max(1, spec.fit.num_steps // 20)
    names = [split.name for split in spec.splits]

    def follow(step: int, losses: Tensor) -> None:
        means = losses.view(len(names), -1).mean(1).tolist()
        if recorder is not None:
            recorder.metrics({f"fit/{name}/loss": mean for name, mean in zip(names, means, strict=True)}, step)
        if (step + 1) % every == 0 or step == 0:
            shown = {f"loss_{name}": mean for name, mean in zip(names, means, strict=True)}
            say(format_progress(step + 1, spec.fit.num_steps, shown))

    return follow


def _judge(
    spec: ResidualFitSpec,
    name: str,
    rows: TokenDataset,
    scaled: ScaledModel,
    fitted: Fitted,
    loaded: LoadedModel,
    say: Say,
) -> Judged:
    said = 0

    def progress(done: int, total: int) -> None:
        nonlocal said
        if 10 * done // total > said:
            said = 10 * done // total
            say(f"steerline: judging {name} {done}/{total}")

    plain = torch.ones(1, *scaled.shape, dtype=torch.float64)
    right, loss = score(
        scaled,
        rows.rows,
        torch.cat([plain, fitted.betas]),
        end_of_text=end_of_text(loaded.tokenizer),
        batch_tokens=spec.fit.batch_tokens,
        on_rows=progress,
    )
    shape = (len(spec.splits), len(spec.fit.seeds), -1)
    ids = tuple(example.id for (example,) in rows.rows)
    return Judged(name, ids, right[0], right[1:].reshape(shape), loss[0], loss[1:].reshape(shape))


def _profiles(
    spec: ResidualFitSpec, fitted: Fitted, judged: tuple[Judged, ...], layers: tuple[int, ...]
) -> ResidualProfiles:
    fits = (len(spec.splits), len(spec.fit.seeds))
    return ResidualProfiles(
        splits=tuple(split.name for split in spec.splits),
        seeds=spec.fit.seeds,
        parts=_PARTS[fitted.betas.shape[1]],
        layers=layers,
        betas=fitted.betas.view(*fits, *fitted.betas.shape[1:]).numpy(),
        losses=np.ascontiguousarray(fitted.losses.T.numpy()).reshape(*fits, -1),
        judged=judged,
    )


def _metrics(found: tuple[Effect, ...]) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for one in found:
        metrics[f"before/{one.judged_on}/accuracy"] = one.before.mean
        metrics[f"before/{one.judged_on}/loss"] = one.loss_before
        metrics[f"fitted_on_{one.fitted_on}/{one.judged_on}/accuracy"] = one.after.mean
        metrics[f"fitted_on_{one.fitted_on}/{one.judged_on}/loss"] = one.loss_after
    return metrics


def _record(
    recorder: Recorder,
    spec: ResidualFitSpec,
    profiles: ResidualProfiles,
    found: tuple[Effect, ...],
    data: Mapping[str, Mapping[str, TokenDataset]],
) -> None:
    for use, sets in data.items():
        for name, rows in sets.items():
            recorder.dataset(f"{name}-{use}", rows.digest, f"{use} of {name}", rows=len(rows))
    for split in profiles.splits:
        mean, spread = profiles.mean(split), profiles.spread(split)
        for part, part_name in enumerate(profiles.parts):
            # The step is the layer, so that MLflow draws the profile.
            for place, layer in enumerate(profiles.layers):
                values = {"mean": mean[part, place], "sd": spread[part, place]}
                recorder.metrics({f"beta/{split}/{part_name}/{key}": v for key, v in values.items()}, layer)
    recorder.metrics(_metrics(found), spec.fit.num_steps)
    recorder.json([asdict(one) for one in found], "effects.json")
    recorder.text(table(found), "effects.md")
    recorder.figure(profile_figure(profiles, found, heading=run_name(spec)), "figures/residual_scales.png")
