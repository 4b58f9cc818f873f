"""What SAFR's two strengths change in the paper's classifier: accuracy and every measure over a grid, several seeds.

    python -m benchmarks.safr_grid --seeds 3 --rows 2000 --epochs 3 --output docs

Trains one small classifier for each setting and seed on reviews of IMDB, reads it on held-out reviews, and writes
`safr_grid.json`, the table of `safr.md` (where that page is in the folder) and figures under `img/`. Runs that the
file already has, made with the same settings, are kept; so a stopped grid goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass
from functools import cache
from itertools import islice
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.results import machine, versions
from steerline.analysis.infosteer import style
from steerline.analysis.safr.grid import VANILLA, Cell, Grid, GridRun, changed, markdown_table, replace_between
from steerline.analysis.safr.grid_figure import grid_figure
from steerline.analysis.safr.portrait import Portrait, portrait_figures, portray
from steerline.analysis.safr.term_figure import term_figure
from steerline.config.data import ClassificationFormat, DatasetSpec, DataSpec, PackagedData
from steerline.config.model import WordTokenizer
from steerline.config.safr import ImportanceSpec, InteractionSpec
from steerline.config.steering import SteeringSpec
from steerline.config.training import ObjectiveSpec, OptimizerSpec
from steerline.data.batch import Batch, Row, collate
from steerline.data.dataset import build
from steerline.data.load import texts_of
from steerline.data.sampler import GlobalSampler
from steerline.models.safr_classifier import SafrClassifierConfig, SafrClassifierForSequenceClassification
from steerline.models.word_tokenizer import word_tokenizer
from steerline.training.normaliser import Normaliser
from steerline.training.objective import ObjectiveModel
from steerline.training.optimizer import adamw, parameter_groups
from steerline.training.workers import Workers

CLASSES = ("negative", "positive")
BATCH = 32
COLUMNS = {
    "accuracy": "accuracy",
    "interference": "interference",
    "interference_gap": "interference gap",
    "interference_attention_correlation": "interference/attention correlation",
    "capacity_ffn": "capacity, FFN keys",
    "capacity_block": "capacity, block output",
    "importance": "mean gate",
    "deletion_by_importance": "deletion by importance",
    "deletion_by_interaction": "deletion by interaction",
}
DRAWN = (
    "accuracy",
    "importance",
    "interference_gap",
    "interference_attention_correlation",
    "capacity_block",
    "deletion_by_importance",
)
Curves = dict[str, list[tuple[int, float]]]


@dataclass(frozen=True)
class Settings:
    """How every model of the grid is made; what a kept run must agree with."""

    rows: int
    epochs: float
    heldout: int
    length: int
    width: int
    learning_rate: float
    variant: str = "masked"


def datasets(settings: Settings) -> DataSpec:
    """Reviews to train on and to read, drawn by a fixed seed and cut to so many words."""
    kind = ClassificationFormat(kind="classification", text="{review}", label="sentiment", classes=CLASSES)

    def part(name: str, limit: int) -> tuple[DatasetSpec, ...]:
        return (DatasetSpec(source=PackagedData(kind="packaged", name=name), format=kind, limit=limit),)

    return DataSpec(
        train=part("imdb-train", settings.rows),
        heldout=part("imdb-dev", settings.heldout),
        max_length_tokens=settings.length,
        overlong="truncate",
        packing=False,
    )


@cache
def materials(settings: Settings) -> tuple[PreTrainedTokenizerBase, tuple[Row, ...], list[Batch]]:
    """The tokenizer, the training rows and the held-out batches; the same for every run."""
    data = datasets(settings)
    tokenizer = word_tokenizer(WordTokenizer(kind="words"), texts_of(data.train))
    heldout = build(data.heldout, data, tokenizer, seed=0).rows
    pad = tokenizer.pad_token_id
    batches = [collate(heldout[i : i + BATCH], pad) for i in range(0, len(heldout), BATCH)]
    return tokenizer, tuple(build(data.train, data, tokenizer, seed=0).rows), batches


def objective(cell: Cell) -> ObjectiveSpec:
    """Cross entropy with the two terms, each left out where its strength is 0."""
    importance, interaction = cell
    return ObjectiveSpec(
        kind="classification",
        steering=SteeringSpec(
            importance=ImportanceSpec(strength=importance) if importance else None,
            interaction=InteractionSpec(strength=interaction) if interaction else None,
        ),
    )


def train(cell: Cell, seed: int, settings: Settings) -> tuple[PreTrainedModel, Curves]:
    """One classifier, trained in this process; its loss terms by step."""
    tokenizer, rows, _ = materials(settings)
    torch.manual_seed(seed)
    model = SafrClassifierForSequenceClassification(
        SafrClassifierConfig(
            vocab_size=len(tokenizer),
            hidden_size=settings.width,
            intermediate_size=4 * settings.width,
            vmask_hidden_size=4 * settings.width,
            num_labels=len(CLASSES),
        )
    ).train()
    wrapped = ObjectiveModel(model, objective(cell), seed=seed)
    wrapped.steering.phase = "train"
    spec = OptimizerSpec(learning_rate=settings.learning_rate, weight_decay=0.0)
    optimizer = adamw(parameter_groups(((p, p.ndim) for p in model.parameters()), spec), spec)
    sampler = GlobalSampler(len(rows), BATCH, seed)
    curves: Curves = {}
    for step in range(sampler.num_steps(settings.epochs)):
        batch = collate([rows[i] for i in sampler.step(step)], tokenizer.pad_token_id)
        wrapped.start_step(step)
        output = wrapped(batch, Normaliser.over([batch], Workers()))
        optimizer.zero_grad()
        output.total.backward()
        optimizer.step()
        for name, term in output.terms.items():
            label = "train/loss_ce" if name == "ce" else f"train/{name}"
            curves.setdefault(label, []).append((step, float(term.sum / term.count)))
    wrapped.detach()
    return model.eval(), curves


def portrait_of(cell: Cell, seed: int, settings: Settings) -> tuple[Portrait, Curves]:
    """Train one model and read it."""
    model, curves = train(cell, seed, settings)
    return portray(model, materials(settings)[2], draws=3), curves


def run_of(cell: Cell, seed: int, settings: Settings) -> GridRun:
    """Train one model on one thread and reduce its portrait to numbers."""
    torch.set_num_threads(1)
    portrait, _ = portrait_of(cell, seed, settings)
    assert portrait.curves is not None
    values = {name: portrait.summary.mean(name) for name in COLUMNS if name in portrait.summary.values}
    values["accuracy"] = float(portrait.curves.intact.mean())
    for score in ("importance", "interaction"):
        values[f"deletion_by_{score}"] = portrait.curves.drop_beyond_random(score)
    return GridRun(*cell, seed, {name: values[name] for name in COLUMNS})


def kept_runs(path: Path, settings: Settings) -> list[GridRun]:
    """Runs of an earlier start with the same settings."""
    if not path.exists():
        return []
    earlier = Grid.load(path)
    return list(earlier.runs) if earlier.settings["model"] == asdict(settings) else []


def missing(runs: Sequence[GridRun], cells: Sequence[Cell], seeds: int) -> Iterator[tuple[Cell, int]]:
    """What is still to be trained, seed by seed, so that a stopped grid is whole up to some seed."""
    done = {(run.cell, run.seed) for run in runs}
    return ((cell, seed) for seed in range(seeds) for cell in cells if (cell, seed) not in done)


def trained(work: Sequence[tuple[Cell, int]], settings: Settings, workers: int, minutes: float) -> Iterator[GridRun]:
    """The runs, as they end; one worker is this process. After so many minutes no further run begins."""
    deadline = time.perf_counter() + 60 * minutes
    waiting = iter(work)
    if workers == 1:
        yield from (run_of(cell, seed, settings) for cell, seed in waiting if time.perf_counter() < deadline)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        begun = {pool.submit(run_of, *one, settings) for one in islice(waiting, workers)}
        while begun:
            ended, begun = wait(begun, return_when=FIRST_COMPLETED)
            if time.perf_counter() < deadline:
                begun |= {pool.submit(run_of, *one, settings) for one in islice(waiting, len(ended))}
            yield from (future.result() for future in ended)


def train_grid(
    path: Path, settings: Settings, cells: Sequence[Cell], seeds: int, *, workers: int, minutes: float
) -> Grid:
    """All runs, or what there is of them after so many minutes; written to the file as each ends."""
    runs = kept_runs(path, settings)
    facts = {"model": asdict(settings), "machine": machine(), "versions": versions()}
    started = time.perf_counter()
    for run in trained(list(missing(runs, cells, seeds)), settings, workers, minutes):
        runs = sorted([*runs, run], key=lambda one: (one.cell, one.seed))
        path.write_text(Grid(tuple(runs), facts).to_json() + "\n")
        print(
            f"{len(runs)} of {len(cells) * seeds}, {time.perf_counter() - started:.0f} s: {run.cell} seed "
            f"{run.seed}: accuracy {run.values['accuracy']:.3f}",
            flush=True,
        )
    wanted = {(cell, seed) for cell in cells for seed in range(seeds)}
    return Grid(tuple(run for run in runs if (run.cell, run.seed) in wanted), facts)


def save_figures(folder: Path, grid: Grid, settings: Settings, shown: Cell) -> None:
    """The grid's figure, and the figures of one setting beside vanilla, both of seed 0."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = {"vanilla": VANILLA, "SAFR": shown}
    found = {label: portrait_of(cell, 0, settings) for label, cell in labels.items()}
    figures = portrait_figures({label: portrait for label, (portrait, _) in found.items()}, materials(settings)[0])
    figures["terms"] = term_figure({label: curves for label, (_, curves) in found.items()})
    figures["grid"] = grid_figure(
        grid, {name: COLUMNS[name] for name in DRAWN}, heading="SAFR's strengths in the paper's classifier"
    )
    for name, figure in figures.items():
        (folder / f"safr-{name}.png").write_bytes(style.png(figure))


def findings(grid: Grid) -> str:
    """The table, and under it what differs from vanilla."""
    lines = [markdown_table(grid, COLUMNS), ""]
    found = changed(grid, COLUMNS)
    lines.append(
        f"- {len(grid.seeds)} seeds; 95 % t intervals over seeds. Bold: the paired difference from strengths (0, 0) "
        f"has a Holm-corrected p below 0.05 ({len(found)} of {len(COLUMNS) * (len(grid.cells) - 1)} comparisons)."
    )
    lines.append(f"- Settings: `{json.dumps(grid.settings['model'])}`.")
    lines.append(f"- Machine: {grid.settings['machine']}. Versions: {grid.settings['versions']}.")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="from 2: intervals are over seeds")
    parser.add_argument("--rows", type=int, default=2000, help="reviews to train on")
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--heldout", type=int, default=256, help="reviews to read")
    parser.add_argument("--length", type=int, default=96, help="words of a review that are read")
    parser.add_argument("--width", type=int, default=64, help="d_model; the paper has 256")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--strengths", type=float, nargs="+", default=[0, 0.1, 1, 10], help="of both terms")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each; 1 is this process")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="then begin no further run")
    parser.add_argument("--output", type=Path, default=Path("docs"))
    args = parser.parse_args(arguments)
    settings = Settings(args.rows, args.epochs, args.heldout, args.length, args.width, args.learning_rate)
    cells = [(float(i), float(k)) for i in args.strengths for k in args.strengths]
    args.output.mkdir(parents=True, exist_ok=True)
    grid = train_grid(
        args.output / "safr_grid.json", settings, cells, args.seeds, workers=args.workers, minutes=args.minutes
    )
    if len(grid.runs) < len(cells) * args.seeds:
        print("time is up; the same command goes on from here", flush=True)
        return
    save_figures(args.output / "img", grid, settings, max(cell for cell in cells if max(cell) <= 1))
    page = args.output / "safr.md"
    if page.exists():
        page.write_text(replace_between(page.read_text(), "safr-grid", findings(grid)))


if __name__ == "__main__":
    main()
