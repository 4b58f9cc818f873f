from __future__ import annotations

from steerline.tracking.naming import field_name, flatten, lineage_tags


def test_nested_values_become_dotted_names() -> None:
    tree = {
        "model": {"name": "m", "lora": None},
        "layers": [1, 2],
        "data": [{"ref": "a"}, {"ref": "b"}],
        "on": True,
        "lr": 1e-4,
        "empty": {},
    }
    assert flatten(tree) == {
        "model.name": "m",
        "model.lora": "null",
        "layers": "[1, 2]",
        "data.0.ref": "a",
        "data.1.ref": "b",
        "on": "true",
        "lr": "0.0001",
        "empty": "{}",
    }


def test_characters_that_mlflow_refuses_are_replaced_and_long_names_cut() -> None:
    assert field_name("eval/arc (easy)@5") == "eval/arc _easy__5"
    assert field_name("train/key_entropy/layer_00") == "train/key_entropy/layer_00"
    assert len(field_name("x" * 400)) == 250


def test_each_parent_is_a_tag_and_all_are_searchable_together() -> None:
    tags = lineage_tags({"base_model": "models:/m/1", "dataset": "abc"})
    assert tags["steerline.parent.base_model"] == "models:/m/1"
    assert tags["steerline.parents"] == ",abc,models:/m/1,"
    assert lineage_tags({}) == {}
