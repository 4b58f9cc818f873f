from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from steerline.errors import EvaluationError
from steerline.evaluation.compare import compare, comparison_table, difference_text, p_text
from steerline.evaluation.report import comparison_markdown, markdown, metrics
from steerline.evaluation.statistics import Interval, holm, paired_test
from tests.unit.evaluation.build import result, task

A1, B1 = [1, 0, 0, 0, 1, 0, 1, 0], [1, 1, 1, 1, 1, 1, 1, 0]
A2, B2 = [1, 1, 0, 0], [1, 0, 0, 0]
A = result(task("boolq", A1), task("piqa", A2), task("svamp", A2, group="ood"))
B = result(task("boolq", B1), task("piqa", B2), task("svamp", B2, group="ood"))


def test_rows_are_tasks_then_groups_with_paired_tests() -> None:
    comparison = compare(A, B, label_a="SFT", label_b="InfoSteer")
    assert [(row.name, row.kind) for row in comparison.rows] == [
        ("boolq", "task"),
        ("piqa", "task"),
        ("svamp", "task"),
        ("id", "group"),
        ("ood", "group"),
    ]
    first = comparison.rows[0]
    assert first.test == paired_test(A1, B1, num_resamples=500)
    assert (first.a.mean, first.b.mean) == (3 / 8, 7 / 8)
    assert [row.p_holm for row in comparison.rows[:3]] == list(holm([r.test.p_value for r in comparison.rows[:3]]))
    group = comparison.rows[3]
    assert group.p_holm is None
    assert group.test.difference.mean == pytest.approx((4 / 8 - 1 / 4) / 2)
    assert comparison.num_items == 16
    assert json.loads(comparison.to_json())["label_b"] == "InfoSteer"


def test_order_of_tasks_does_not_matter() -> None:
    shuffled = result(*reversed(B.tasks))
    assert compare(A, shuffled) == compare(A, B)


def test_a_run_against_itself_shows_no_difference() -> None:
    for row in compare(A, A).rows:
        assert row.test.difference == Interval(0, 0, 0)
        assert row.test.p_value == 1


def test_different_items_are_named() -> None:
    other = result(task("boolq", A1, prefix="x"), *B.tasks[1:])
    with pytest.raises(EvaluationError, match="same items") as caught:
        compare(A, other)
    assert "boolq-0" in str(caught.value.got)
    assert "xboolq-0" in str(caught.value.got)
    assert "(8 in all)" in str(caught.value.got)


def test_different_data_under_the_same_ids_is_refused() -> None:
    other = result(task("boolq", A1, digest="other"), *B.tasks[1:])
    with pytest.raises(EvaluationError, match="same items") as caught:
        compare(A, other)
    assert "digests d0 and other" in str(caught.value.got)


def test_missing_tasks_other_methods_and_shares_are_refused() -> None:
    with pytest.raises(EvaluationError, match="different tasks"):
        compare(A, result(*B.tasks[:2]))
    with pytest.raises(EvaluationError, match="different ways"):
        compare(A, result(task("boolq", B1, method="generate"), *B.tasks[1:]))
    with pytest.raises(EvaluationError, match="one worker's share"):
        compare(A, result(task("boolq", B1[:4], indices=range(4), num_items=8), *B.tasks[1:]))


def rendered(width: int) -> str:
    console = Console(width=width, file=io.StringIO())
    console.print(comparison_table(compare(A, B, label_a="SFT", label_b="InfoSteer"), title="SFT and InfoSteer"))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_table_fits_a_terminal_of_100_columns_and_loses_nothing_in_a_narrow_one() -> None:
    assert "37.5 [12.5, 75.0]" in rendered(100)
    assert "id mean" in rendered(100)
    for width in (100, 80, 60):
        assert "…" not in rendered(width)


def test_numbers_are_written_with_sign_and_without_minus_zero() -> None:
    assert difference_text(Interval(-0.00001, -0.05, 0.025)) == "+0.0 [-5.0, +2.5]"
    assert p_text(0.0001) == "<0.001"
    assert p_text(0.04567) == "0.046"


def test_metrics_have_the_names_dashboards_read() -> None:
    values = metrics(A)
    assert values["eval/boolq/accuracy"] == 3 / 8
    assert values["eval/boolq/num_items"] == 8
    assert values["eval/id/accuracy"] == pytest.approx((3 / 8 + 2 / 4) / 2)
    assert values["eval/id/num_items"] == 12
    assert values["eval/ood/accuracy_low"] <= values["eval/ood/accuracy"] <= values["eval/ood/accuracy_high"]


def test_markdown_tables_have_as_many_cells_in_every_row() -> None:
    for text in (markdown(A), comparison_markdown(compare(A, B, label_a="a|b"))):
        rows = [line for line in text.splitlines() if line.startswith("|")]
        assert len({row.replace("\\|", "").count("|") for row in rows}) == 1
        assert len(rows) == 2 + 5
