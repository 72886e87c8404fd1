"""The file of signing keys: used when it is good, never made anew when it is not."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.auth.actions.remove_signing_key import RemoveSigningKey
from services.auth.actions.rotate_signing_key import RotateSigningKey
from services.auth.domain.errors import SigningKeysUnavailable
from services.auth.domain.key_rotation import KeyLine, RotationPace, StandbyTooYoung
from services.auth.domain.signing_key import UnusableSigningKeys
from services.auth.domain.signing_keys import new_signing_keys
from services.auth.providers.signing_key_file import SigningKeyBook, SigningKeyFile
from shared import locked_file, watched_file
from shared.clock import SystemClock

PACE = RotationPace(published_first=timedelta(minutes=5), kept=timedelta(minutes=20))
NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps(new_signing_keys(NOON)))
    return path


@pytest.fixture
def looking_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched_file, "_LOOK_AGAIN_SECONDS", 0.0)


def rotate(path: Path) -> KeyLine:
    return RotateSigningKey(SigningKeyBook(path), PACE, SystemClock())()


async def test_a_good_file_is_used(path: Path) -> None:
    keys = SigningKeyFile(path)
    await keys.check()
    assert keys.current().active.kid == json.loads(path.read_text())["keys"][0]["kid"]


def test_a_rotation_that_comes_too_soon_notes_from_when_on_the_standby_is_shown(
    path: Path,
) -> None:
    document = json.loads(path.read_text())
    document["keys"] = document["keys"][:1]
    path.write_text(json.dumps(document))
    with pytest.raises(StandbyTooYoung):
        rotate(path)
    standby = SigningKeyBook(path).read().standby
    assert standby is not None
    assert standby.published_at is not None


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff\xfe", b"[" * 100_000])
async def test_without_a_good_file_there_are_no_keys_and_none_are_made(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "keys.json"
    if content is not None:
        path.write_bytes(content)
    keys = SigningKeyFile(path)
    with pytest.raises(SigningKeysUnavailable):
        keys.current()
    with pytest.raises(SigningKeysUnavailable):
        await keys.check()
    for command in (rotate, lambda path: SigningKeyBook(path).read()):
        with pytest.raises((OSError, UnusableSigningKeys)):
            command(path)
    assert (path.read_bytes() if path.exists() else None) == content


def test_an_unset_path_and_a_folder_are_no_file(tmp_path: Path) -> None:
    for path in (None, tmp_path):
        with pytest.raises(SigningKeysUnavailable):
            SigningKeyFile(path).current()


@pytest.mark.usefixtures("looking_always")
def test_a_rotation_is_taken_without_a_restart(path: Path) -> None:
    keys = SigningKeyFile(path)
    standby = keys.current().line.standby
    assert standby is not None
    rotate(path)
    assert keys.current().active.kid == standby.kid


@pytest.mark.usefixtures("looking_always")
async def test_the_last_good_keys_go_on_while_the_file_is_bad_or_gone(path: Path) -> None:
    keys = SigningKeyFile(path)
    signing, good = keys.current().active.kid, path.read_text()
    for spoil in (
        lambda: path.write_text(good[:-20]),
        lambda: path.write_text(good.replace("active", "standby")),
        path.unlink,
    ):
        spoil()
        assert keys.current().active.kid == signing
        await keys.check()
    path.write_text(good)
    rotate(path)
    assert keys.current().active.kid != signing


@pytest.mark.usefixtures("looking_always")
def test_a_file_that_is_restored_is_taken(path: Path) -> None:
    good = path.read_text()
    path.unlink()
    keys = SigningKeyFile(path)
    with pytest.raises(SigningKeysUnavailable):
        keys.current()
    path.write_text(good)
    assert keys.current().active.kid


def test_a_write_is_private_and_whole_and_leaves_no_draft(path: Path) -> None:
    path.chmod(0o644)
    before = json.loads(path.read_text())
    rotate(path)
    after = json.loads(path.read_text())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {**after, "keys": before["keys"]} == before
    assert sorted(f.name for f in path.parent.iterdir()) == [".keys.json.lock", "keys.json"]
    assert stat.S_IMODE((path.parent / ".keys.json.lock").stat().st_mode) == 0o600


def test_a_linked_file_is_replaced_where_it_lies(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.json"
    link.symlink_to(path)
    rotated = rotate(link)
    assert link.is_symlink()
    assert json.loads(path.read_text())["keys"][1]["kid"] == rotated.active.kid


def test_what_a_change_refuses_leaves_the_file(path: Path) -> None:
    before = path.read_bytes()

    def refuse(_line: KeyLine) -> KeyLine:
        raise StandbyTooYoung("kid", NOON)

    with pytest.raises(StandbyTooYoung):
        SigningKeyBook(path).change(refuse)
    assert path.read_bytes() == before


def test_a_crash_before_the_last_step_leaves_the_old_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = path.read_bytes()

    def crash(*_: object) -> None:
        raise OSError("no power")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="no power"):
        patch.setattr(Path, "replace", crash)
        rotate(path)
    assert path.read_bytes() == before
    assert [key.state for key in rotate(path).keys] == ["retiring", "active", "standby"]


def test_of_many_commands_at_once_one_rotates_and_no_key_is_lost(path: Path) -> None:
    done: list[str] = []

    def attempt(run: Callable[[], object], name: str) -> None:
        try:
            run()
        except StandbyTooYoung:
            done.append("refused")
        else:
            done.append(name)

    threads = [
        threading.Thread(target=attempt, args=(lambda: rotate(path), "rotated")) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == ["refused"] * 7 + ["rotated"]
    line = SigningKeyBook(path).read()
    assert [key.state for key in line.keys] == ["retiring", "active", "standby"]


def test_two_processes_never_overwrite_each_other(path: Path) -> None:
    """Each adds ten keys; without the lock most of them would be lost."""
    script = (
        "import sys\n"
        "from datetime import datetime, UTC\n"
        "from pathlib import Path\n"
        "from services.auth.domain.key_rotation import KeyLine\n"
        "from services.auth.domain.signing_key import SigningKey\n"
        "from services.auth.providers.signing_key_file import SigningKeyBook\n"
        "for _ in range(10):\n"
        "    SigningKeyBook(Path(sys.argv[1])).change(\n"
        "        lambda line: KeyLine((*line.keys, SigningKey.made(datetime.now(UTC)))))\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", script, str(path)], cwd=Path(__file__).parents[4])
        for _ in range(2)
    ]
    assert [process.wait(30) for process in processes] == [0, 0]
    assert len(SigningKeyBook(path).read().keys) == 2 + 20


def test_a_command_that_holds_on_is_not_waited_for_forever(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locked_file, "_LOCK_SECONDS", 0.05)
    with locked_file.alone_with(path), pytest.raises(TimeoutError):
        rotate(path)


@pytest.mark.usefixtures("looking_always")
def test_a_removed_key_is_out_of_the_running_service_at_the_next_look(path: Path) -> None:
    keys = SigningKeyFile(path)
    stolen = str(keys.current().active.kid)
    RemoveSigningKey(SigningKeyBook(path), PACE, SystemClock())(stolen)
    public = keys.current().public(SystemClock().now(), kept=PACE.kept)
    assert stolen not in {key["kid"] for key in public["keys"]}
    assert keys.current().active.kid != stolen
