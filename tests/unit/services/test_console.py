"""The console's pages as they are served, and that they are those of the sources."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from services.console.pages import STAMP, STATIC, WEB, digest, mount
from services.http import errors
from services.http.headers import SecurityHeaders


def _get(path: str, **headers: str) -> httpx.Response:
    app = FastAPI()
    errors.install(app)
    mount(app)
    app.add_middleware(SecurityHeaders)

    async def get() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://endpoint") as client:
            return await client.get(path, headers=headers)

    return asyncio.run(get())


def test_the_page_is_served_with_a_policy_that_lets_it_talk_to_nobody_else() -> None:
    page = _get("/console/")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    policy = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == policy["script-src"] == policy["style-src"] == "'self'"


def test_the_address_without_its_slash_leads_to_the_page() -> None:
    found = _get("/console")
    assert found.status_code == 307
    assert found.headers["location"].endswith("/console/")


def test_browsers_ask_whether_a_file_has_changed_and_get_it_once() -> None:
    first = _get("/console/app.js")
    assert first.headers["cache-control"] == "no-cache"
    assert _get("/console/app.js", **{"If-None-Match": first.headers["etag"]}).status_code == 304


@pytest.mark.parametrize("path", ["/console/nothing.js", "/console/../pages.py", "/console/%2e%2e/pages.py"])
def test_nothing_but_the_built_files_is_served(path: str) -> None:
    assert _get(path).status_code == 404


def test_the_page_names_no_other_host_and_holds_no_script_or_style_of_its_own() -> None:
    page = (STATIC / "index.html").read_text()
    assert not re.search(r"""(?:src|href)=["'](?:[a-z]+:)?//""", page)
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon[a-z]+=", page)
    assert not re.search(r"@import|url\((?![\"']?\./)", (STATIC / "app.css").read_text())


def test_the_built_files_are_those_of_the_sources() -> None:
    assert (STATIC / STAMP).read_text().strip() == digest(), "the console's sources have changed: run `make console`"


def test_building_anew_gives_the_same_bytes(tmp_path: Path) -> None:
    vite, node = WEB / "node_modules" / "vite" / "bin" / "vite.js", shutil.which("node")
    if node is None or not vite.exists():
        pytest.skip("the console's packages are not installed; `make console` installs them")
    subprocess.run([node, vite, "build", "--outDir", tmp_path / "built"], cwd=WEB, check=True, capture_output=True)
    built = {file.name: file.read_bytes() for file in (tmp_path / "built").iterdir()}
    assert built == {file.name: file.read_bytes() for file in STATIC.iterdir()}


def test_the_built_files_are_small() -> None:
    assert sum(file.stat().st_size for file in STATIC.iterdir() if file.name != "licences.txt") < 175_000


def test_the_lock_pins_every_package_and_names_no_registry() -> None:
    lock = json.loads((WEB / "package-lock.json").read_text())
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert all("integrity" in package and "resolved" not in package for package in packages.values())
    wanted = json.loads((WEB / "package.json").read_text())
    versions = {**wanted["dependencies"], **wanted["devDependencies"]}.values()
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in versions)
