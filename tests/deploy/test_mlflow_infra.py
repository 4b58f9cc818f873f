"""The compose files for MLflow are what Compose and `mlflow server` accept, hold no secret and listen on loopback."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from steerline.tracking.redact import is_secret_name

ROOT = Path(__file__).resolve().parents[2]
INFRA = ROOT / "infra" / "mlflow"
FILES = sorted(INFRA.glob("*/compose.yaml"))
SCHEMA = json.loads((Path(__file__).parent / "schemas" / "compose-spec.json").read_text())


def load(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text())
    return content


@pytest.fixture(scope="module")
def server_flags() -> set[str]:
    done = subprocess.run(
        [sys.executable, "-m", "mlflow", "server", "--help"], capture_output=True, text=True, check=True
    )
    return set(re.findall(r"(--[a-z][a-z-]+)", done.stdout))


def test_both_servers_are_there() -> None:
    assert [path.parent.name for path in FILES] == ["postgres", "sqlite"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_compose_accepts_the_file(path: Path) -> None:
    jsonschema.Draft202012Validator(SCHEMA).validate(load(path))


def test_the_schema_finds_a_misspelt_key() -> None:
    content = load(FILES[0])
    content["services"]["mlflow"]["restarts"] = "always"
    with pytest.raises(jsonschema.ValidationError, match="restarts"):
        jsonschema.Draft202012Validator(SCHEMA).validate(content)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_mlflow_server_knows_every_flag(path: Path, server_flags: set[str]) -> None:
    command = load(path)["services"]["mlflow"]["command"]
    flags = [argument.partition("=")[0] for argument in command]
    assert set(flags) <= server_flags
    assert "--allowed-hosts" in flags
    assert "--artifacts-destination" in flags


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_ports_are_published_on_loopback_only(path: Path) -> None:
    for service in load(path)["services"].values():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_secrets_come_from_the_environment_and_must_be_set(path: Path) -> None:
    content = load(path)
    assert all("${" not in str(a) or "PASSWORD" not in str(a) for a in content["services"]["mlflow"]["command"])
    for service in content["services"].values():
        for name, value in service.get("environment", {}).items():
            if is_secret_name(name):
                assert re.fullmatch(r"\$\{\w+:\?[^}]+\}", str(value)), f"{name} is written out"
            for user_and_password in re.findall(r"://([^/@\s]+)@", str(value)):
                assert re.fullmatch(r"\w+:\$\{\w+:\?[^}]+\}", user_and_password)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_every_volume_and_dependency_is_declared(path: Path) -> None:
    content = load(path)
    for service in content["services"].values():
        assert {volume.partition(":")[0] for volume in service.get("volumes", [])} <= set(content["volumes"])
        assert set(service.get("depends_on", [])) <= set(content["services"])
        if "build" in service:
            context = path.parent / service["build"]["context"]
            assert context.resolve() == ROOT
            assert (context / service["build"]["dockerfile"]).is_file()


def test_the_example_names_every_secret_and_gives_none() -> None:
    needed = set(re.findall(r"\$\{(\w+):\?", (INFRA / "postgres" / "compose.yaml").read_text()))
    lines = (INFRA / "postgres" / "env.example").read_text().splitlines()
    given = {line.partition("=")[0] for line in lines if re.match(r"^\w+=$", line)}
    assert given == needed
    optional = set(re.findall(r"\$\{(\w+):-", (INFRA / "postgres" / "compose.yaml").read_text()))
    assert optional == set(re.findall(r"^# (\w+)=", "\n".join(lines), re.M))


def test_the_image_takes_every_version_from_the_constraints_or_pins_it() -> None:
    install = re.search(r"pip install .*-c /tmp/constraints.txt (.+?) \\$", (INFRA / "Dockerfile").read_text(), re.M)
    assert install is not None
    constraints = (ROOT / "constraints.txt").read_text()
    for package in shlex.split(install[1]):
        name = package.partition("[")[0]
        assert "==" in package or re.search(rf"^{name}==", constraints, re.M), package


def test_the_database_driver_is_named() -> None:
    uri = load(INFRA / "postgres" / "compose.yaml")["services"]["mlflow"]["environment"]["MLFLOW_BACKEND_STORE_URI"]
    assert uri.startswith("postgresql+psycopg://")
