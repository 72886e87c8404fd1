"""Reading the keyring's file."""

from __future__ import annotations

import os
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


async def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    assert await refusal(pipe) == "keyring_unreadable"
    assert await refusal(tmp_path) == "keyring_unreadable"


@pytest.mark.parametrize("content", ["", "{", "[" * 60_000, "nothing", '{"active": 1', "\x00"])
async def test_what_is_no_json_is_refused(tmp_path: Path, content: str) -> None:
    path = write_keyring(tmp_path / "keyring.json", content)
    assert await refusal(path) == "keyring_malformed"
