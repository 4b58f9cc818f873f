from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from steerline.errors import StackError
from steerline.orchestration import endpoint, stack


def test_a_config_is_deployed_as_it_stands_but_for_where_it_listens(tmp_path: Path) -> None:
    application = {"name": "a", "import_path": "module:build"}
    given = {"http_options": {"host": "0.0.0.0", "port": 80, "keep_alive_timeout_s": 7}, "applications": [application]}
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(given))
    words = endpoint.command(endpoint.read(file), tmp_path, "127.0.0.1:6379", 8123)
    deployed = yaml.safe_load((tmp_path / "endpoint.yaml").read_text())
    assert deployed == {
        "http_options": {"host": "127.0.0.1", "port": 8123, "keep_alive_timeout_s": 7},
        "applications": [application],
    }
    assert words[-4:] == ["run", str(tmp_path / "endpoint.yaml"), "--address", "127.0.0.1:6379"]


@pytest.mark.parametrize("text", [None, "[", "- a list", "{models: {}}"])
def test_a_file_that_is_no_serve_config_is_refused_before_anything_starts(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "mine.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(StackError) as caught:
        stack.up(tmp_path / "home", endpoint=file)
    assert caught.value.where == str(file)
    assert not (tmp_path / "home").exists()
