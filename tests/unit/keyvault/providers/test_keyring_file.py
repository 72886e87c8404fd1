"""Reading the keyring's file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.keyvault.domain.keyring import KeyringRefused, new_keyring_document
from services.keyvault.providers.keyring_file import KeyringFile
from tests.support.keyvault import write_keyring


async def refusal(path: Path) -> str:
    with pytest.raises(KeyringRefused) as refused:
        await KeyringFile(path).read()
    return refused.value.reason


async def test_a_private_file_is_read(tmp_path: Path) -> None:
    path = write_keyring(tmp_path / "keyring.json", new_keyring_document())
    assert (await (await KeyringFile(path).read()).state()).active == 1


async def test_a_read_only_file_is_as_good(tmp_path: Path) -> None:
    path = write_keyring(tmp_path / "keyring.json", new_keyring_document(), mode=0o400)
    assert (await (await KeyringFile(path).read()).state()).active == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666, 0o700, 0o644])
async def test_a_file_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    path = write_keyring(tmp_path / "keyring.json", new_keyring_document(), mode=mode)
    assert await refusal(path) == "keyring_open_to_others"


async def test_a_missing_file_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "keyring.json"
    assert await refusal(path) == "keyring_missing"
    assert not path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
async def test_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    path = write_keyring(tmp_path / "keyring.json", new_keyring_document())
    os.chown(path, 12345, 12345)
    assert await refusal(path) == "keyring_of_another_user"


_READ = """
import asyncio, concurrent.futures.thread, os
from pathlib import Path
from services.keyvault.domain.keyring import KeyringRefused
from services.keyvault.providers.keyring_file import KeyringFile
os.setgroups([10002]), os.setgid(10001), os.setuid(10001)
try:
    asyncio.run(KeyringFile(Path("keyring.json")).read())
    print("read")
except KeyringRefused as refused:
    print(refused.reason)
"""
_POD = 10001


def as_a_pod_reads(path: Path) -> str:
    """What a process of a pod's user says of the file."""
    path.parent.chmod(0o755)
    # From inside its folder: those above it may be root's alone.
    command = [sys.executable, "-c", _READ]
    told = subprocess.run(
        command,
        cwd=path.parent,
        env={"PYTHONPATH": str(Path(__file__).parents[4])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    return told.stdout.strip()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize(
    ("owner", "group", "mode", "told"),
    [
        (0, _POD, 0o440, "read"),  # as Kubernetes mounts a Secret
        (0, _POD, 0o640, "read"),
        (0, 10002, 0o440, "read"),  # one of its other groups, as fsGroup is
        (_POD, _POD, 0o400, "read"),
        (0, _POD, 0o460, "keyring_open_to_others"),
        (0, _POD, 0o444, "keyring_open_to_others"),
        (0, 12345, 0o444, "keyring_open_to_others"),
        (_POD, _POD, 0o440, "keyring_open_to_others"),
        (12345, _POD, 0o440, "keyring_of_another_user"),
    ],
)
async def test_a_file_of_roots_may_be_lent_to_our_group_alone(
    tmp_path: Path, owner: int, group: int, mode: int, told: str
) -> None:
    path = write_keyring(tmp_path / "keyring.json", new_keyring_document())
    os.chown(path, owner, group)
    path.chmod(mode)
    assert as_a_pod_reads(path) == told


async def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    assert await refusal(pipe) == "keyring_unreadable"
    assert await refusal(tmp_path) == "keyring_unreadable"


@pytest.mark.parametrize("content", ["", "{", "[" * 60_000, "nothing", '{"active": 1', "\x00"])
async def test_what_is_no_json_is_refused(tmp_path: Path, content: str) -> None:
    path = write_keyring(tmp_path / "keyring.json", content)
    assert await refusal(path) == "keyring_malformed"
