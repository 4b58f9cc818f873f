"""What the documentation shows is there, loads and runs."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import shutil
import struct
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
import typer
from typer.testing import CliRunner

from jobs import entry
from steerline import errors
from steerline.cli.app import app
from steerline.config.finetune import FinetuneSpec
from steerline.config.kinds import JOB_KINDS
from steerline.config.load import load
from steerline.config.render import run_name
from steerline.orchestration.preflight.run import CHECKS
from tests.unit import documentation as docs
from tests.unit.documentation import ERROR_PAGES, PAGES, ROOT, Block

CONFIGS = ROOT / "jobs" / "configs"
ERRORS = {
    cls.page: cls
    for _, cls in inspect.getmembers(errors, inspect.isclass)
    if issubclass(cls, errors.SteerlineError) and cls.page
}
YAML = [block for page in PAGES for block in docs.blocks(page) if block.language == "yaml"]
PYTHON = [block for page in PAGES for block in docs.blocks(page) if block.language == "python"]
COMMANDS = sorted({(docs.name(page), tuple(words)) for page in PAGES for words in docs.commands(page)})
ASKS_AN_ENDPOINT = "serving.md"
"""Its Python runs against a real endpoint, in `tests/integration/test_serve.py`."""
TESTS = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
LIBRARY = "\n".join(path.read_text() for path in (ROOT / "steerline").rglob("*.py"))
each_page = pytest.mark.parametrize("page", PAGES, ids=docs.name)
each_error_page = pytest.mark.parametrize("page", ERROR_PAGES, ids=docs.name)


def block_id(block: Block) -> str:
    return f"{docs.name(block.page)}-{block.text.splitlines()[0][:30]}"


@each_page
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in docs.links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in docs.anchors(target), link


@each_page
def test_nothing_waits_to_be_filled_in(page: Path) -> None:
    assert not re.findall(r"^[A-Z_]{4,}$|TODO|TBD|FIXME", docs.prose(page), re.MULTILINE)


@each_page
def test_every_file_that_is_named_exists(page: Path) -> None:
    for code in docs.inline_code(page):
        if re.fullmatch(r"(steerline|jobs|tests|docs|infra|deploy|benchmarks)/[\w./-]+", code):
            assert (ROOT / code).exists(), code


@each_page
def test_every_test_that_is_named_exists(page: Path) -> None:
    for code in docs.inline_code(page):
        if re.fullmatch(r"test_\w+", code):
            assert f"def {code}(" in TESTS, code


@each_page
def test_every_dotted_name_of_the_library_and_every_tag_exists(page: Path) -> None:
    for code in docs.inline_code(page):
        if re.fullmatch(r"steerline(\.\w+)+", code) and f'"{code}"' not in LIBRARY:
            *folders, last = code.split(".")
            inside = ROOT.joinpath(*folders)
            text = next((f.read_text() for f in (inside.with_suffix(".py"), inside / "__init__.py") if f.is_file()), "")
            is_module = (inside / last).is_dir() or (inside / f"{last}.py").is_file()
            assert is_module or re.search(rf"\b{last}\b", text), code


@each_page
def test_every_config_key_that_is_named_exists(page: Path) -> None:
    for code in docs.inline_code(page):
        root, *rest = code.split(".")
        is_file = code.endswith((".json", ".yaml", ".md"))
        if root in FinetuneSpec.model_fields and rest and re.fullmatch(r"[\w.]+", code) and not is_file:
            assert known_key(code), code


@each_page
def test_a_run_of_a_shipped_config_is_shown_under_its_own_name(page: Path) -> None:
    for name, suffix in re.findall(r"\b((?:sft|infosteer|placebo)[a-z-]*-smollm2)-([0-9a-f]{10})\b", page.read_text()):
        config = CONFIGS / f"{name.replace('-', '_')}.yaml"
        assert run_name(load(config).spec) == f"{name}-{suffix}"


@pytest.mark.parametrize("block", YAML, ids=block_id)
def test_every_config_that_is_shown_loads(block: Block, tmp_path: Path) -> None:
    for config in CONFIGS.glob("*.yaml"):
        shutil.copy(config, tmp_path)
    whole = "extends:" in block.text or {"model:", "data:", "training:"} <= set(block.text.splitlines())
    shown = tmp_path / "shown.yaml"
    shown.write_text(block.text if whole else f"extends: sft_smollm2.yaml\n{block.text}")
    load(shown)


@pytest.mark.parametrize("block", PYTHON, ids=block_id)
def test_every_python_example_parses_and_whole_ones_run(block: Block, capsys: pytest.CaptureFixture[str]) -> None:
    tree = ast.parse(block.text)
    if block.page.name == ASKS_AN_ENDPOINT:
        return
    if any(isinstance(line, ast.Import | ast.ImportFrom) for line in tree.body):
        exec(compile(tree, docs.name(block.page), "exec"), {})
        assert capsys.readouterr().out


@pytest.mark.parametrize(
    ("page", "words"), COMMANDS, ids=[f"{page}-{' '.join(words)}"[:90] for page, words in COMMANDS]
)
def test_every_command_that_is_shown_parses(page: str, words: tuple[str, ...]) -> None:
    program, *rest = words
    if program == "make":
        targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        assert {word for word in rest if "=" not in word} <= targets
    elif program == "steerline":
        parse_steerline(rest)
    elif rest[1].startswith("jobs."):
        assert rest[1].removeprefix("jobs.") in JOB_KINDS
        if "--help" not in rest:
            given = entry.parser(rest[1], "").parse_args(rest[2:])
            load_if_there(given.file, given.set)
    else:
        assert importlib.util.find_spec(rest[1]) is not None


def test_the_cheap_commands_run(tmp_path: Path) -> None:
    first = next(block for block in YAML if block.page.name == "configuration.md")
    config = tmp_path / "first.yaml"
    config.write_text(first.text)
    runner = CliRunner()
    assert runner.invoke(app, ["schema", "finetune"]).exit_code == 0
    assert runner.invoke(app, ["validate", str(config), "--resolved"]).exit_code == 0
    shown = runner.invoke(app, ["preview", str(config), "--rows", "1"])
    assert shown.exit_code == 0, shown.output
    assert "[[" in shown.output


def test_every_error_has_a_page_and_every_page_an_error() -> None:
    assert {page.stem for page in ERROR_PAGES} == ERRORS.keys()


@each_error_page
def test_an_error_page_names_its_class_and_exit_code(page: Path) -> None:
    cls = ERRORS[page.stem]
    title = page.read_text().splitlines()[0]
    assert title.startswith("# ")
    assert title.endswith(f"(`{cls.__name__}`, exit code {cls.exit_code})")


@each_error_page
def test_an_error_page_tells_cause_fix_and_what_is_related(page: Path) -> None:
    text = page.read_text()
    assert re.search(r"\*\*Cause\.?\*\*|\| cause \|", text)
    assert re.search(r"\*\*Fix\.?\*\*|\| what to do \|", text)
    assert text.rpartition("\n## Related\n")[2].count("](") >= 1
    assert "\n## Related\n" in text


def test_every_preflight_check_has_its_heading() -> None:
    assert {check.id for check in CHECKS} <= docs.anchors(ROOT / "docs" / "errors" / "preflight.md")


@each_page
def test_pictures_are_files_of_modest_size_with_a_text(page: Path) -> None:
    for text, target in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", page.read_text()):
        content = (page.parent / target).read_bytes()
        assert text
        assert content.startswith(b"\x89PNG")
        assert len(content) < 250 * 1024
        width, _ = struct.unpack(">II", content[16:24])
        assert 600 <= width <= 2000


def parse_steerline(words: list[str]) -> None:
    """Parse a command line as the program would, without carrying it out."""
    if words in ([], ["--help"]):
        return
    group: Any = typer.main.get_command(app)
    with group.make_context("steerline", words, resilient_parsing=False) as context:
        rest = [*context._protected_args, *context.args]
        name, command, arguments = group.resolve_command(context, rest)
        if not arguments:
            return  # prose that names the command
        parsed = command.make_context(name, arguments, parent=context)
    if "file" in parsed.params:
        load_if_there(parsed.params["file"], parsed.params.get("sets") or [])


def load_if_there(file: Path, sets: list[str]) -> None:
    """A config that is shown as a file of this repository must be there and take the overrides shown with it."""
    if file.parts[:2] == ("jobs", "configs") and file.stem != "mine":
        load(ROOT / file, sets)


def known_key(dotted: str) -> bool:
    """Whether a dotted path leads to a field of the config; inside a mapping every key is free."""
    places: list[Any] = [FinetuneSpec]
    for name in dotted.split("."):
        if name.isdigit() or dict in places:
            continue
        fields = [place.model_fields[name] for place in places if name in getattr(place, "model_fields", ())]
        if not fields:
            return False
        places = [inner for field in fields for inner in within(field.annotation)]
    return True


def within(annotation: Any) -> list[type]:
    """The classes that an annotation holds, through unions and tuples; `dict` for a mapping."""
    origin = get_origin(annotation)
    if origin in {Annotated, Union, UnionType, tuple}:
        return [inner for part in get_args(annotation) for inner in within(part)]
    return [origin or annotation] if inspect.isclass(origin or annotation) else []
