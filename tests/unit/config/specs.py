"""A hypothesis strategy for any spec, read off the spec itself, so that a new field is covered at once."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from hypothesis import strategies as st
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from steerline.config.base import Spec
from steerline.config.finetune import FinetuneSpec
from steerline.config.shape import arms, is_optional, is_spec, strip

PATTERNS = {
    r"^[0-9a-f]{64}$": st.integers(0, 2**256 - 1).map(lambda n: f"{n:064x}"),
    r"^heldout/": st.just("heldout/loss"),
    r"^[a-zA-Z0-9][a-zA-Z0-9_.-]*$": st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,20}", fullmatch=True),
    r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$": st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,20}", fullmatch=True),
}
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=8)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)


def finetune_specs() -> st.SearchStrategy[FinetuneSpec]:
    """Valid jobs of every shape."""
    return _values(FinetuneSpec, []).map(_make_consistent).map(FinetuneSpec.model_validate)


def is_valid(data: dict[str, Any]) -> bool:
    """Whether this is a job."""
    try:
        FinetuneSpec.model_validate(data)
    except ValidationError:
        return False
    return True


def _make_consistent(data: dict[str, Any]) -> dict[str, Any]:
    """Bring together the values that have to agree."""
    training = data["training"]
    training["global_batch_size"] = training.get("micro_batch_size", 4) * 3
    if (training.get("num_steps") is None) == (training.get("num_epochs") is None):
        training["num_steps"], training["num_epochs"] = 5, None
    if training.get("activation_checkpointing"):
        training["activation_checkpointing"] = {"reentrant": False}
    if data.get("zero"):
        data["zero"].update(stage=3, raw={"wall_clock_breakdown": True})
    for index, task in enumerate(data.get("evaluation", {}).get("tasks", [])):
        task["name"] += str(index)
    training["heldout_every_steps"], training["heldout_every_epochs"] = None, 1
    if training.get("early_stopping") is not None:
        training["early_stopping"].update(metric="heldout/loss", mode="min")
        data["data"]["heldout"] = [*data["data"].get("heldout", []), *data["data"]["train"]]
    _fit_the_objective(data, is_classifier=data.get("objective", {}).get("kind") == "classification")
    for name in ("boost", "entropy"):
        part = data.get("objective", {}).get("steering", {}).get(name)
        if part and isinstance(part.get("layers"), list):
            part["layers"] = sorted(set(part["layers"]))
    scales = data.get("objective", {}).get("steering", {}).get("residual_scale")
    if scales:
        scales.update(layers="all", split=True)
    return data


def _fit_the_objective(data: dict[str, Any], *, is_classifier: bool) -> None:
    """Give all rows classes where the objective is over classes, and none where it is over tokens."""
    tasks = data.get("evaluation", {}).get("tasks", [])
    sets = [*data["data"]["train"], *data["data"].get("heldout", []), *(task["dataset"] for task in tasks)]
    for dataset in sets:
        if is_classifier:
            dataset["format"] = {"kind": "classification", "classes": ["no", "yes"]}
        elif dataset["format"]["kind"] == "classification":
            dataset["format"] = {"kind": "text"}
    for task in tasks:
        task["method"] = "classify" if is_classifier else "likelihood"
    if is_classifier:
        data["data"]["packing"], data["model"]["lora"] = False, None
    elif isinstance(data["model"]["source"].get("tokenizer"), dict):
        data["model"]["source"]["tokenizer"] = None


def _values(annotation: Any, metadata: list[Any]) -> st.SearchStrategy[Any]:
    for item in get_args(annotation)[1:] if strip(annotation) is not annotation else ():
        metadata = [*metadata, *(item.metadata if isinstance(item, FieldInfo) else [item])]
    options = [
        _values(arm, metadata) if get_origin(arm) is Annotated else _arm(arm, metadata) for arm in arms(annotation)
    ]
    return st.one_of(*([st.none()] if is_optional(annotation) else []), *options)


def _arm(arm: Any, metadata: list[Any]) -> st.SearchStrategy[Any]:
    if is_spec(arm):
        return _mapping(arm)
    origin, args = get_origin(arm), get_args(arm)
    if origin is Literal:
        return st.sampled_from(args)
    if origin is tuple:
        return _list(args, metadata)
    if origin is dict:
        return st.dictionaries(TEXT, ANYTHING if args[1] is Any else _values(args[1], []), max_size=2)
    return _scalar(arm, metadata)


def _list(items: tuple[Any, ...], metadata: list[Any]) -> st.SearchStrategy[Any]:
    shortest = max((m.min_length for m in metadata if isinstance(m, MinLen)), default=0)
    if items[-1] is Ellipsis:
        return st.lists(_values(items[0], []), min_size=shortest, max_size=max(2, shortest))
    return st.tuples(*(_values(item, []) for item in items)).map(list)


def _mapping(cls: type[Spec]) -> st.SearchStrategy[dict[str, Any]]:
    fields = cls.model_fields
    required = {name: _values(f.annotation, f.metadata) for name, f in fields.items() if f.is_required()}
    optional = {name: _values(f.annotation, f.metadata) for name, f in fields.items() if not f.is_required()}
    mapping = st.fixed_dictionaries(required, optional=optional)
    if {"name", "archive"} <= set(fields):
        return mapping.map(lambda data: {**data, "name": "x", "archive": None})
    return mapping


def _scalar(kind: Any, metadata: list[Any]) -> st.SearchStrategy[Any]:
    if kind is str:
        patterns = [pattern for m in metadata for pattern in PATTERNS if pattern in repr(m)]
        return PATTERNS[patterns[0]] if patterns else TEXT
    if kind is bool:
        return st.booleans()
    low: Any = next((m.ge if isinstance(m, Ge) else m.gt for m in metadata if isinstance(m, Ge | Gt)), None)
    high: Any = next((m.le if isinstance(m, Le) else m.lt for m in metadata if isinstance(m, Le | Lt)), None)
    if kind is int:
        return st.integers(low, high if high is not None else (low or 0) + 1000)
    above, below = (any(isinstance(m, bound) for m in metadata) for bound in (Gt, Lt))
    return st.floats(low, high, allow_nan=False, allow_infinity=False, exclude_min=above, exclude_max=below)
