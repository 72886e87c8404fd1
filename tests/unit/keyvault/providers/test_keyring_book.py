"""The keyring's file is changed one at a time, whole or not at all."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from services.keyvault.domain.keyring import KeyringRefused, new_keyring_document
from services.keyvault.domain.rotation import with_standby
from services.keyvault.providers.keyring_book import KeyringBook
from services.keyvault.providers.keyring_file import KeyringFile
from tests.support.keyvault import write_keyring


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_keyring(tmp_path / "keyring.json", new_keyring_document())


async def test_a_changed_file_is_read_by_the_service_and_is_still_private(path: Path) -> None:
    before = path.stat()
    await KeyringBook(path).change(with_standby)
    assert (await (await KeyringFile(path).read()).state()).usable == [1, 2]
    after = path.stat()
    assert stat.S_IMODE(after.st_mode) == 0o600
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)


async def test_a_change_that_changes_nothing_leaves_the_file_alone(path: Path) -> None:
    await KeyringBook(path).change(with_standby)
    before = path.stat()
    await KeyringBook(path).change(with_standby)
    assert path.stat().st_ino == before.st_ino


async def test_of_two_changes_at_once_none_is_lost(path: Path) -> None:
    def noted(name: str) -> Any:
        return lambda document: {**document, name: 1}

    await asyncio.gather(*(KeyringBook(path).change(noted(f"n{n}")) for n in range(8)))
    assert {f"n{n}" for n in range(8)} <= json.loads(path.read_text()).keys()


async def test_a_link_stays_and_what_it_names_is_replaced(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.json"
    link.symlink_to(path)
    await KeyringBook(link).change(with_standby)
    assert link.is_symlink()
    assert len(json.loads(path.read_text())["keys"]) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
async def test_a_file_of_another_user_stays_theirs(path: Path) -> None:
    os.chown(path, 65534, 65534)
    await KeyringBook(path).change(with_standby)
    assert (path.stat().st_uid, path.stat().st_gid) == (65534, 65534)


async def test_a_change_to_a_keyring_that_no_service_would_take_is_not_written(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(KeyringRefused):
        await KeyringBook(path).change(lambda document: {**document, "active": 9})
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [None, "", "{}"])
async def test_a_lost_or_spoiled_file_is_told_and_not_made_anew(
    tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "keyring.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises((KeyringRefused, FileNotFoundError)):
        await KeyringBook(path).change(with_standby)
    with pytest.raises(KeyringRefused):
        await KeyringBook(path).read()
    assert (path.read_text() if path.exists() else None) == content
