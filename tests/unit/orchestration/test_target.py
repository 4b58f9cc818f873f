from __future__ import annotations

from pathlib import Path

import pytest

from steerline.errors import SubmitError
from steerline.orchestration import auth
from steerline.orchestration.target import Target, locate


@pytest.fixture(autouse=True)
def no_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEERLINE_HOME", str(tmp_path))
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)


def test_the_argument_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://b:8265")
    assert locate().address == "http://b:8265"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://a:8265/")
    assert locate().address == "http://a:8265"
    assert locate("https://c").address == "https://c"


def test_without_any_cluster_the_error_says_how_to_start_one() -> None:
    with pytest.raises(SubmitError, match="no cluster") as caught:
        locate()
    assert "steerline up" in str(caught.value)


def test_an_address_for_drivers_is_refused() -> None:
    with pytest.raises(SubmitError, match="HTTP address"):
        locate("127.0.0.1:6379")


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("http://127.0.0.1:1", True),
        ("http://localhost:1", True),
        ("http://[::1]:1", True),
        ("http://10.0.0.2:1", False),
    ],
)
def test_a_cluster_is_local_when_its_address_is_loopback(address: str, local: bool) -> None:
    assert Target(address, {}).is_local is local


def test_the_token_is_looked_up_in_rays_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert auth.headers({}) == {}
    auth.create_token(tmp_path / ".ray" / "auth_token")
    at_home = (tmp_path / ".ray" / "auth_token").read_text()
    assert auth.headers({}) == {"Authorization": f"Bearer {at_home}"}
    (tmp_path / "file").write_text("filed\n")
    filed = {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "file")}
    assert auth.headers(filed) == {"Authorization": "Bearer filed"}
    assert auth.headers({**filed, "RAY_AUTH_TOKEN": "said"}) == {"Authorization": "Bearer said"}
    assert auth.headers({**filed, "RAY_AUTH_MODE": "disabled"}) == {}


def test_a_token_file_is_kept_and_its_mode_mended(tmp_path: Path) -> None:
    path = tmp_path / "token"
    auth.create_token(path)
    first = path.read_text()
    assert len(first) == 64
    path.chmod(0o644)
    auth.create_token(path)
    assert path.read_text() == first
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_token_that_a_full_disk_left_empty_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "auth_token"
    path.touch()
    auth.create_token(path)
    assert len(path.read_text()) == 64
    assert path.stat().st_mode & 0o777 == 0o600
