"""The model: is it there, is it safe, does it go with the data and the settings?"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from steerline.config.model import HubModel, LocalModel, ModelSpec, PackagedModel, RandomModel, RunModel
from steerline.errors import ModelError
from steerline.models.run_export import run_export
from steerline.orchestration.preflight.core import Finding, ModelScene, Scene, failure, warning
from steerline.orchestration.preflight.model_facts import damage, hub_folder, hub_is_offline

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt", "tekken.json")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def source(scene: ModelScene) -> Iterator[Finding]:
    """The model's files."""
    yield from missing(scene.spec.model)


def missing(model: ModelSpec) -> Iterator[Finding]:
    """What is missing of a model; paths are as if the spec were the job's `model`."""
    match model.source:
        case LocalModel(path=path):
            yield from _local(Path(path).expanduser())
        case RunModel() as run:
            yield from _run(run)
        case HubModel(id=name, revision=revision):
            yield from _hub(name, revision)
        case PackagedModel(name=str(name)):
            yield from catalogued(name, "model.source.name")
        case RandomModel(tokenizer=str(name)) if not Path(name).is_dir():
            if hub_folder(name, "main") is None and hub_is_offline():
                yield failure(
                    "the tokenizer is neither a folder nor in the hub's cache", path="model.source.tokenizer", got=name
                )


def _local(path: Path) -> Iterator[Finding]:
    if not path.exists():
        yield failure("the model's folder does not exist", path="model.source.path", got=str(path))
    elif path.is_dir():
        yield from _folder(path, "model.source.path")
    elif path.suffix != ".gguf":
        yield failure(
            "a single file can only be a GGUF", path="model.source.path", got=str(path), expected="a folder, or `.gguf`"
        )


def _run(source: RunModel) -> Iterator[Finding]:
    try:
        folder = run_export(source)
    except ModelError as error:
        yield failure(
            error.what, path="model.source.run", got=str(error.got), expected=str(error.expected), fix=str(error.fix)
        )
        return
    yield from _folder(folder, "model.source.run")


def _hub(name: str, revision: str) -> Iterator[Finding]:
    folder = hub_folder(name, revision)
    if folder is not None:
        yield from _weights(folder, "model.source.id")
    elif hub_is_offline():
        yield failure(
            "the model is not in the hub's cache, and the network is switched off",
            path="model.source.id",
            got=f"{name} at {revision}, with HF_HUB_OFFLINE set",
            fix=f"`hf download {name} --revision {revision}` where there is a network, or unset HF_HUB_OFFLINE",
        )


def _folder(folder: Path, path: str) -> Iterator[Finding]:
    if not (folder / "config.json").is_file():
        yield failure("the model's folder has no config.json", path=path, got=str(folder))
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        yield failure(
            "the model's folder has no tokenizer",
            path=path,
            got=str(folder),
            expected="one of " + ", ".join(_TOKENIZER_FILES),
            fix="`tokenizer.save_pretrained(FOLDER)`",
        )
    yield from _weights(folder, path)


def _weights(folder: Path, path: str) -> Iterator[Finding]:
    weights = sorted(folder.glob("*.safetensors"))
    pickles = sorted(file.name for pattern in _PICKLES for file in folder.glob(pattern))
    for file in weights:
        fault = damage(file)
        if fault is not None:
            yield failure(f"{file.name} is damaged", path=path, got=fault, fix="fetch it again")
    if not weights and pickles:
        yield failure(
            "the weights are pickles, which can run code when they are read",
            path=path,
            got=", ".join(pickles[:3]),
            expected="safetensors",
            fix="convert them in a sandbox: `model.save_pretrained(FOLDER)` writes safetensors",
        )
    elif not weights:
        yield failure("there are no weights", path=path, got=str(folder), expected="*.safetensors")


def catalogued(name: str, path: str) -> Iterator[Finding]:
    """A name that the catalogue of packaged resources may not have."""
    from steerline.data.packaged import CATALOGUE

    if name not in CATALOGUE:
        close = difflib.get_close_matches(name, CATALOGUE, n=1)
        yield failure(
            "the catalogue of packaged resources has no such name",
            path=path,
            got=name,
            fix=f"did you mean `{close[0]}`?" if close else "write the archive out under `archive:`",
        )


def attention(scene: Scene) -> Iterator[Finding]:
    """What the attention kernel needs."""
    yield from kernel(scene)
    spec = scene.spec
    if spec.model.attention == "flash_attention_2" and spec.data.packing and spec.training.micro_batch_size > 1:
        yield failure(
            "flash attention keeps packed examples apart only in micro batches of one row",
            path="model.attention",
            got=f"`training.micro_batch_size: {spec.training.micro_batch_size}`",
            fix="set `training.micro_batch_size: 1`, or `model.attention: sdpa`",
        )


def kernel(scene: ModelScene) -> Iterator[Finding]:
    """Where the attention kernel runs."""
    if scene.spec.model.attention == "flash_attention_2" and not scene.spec.cluster.use_gpu:
        yield failure(
            "flash attention runs on GPUs only",
            path="model.attention",
            fix="set `model.attention: sdpa`, or `cluster.use_gpu: true`",
        )


def attention_package(scene: ModelScene) -> Iterator[Finding]:
    """Where the flash kernel comes from."""
    if scene.spec.model.attention == "flash_attention_2" and not (find_spec("flash_attn") or find_spec("kernels")):
        yield failure(
            "no package has the flash attention kernel",
            path="model.attention",
            fix="install `kernels` or `flash-attn`, or set `model.attention: sdpa`",
        )


def length(scene: Scene) -> Iterator[Finding]:
    """Sequences longer than the model's."""
    yield from too_long(scene, scene.spec.data.max_length_tokens, "data.max_length_tokens")


def too_long(scene: ModelScene, longest: int, path: str) -> Iterator[Finding]:
    """Sequences of `longest` tokens, as `path` in the config allows, against the model's own limit."""
    limit = scene.model.max_positions
    if limit is None or longest <= limit:
        return
    make = failure if scene.model.learns_positions else warning
    yield make(
        "sequences may be longer than the model's",
        path=path,
        got=str(longest),
        expected=f"at most {limit}, by the model's config.json",
        fix=f"set `{path}: {limit}`",
    )
