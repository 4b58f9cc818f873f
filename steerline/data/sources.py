"""Rows of any source that a config can name. No source runs code that came with its data."""

from __future__ import annotations

from steerline.config.data import (
    DataSource,
    FileData,
    HubData,
    PackagedData,
    ReviewFolderData,
    SyntheticData,
    TreebankData,
)
from steerline.data.files import read_file, read_oe_eval, read_path, read_saved
from steerline.data.packaged import entry_of, resolve
from steerline.data.rows import Rows
from steerline.data.sentiment import Part, read_review_folder, read_treebank, review_part
from steerline.data.synthetic import GENERATORS
from steerline.errors import DataError

_PARTS: dict[str, Part] = {"imdb_train": "train", "imdb_dev": "dev", "imdb_test": "test"}


def read_rows(source: DataSource) -> Rows:
    """All rows of a source, in its own order.

    Raises:
        DataError: the source is missing, unreadable or empty.
        FetchError: a packaged source cannot be downloaded, or is not the pinned file.
    """
    match source:
        case HubData():
            rows = _hub(source)
        case FileData():
            rows = read_path(source.path)
        case PackagedData():
            rows = _packaged(source)
        case TreebankData():
            rows = read_treebank(source)
        case ReviewFolderData():
            rows = read_review_folder(source)
        case SyntheticData():
            generated = GENERATORS[source.generator](source.size, source.seed, source.args)
            rows = Rows(name=f"{source.generator}-{source.seed}", label=f"generator {source.generator}", rows=generated)
    if len(rows) == 0:
        raise DataError("a data set has no rows", where=rows.label, got=0, expected="at least one")
    return rows


def _hub(source: HubData) -> Rows:
    import datasets
    from datasets.exceptions import DatasetNotFoundError

    label = f"{source.id}{f' ({source.config})' if source.config else ''}, split {source.split}"
    try:
        loaded = datasets.load_dataset(source.id, source.config, split=source.split, revision=source.revision)
    except (DatasetNotFoundError, FileNotFoundError, ConnectionError) as error:
        raise DataError(
            "a hub data set cannot be loaded",
            where=label,
            got=error,
            fix="check the id and the network; offline, load it once on a machine with a network and share HF_HOME",
        ) from error
    except (ValueError, RuntimeError) as error:
        # Wrong split or configuration, or a repository that needs its own loading script, which is never run.
        raise DataError("a hub data set cannot be loaded", where=label, got=error) from error
    return Rows(name=f"{source.id.rsplit('/', 1)[-1]}-{source.split}", label=label, rows=loaded)


def _packaged(source: PackagedData) -> Rows:
    entry = entry_of(source)
    if entry is not None and entry.rows is None:
        raise DataError("a packaged resource is a model, not a data set", where=f"packaged `{source.name}`")
    path = resolve(source)
    if entry is None:
        assert source.archive is not None
        label = f"{source.archive.package} {source.archive.version}: {source.archive.member}"
        return Rows(name=path.name.split(".")[0], label=label, rows=read_path(str(path)).rows)
    assert source.name is not None
    label = f"packaged `{source.name}`"
    match entry.reader:
        case "arrow":
            rows = Rows(source.name, label, read_saved(path).rows)
        case "oe_eval":
            rows = Rows(source.name, label, read_oe_eval(path))
        case "imdb_train" | "imdb_dev" | "imdb_test":
            part = _PARTS[entry.reader]
            rows = Rows(source.name, label, review_part([row for _, row in read_file(path)], part))
        case _:
            rows = Rows(source.name, label, [row for _, row in read_file(path)])
    if len(rows) != entry.rows:
        raise DataError(
            "a packaged data set has another size than recorded", where=label, got=len(rows), expected=entry.rows
        )
    return rows
