"""What a person reads about a config that is wrong."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from steerline.config.load import load
from steerline.errors import ConfigError
from tests.unit.config.files import GOOD, problems, write

TASK = "{name: t, dataset: {source: {kind: file, path: x.jsonl}, format: {kind: text}}}"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_all_problems_of_all_layers_come_at_once_each_with_its_place(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", GOOD.replace("num_steps: 10", "num_steps: 0"))
    top = write(
        tmp_path,
        "top.yaml",
        "extends: base.yaml\n"  # 1
        "training:\n"  # 2
        "  precison: bf16\n"  # 3
        "  precision: fp16\n"  # 4
        "  activation_checkpointing: {reentrant: true}\n"  # 5
        "  global_batch_size: 7\n"  # 6
        "objective:\n"  # 7
        "  steering:\n"  # 8
        "    boost: {layers: [0, -1], strength: -1}\n"  # 9
        "zero: {offload_optimizer: true, raw: {optimizer: {}, zero_optimization: {stage: 1}}}\n"  # 10
        "seed: 1\n"  # 11
        "seed: 2\n",  # 12
    )
    found = problems(top, ["cluster.num_worker=2"])
    assert {path: problem.where for path, problem in found.items()} == {
        "seed": "top.yaml:12:1",
        "training.num_steps": "base.yaml:9:14",
        "training.precison": "top.yaml:3:3",
        "training.precision": "top.yaml:4:14",
        "training.activation_checkpointing.reentrant": "top.yaml:5:41",
        "training.global_batch_size": "top.yaml:6:22",
        "objective.steering.boost.layers.1": "top.yaml:9:25",
        "objective.steering.boost.strength": "top.yaml:9:40",
        "zero.offload_optimizer": "top.yaml:10:27",
        "zero.raw.optimizer": "top.yaml:10:50",
        "cluster.num_worker": "--set cluster.num_worker=2",
    }


@pytest.mark.parametrize(
    ("extra", "path", "got", "expected", "fix"),
    [
        ("seed: x", "seed", 'the text "x"', "an integer of at least 0", None),
        ("seed: '3'", "seed", 'the text "3"', "an integer of at least 0", "remove the quotes"),
        ("seed: 1.5", "seed", "1.5", "an integer of at least 0", None),
        ("seed: true", "seed", "true", "an integer of at least 0", None),
        ("seed: [1]", "seed", "a list [1]", "an integer of at least 0", None),
        ("seed: null", "seed", "null", "an integer of at least 0", None),
        ("sed: 1", "sed", "sed: 1", None, "did you mean `seed`?"),
        ("learning_rate: 1", "learning_rate", None, None, "it belongs at `training.optimizer.learning_rate`"),
        ("tracking: {experiment: 7}", "tracking.experiment", "7", "text", "put it in quotes to make it text"),
        ("tracking: x", "tracking", 'the text "x"', "a mapping with the keys uri,", None),
        ("evaluation: {confidence: 2}", "evaluation.confidence", "2", "a number above 0.5 and below 1", None),
        ("evaluation: {include_base: yes}", "evaluation.include_base", None, "true | false", "write true"),
        ("zero: {stage: 4}", "zero.stage", "4", "0 | 1 | 2 | 3", None),
        ("data: {loss_on: answers}", "data.loss_on", None, "answer | all", "did you mean `answer`?"),
        ("data: {train: []}", "data.train", "a list []", "a list of at least 1", None),
        (
            "model: {lora: {target_modules: 3}}",
            "model.lora.target_modules",
            "3",
            "a list, each item text, or all-",
            None,
        ),
        ("model: {lora: {target_modules: [3]}}", "model.lora.target_modules.0", "3", "text", "put it in quotes"),
        ("model: {source: {kind: hubb}}", "model.source.kind", None, "hub | local | run | packaged | random", "`hub`"),
        ("model: {source: {kind: local}}", "model.source.path", "nothing", "text", None),
        ("model: {source: {kind: local, id: x}}", "model.source.id", None, "kind | path", None),
        ("model: {source: here}", "model.source", 'the text "here"', "a mapping whose `kind` is hub | local", None),
        ("kind: fintune", "kind", 'the text "fintune"', "finetune", "did you mean `finetune`?"),
    ],
)
def test_a_problem_says_what_was_found_what_is_allowed_and_what_was_meant(
    tmp_path: Path, extra: str, path: str, got: str | None, expected: str | None, fix: str | None
) -> None:
    write(tmp_path, "base.yaml", GOOD)
    found = problems(write(tmp_path, "a.yaml", f"extends: base.yaml\n{extra}\n"))
    problem = found[path]
    assert problem.where is not None
    assert problem.where.startswith("a.yaml:2:")
    for text, value in ((got, problem.got), (expected, problem.expected), (fix, problem.fix)):
        assert text is None or text in str(value)


def test_only_the_chosen_kind_is_judged(tmp_path: Path) -> None:
    text = GOOD.replace("{kind: hub, id: some/model}", "{kind: random, architecture: 3, seed: x}")
    assert set(problems(write(tmp_path, "a.yaml", text))) == {"model.source.architecture", "model.source.seed"}


def test_a_list_with_wrong_items_is_not_also_called_empty(tmp_path: Path) -> None:
    text = GOOD.replace("{kind: text}", "{kind: txt}")
    assert set(problems(write(tmp_path, "a.yaml", text))) == {"data.train.0.format.kind"}


def test_a_misspelt_required_key_is_not_also_called_missing(tmp_path: Path) -> None:
    assert set(problems(write(tmp_path, "a.yaml", GOOD.replace("training:", "trainin:")))) == {"trainin"}


def test_a_missing_key_is_placed_at_its_parent(tmp_path: Path) -> None:
    found = problems(write(tmp_path, "a.yaml", GOOD.replace("source: {kind: file, path: train.jsonl}", "limit: 3")))
    assert found["data.train.0.source"].where == "a.yaml:6:7"
    found = problems(write(tmp_path, "a.yaml", GOOD.replace("name: tiny\n", "")))
    assert found["name"].where == "a.yaml:1:1"


@pytest.mark.parametrize(
    ("extra", "path", "where", "what"),
    [
        ("training: {num_epochs: 1}", "training.num_steps", "base.yaml:9:14", "give exactly one of"),
        ("training: {global_batch_size: 6}", "training.global_batch_size", "a.yaml:2:31", "cannot be made of whole"),
        ("zero: {offload_parameters: true}", "zero.offload_parameters", "a.yaml:2:28", "needs stage 3"),
        (
            "objective: {steering: {entropy: {layers: [1, 1]}}}",
            "objective.steering.entropy.layers",
            "a.yaml:2:42",
            "twice",
        ),
        (
            "evaluation: {tasks: [" + ", ".join([TASK, TASK]) + "]}",
            "evaluation.tasks.1.name",
            "a.yaml:2:110",
            "two tasks are called `t`",
        ),
        (
            "evaluation: {tasks: [" + TASK.replace("name: t", "name: ood") + "]}",
            "evaluation.tasks.0.name",
            "a.yaml:2:29",
            "a task may not be called `ood`",
        ),
        (
            "evaluation: {tasks: [" + ", ".join(TASK.replace("name: t", f"name: 't{end}'") for end in "?!") + "]}",
            "evaluation.tasks.1.name",
            "a.yaml:2:113",
            "the tasks `t?` and `t!` have the same metrics, `eval/t_/...`",
        ),
        (
            "zero: {raw: {zero_optimization: {stage: 1, overlap_comm: true}}}",
            "zero.raw.zero_optimization.stage",
            "a.yaml:2:41",
            "DeepSpeed keys that Steerline sets itself: `zero_optimization.stage`",
        ),
        (
            "model: {source: {kind: packaged, name: a, archive: {package: p, version: v, member: m, sha256: '"
            + "0" * 64
            + "'}}}",
            "model.source.archive",
            "a.yaml:2:52",
            "give exactly one of `name` and `archive`",
        ),
    ],
)
def test_values_that_do_not_go_together_are_shown_where_one_of_them_is_written(
    tmp_path: Path, extra: str, path: str, where: str, what: str
) -> None:
    write(tmp_path, "base.yaml", GOOD)
    found = problems(write(tmp_path, "a.yaml", f"extends: base.yaml\n{extra}\n"))
    assert set(found) == {path}
    assert found[path].where == where
    assert what in found[path].what


def test_neither_steps_nor_epochs_is_shown_at_the_training_section(tmp_path: Path) -> None:
    found = problems(write(tmp_path, "a.yaml", GOOD.replace("  num_steps: 10\n", "")))
    assert found["training"].where == "a.yaml:8:1"


def test_impossible_batch_arithmetic_names_the_numbers_that_work(tmp_path: Path) -> None:
    found = problems(write(tmp_path, "a.yaml", GOOD), ["training.global_batch_size=6"])
    assert "one of [1, 2, 3, 6]" in str(found["training.global_batch_size"].fix)


def test_reentrant_checkpointing_is_refused_with_the_reason(tmp_path: Path) -> None:
    found = problems(write(tmp_path, "a.yaml", GOOD + "  activation_checkpointing: {reentrant: true}\n"))
    problem = found["training.activation_checkpointing.reentrant"]
    assert "silently drops the gradients of side losses" in problem.what
    assert problem.where == "a.yaml:11:41"


def test_deepspeed_keys_that_are_not_ours_pass_through(tmp_path: Path) -> None:
    raw = {"zero_optimization": {"overlap_comm": True, "round_robin_gradients": True}, "seed": 1}
    assert load(write(tmp_path, "a.yaml", GOOD), [f"zero.raw={raw}"]).spec.zero.raw == raw


def test_the_message_is_for_people_and_survives_a_process_border(tmp_path: Path) -> None:
    path = write(tmp_path, "a.yaml", GOOD + "seed: x\nsed: 1\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    text = str(caught.value)
    assert text.startswith("2 problems in a.yaml\n")
    assert "docs/errors/config.md" in text
    assert "Input should be" not in text
    assert "pydantic" not in text
    assert str(pickle.loads(pickle.dumps(caught.value))) == text
    assert caught.value.exit_code == 2
