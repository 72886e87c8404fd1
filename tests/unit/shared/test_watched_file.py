"""A changed file is taken within a second; a bad one never replaces a good one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from shared import watched_file
from shared.watched_file import UnusableFile, WatchedFile
from tests.support.clocks import StoppedTime


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> StoppedTime:
    clock = StoppedTime()
    monkeypatch.setattr(watched_file, "time", clock)
    return clock


def number(text: str) -> int:
    if text == "secret":
        raise UnusableFile("not a number")
    return int(json.loads(text)["number"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "numbers.json"
    put(path, 1)
    return path


@pytest.fixture
def file(path: Path, clock: StoppedTime) -> WatchedFile[int]:
    file = WatchedFile(path, number, name="numbers")
    assert file.load() == 1
    return file


def put(path: Path, content: Any) -> None:
    draft = path.with_name("draft")
    draft.write_text(content if isinstance(content, str) else json.dumps({"number": content}))
    draft.replace(path)


def test_a_change_is_seen_after_a_second_and_not_before(
    file: WatchedFile[int], path: Path, clock: StoppedTime
) -> None:
    put(path, 2)
    clock.now += 0.9
    assert file.current() == 1
    clock.now += 0.2
    assert file.current() == 2


def test_a_change_in_place_is_seen_too(
    file: WatchedFile[int], path: Path, clock: StoppedTime
) -> None:
    path.write_text('{"number": 3}')
    os.utime(path, ns=(1, 1))
    clock.now += 1
    assert file.current() == 3


def test_an_unchanged_file_is_not_read_again(
    file: WatchedFile[int], path: Path, clock: StoppedTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "read_text", None)
    for _ in range(5):
        clock.now += 10
        assert file.current() == 1


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"number": "x"}', "[" * 10_000, "{}"])
def test_what_cannot_be_used_leaves_the_last_good_content(
    file: WatchedFile[int], path: Path, clock: StoppedTime, content: str
) -> None:
    put(path, content)
    clock.now += 1
    assert file.current() == 1
    put(path, 4)
    clock.now += 1
    assert file.current() == 4


def test_bytes_that_are_no_text_and_a_folder_leave_it_too(
    file: WatchedFile[int], path: Path, clock: StoppedTime
) -> None:
    path.write_bytes(b"\xff\xfe")
    clock.now += 1
    assert file.current() == 1
    path.unlink()
    path.mkdir()
    clock.now += 1
    assert file.current() == 1


def test_a_lost_file_leaves_it_and_a_restored_one_is_taken(
    file: WatchedFile[int], path: Path, clock: StoppedTime
) -> None:
    path.unlink()
    clock.now += 1
    assert file.current() == 1
    put(path, 5)
    clock.now += 1
    assert file.current() == 5


def test_trouble_is_told_once_and_without_the_content(
    file: WatchedFile[int], path: Path, clock: StoppedTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A logger of its own: one that was used before keeps the processors of that time.
    monkeypatch.setattr(watched_file, "log", structlog.get_logger())
    put(path, "secret")
    with capture_logs() as logs:
        for _ in range(5):
            clock.now += 1
            file.current()
    [told] = logs
    assert (told["event"], told["reason"]) == ("file_unusable", "not a number")
    assert "secret" not in str(told)


def test_a_file_that_comes_late_is_taken(tmp_path: Path, clock: StoppedTime) -> None:
    file = WatchedFile(tmp_path / "late.json", number, name="numbers")
    with pytest.raises(OSError):
        file.load()
    assert file.current() is None
    put(tmp_path / "late.json", 6)
    clock.now += 1
    assert file.current() == 6
