"""The resolved config, the hash that names a run, and the schema."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from steerline.config.base import NOT_IDENTITY
from steerline.config.finetune import FinetuneSpec
from steerline.config.load import load
from steerline.config.render import identity, identity_hash, json_schema, resolved, resolved_json, run_name
from steerline.config.shape import child, kinds, spec_class
from steerline.errors import ConfigError
from tests.unit.config.files import GOOD, write
from tests.unit.config.specs import finetune_specs, is_valid

often = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def leaves(value: Any, annotation: Any, path: tuple[Any, ...] = (), counts: bool = True) -> Iterator[tuple[Any, ...]]:
    """Each scalar of a resolved config: path, value, and whether it is part of the run's identity."""
    if isinstance(value, dict):
        cls = spec_class(annotation, value.get("kind"))
        for key, item in value.items():
            marked = cls is not None and cls.model_fields[key].json_schema_extra == NOT_IDENTITY
            yield from leaves(item, child(annotation, key, value.get("kind")), (*path, key), counts and not marked)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, child(annotation, index), (*path, index), counts)
    else:
        yield path, value, counts


def changed(data: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """A copy with one leaf replaced."""
    copy: dict[str, Any] = json.loads(json.dumps(data))
    place: Any = copy
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return copy


def others(value: Any) -> list[Any]:
    """Values to try in place of one; a field takes some of them."""
    near = [value + 1, value / 2, value * 3] if isinstance(value, int | float) and not isinstance(value, bool) else []
    words = ["other", "fp32", "eager", "abs", "all", "value", "signed", "relu", "eval", "drop", "cosine", "tokens"]
    words += ["boolq", "piqa", "linear", "generate", "ood", "off", "truncate", "magnitude", "npm", "top_keys"]
    return [candidate for candidate in [not value, *near, 7, 0.5, *words, None] if candidate != value]


@often
@given(spec=finetune_specs())
def test_the_resolved_json_reloads_to_the_same_spec_and_hash(spec: FinetuneSpec) -> None:
    again = FinetuneSpec.model_validate_json(resolved_json(spec), strict=True)
    assert again == spec
    assert identity_hash(again) == identity_hash(spec)
    assert resolved_json(again) == resolved_json(spec)


@settings(often, max_examples=20)
@given(spec=finetune_specs())
def test_the_resolved_json_loads_as_a_config_file(spec: FinetuneSpec, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = write(tmp_path_factory.mktemp("resolved"), "resolved.json", resolved_json(spec))
    assert load(path).spec == spec


@often
@given(spec=finetune_specs(), data=st.data())
def test_the_hash_moves_with_every_identity_leaf_and_with_no_other(spec: FinetuneSpec, data: st.DataObject) -> None:
    whole = resolved(spec)
    path, value, counts = data.draw(st.sampled_from(list(leaves(whole, FinetuneSpec))))
    candidates = (changed(whole, path, other) for other in others(value))
    other = next((candidate for candidate in candidates if is_valid(candidate)), None)
    assume(other is not None)
    after = FinetuneSpec.model_validate(other)
    assume(after != spec)
    assert (identity_hash(after) != identity_hash(spec)) == counts


@often
@given(spec=finetune_specs(), seed=st.integers())
def test_the_order_of_keys_does_not_matter(spec: FinetuneSpec, seed: int) -> None:
    def shuffle(value: Any) -> Any:
        if isinstance(value, dict):
            items = list(value.items())
            random.Random(seed).shuffle(items)
            return {key: shuffle(item) for key, item in items}
        return [shuffle(item) for item in value] if isinstance(value, list) else value

    again = FinetuneSpec.model_validate(shuffle(resolved(spec)))
    assert identity_hash(again) == identity_hash(spec)
    assert resolved_json(again) == resolved_json(spec)


@pytest.mark.parametrize(
    ("override", "same"),
    [
        ("cluster.num_workers=2", True),
        ("training.micro_batch_size=2", True),
        ("tracking.experiment=other", True),
        ("evaluation.include_base=true", True),
        ("name=other", True),
        ("seed=1", False),
        ("training.num_steps=11", False),
        ("objective.steering.boost.strength=1", False),
        ("model.source.revision=abc", False),
        ("zero.stage=1", False),
    ],
)
def test_what_names_a_run_is_what_it_computes(tmp_path: Path, override: str, same: bool) -> None:
    path = write(tmp_path, "a.yaml", GOOD)
    assert (identity_hash(load(path).spec) == identity_hash(load(path, [override]).spec)) == same


def test_an_integer_for_a_number_is_the_same_run(tmp_path: Path) -> None:
    path = write(tmp_path, "a.yaml", GOOD)
    one, same = (load(path, [f"training.clip_norm={text}"]).spec for text in ("1", "1.0"))
    assert identity_hash(one) == identity_hash(same)


def test_the_run_name_is_the_name_and_the_start_of_the_hash(tmp_path: Path) -> None:
    spec = load(write(tmp_path, "a.yaml", GOOD)).spec
    assert run_name(spec) == f"tiny-{identity_hash(spec)[:10]}"


def test_the_hash_is_pinned(tmp_path: Path) -> None:
    """A change of this value renames every run that people have: they would not resume. Change it knowingly."""
    spec = load(write(tmp_path, "a.yaml", GOOD)).spec
    assert set(identity(spec)) == {"kind", "seed", "model", "data", "objective", "training", "zero"}
    assert "micro_batch_size" not in identity(spec)["training"]


def test_the_schema_is_valid_and_describes_every_field() -> None:
    schema = json_schema("finetune")
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    for name, part in {"FinetuneSpec": schema, **schema["$defs"]}.items():
        assert part.get("description"), name
        assert part["additionalProperties"] is False, name
        for key, field in part["properties"].items():
            assert field.get("description") or "const" in field, f"{name}.{key}"
    json.dumps(schema)


@settings(often, max_examples=20)
@given(spec=finetune_specs())
def test_the_schema_accepts_every_resolved_config(spec: FinetuneSpec) -> None:
    Draft202012Validator(json_schema("finetune")).validate(resolved(spec))


def test_the_schema_refuses_what_the_loader_refuses(tmp_path: Path) -> None:
    whole = resolved(load(write(tmp_path, "a.yaml", GOOD)).spec)
    for path, value in ((("seed",), "x"), (("sed",), 1), (("model", "source", "kind"), "x"), (("zero", "stage"), 4)):
        assert list(Draft202012Validator(json_schema("finetune")).iter_errors(changed(whole, path, value)))


def test_an_unknown_kind_of_job_has_no_schema() -> None:
    with pytest.raises(ConfigError, match="no such kind"):
        json_schema("fintune")


def test_every_union_of_specs_is_told_apart_by_kind() -> None:
    assert set(kinds(child(child(FinetuneSpec, "model"), "source"))) == {"hub", "local", "run", "packaged", "random"}
