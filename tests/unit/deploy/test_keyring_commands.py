"""`companion keyring …`, as an operator calls it while no database is within reach."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from deploy.companion import key_rotation
from deploy.companion.cli import app
from deploy.companion.errors import CompanionError
from deploy.companion.ports import free_port
from services.keyvault.actions import ExamineVault, ShowRotation
from services.keyvault.domain.keyring import new_keyring_document
from services.keyvault.domain.rotation import Replica
from services.keyvault.domain.vault import Vault
from tests.support.keyvault import Desk, MemoryKeyring, a_keyring, an_open_desk, write_keyring
from tests.support.tokens import write_identities

Companion = Callable[..., Any]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_keyring(tmp_path / "keyring.json", new_keyring_document())


@pytest.fixture
def companion(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Companion:
    write_identities(tmp_path)
    nowhere = f"127.0.0.1:{free_port()}"
    for name, value in {
        "DATABASE_URL": f"postgresql://companion:pw@{nowhere}",
        "CACHE_URL": f"redis://{nowhere}/0",
        "BROKER_URL": f"redis://{nowhere}/1",
        "JWKS_URL": f"http://{nowhere}/jwks.json",
        "IDENTITY_KEY_FILE": str(tmp_path / "keyvault.pem"),
        "IDENTITY_TRUST_FILE": str(tmp_path / "trusted.json"),
        "KEYVAULT_KEYRING_FILE": str(path),
    }.items():
        monkeypatch.setenv(name, value)
    return lambda *words: CliRunner().invoke(app, ["keyring", *words])


def told(result: Any) -> str:
    """What a failed command says."""
    assert result.exit_code == 1
    assert isinstance(result.exception, CompanionError)
    return result.exception.message


def test_a_version_is_added_once_and_no_key_is_shown(companion: Companion, path: Path) -> None:
    first, second = companion("add"), companion("add")
    assert "Version 2 is on standby." in first.output
    assert first.output == second.output
    keys = json.loads(path.read_text())["keys"]
    assert [(key["version"], key["state"]) for key in keys] == [(1, "active"), (2, "standby")]
    assert not any(key["key"] in first.output for key in keys)


def test_a_copy_is_changed_where_the_keyring_itself_may_only_be_seen(
    companion: Companion, path: Path
) -> None:
    before = path.read_bytes()
    copy = path.with_name("copy.json")
    copy.write_bytes(before)
    copy.chmod(0o600)
    path.chmod(0o400)
    assert "Version 2 is on standby." in companion("--file", str(copy), "add").output
    assert path.read_bytes() == before
    assert [key["version"] for key in json.loads(copy.read_text())["keys"]] == [1, 2]


@pytest.mark.parametrize("words", [("activate",), ("rewrap",), ("retire", "1"), ("status",)])
def test_without_a_database_nothing_is_changed(
    companion: Companion, path: Path, words: tuple[str, ...]
) -> None:
    companion("add")
    before = path.read_bytes()
    assert "database" in told(companion(*words))
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [None, "{}"])
def test_a_lost_or_spoiled_keyring_is_told_and_not_made_anew(
    companion: Companion, path: Path, content: str | None
) -> None:
    path.unlink()
    if content is not None:
        path.write_text(content)
    assert "keyring can't be" in told(companion("add"))
    assert (path.read_text() if path.exists() else None) == content


def test_at_a_key_service_versions_are_not_made_here(
    companion: Companion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEYVAULT_KEYRING", "env")
    monkeypatch.setenv("KEYVAULT_KEYRING_JSON", json.dumps(new_keyring_document()))
    assert "versions are made there where it lies" in told(companion("add"))


def seen_with(keyring: MemoryKeyring, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The console sees what this desk keeps, with a keyring of its own."""

    @asynccontextmanager
    async def opened(_: Path | None) -> AsyncIterator[SimpleNamespace]:
        examine = ExamineVault(keyring, desk.work, Vault())
        yield SimpleNamespace(examine_vault=examine, show_rotation=ShowRotation(desk.work))

    monkeypatch.setattr(key_rotation, "_desk", opened)


@pytest.mark.parametrize(
    ("keyring", "line", "trouble"),
    [
        (MemoryKeyring(a_keyring(1, 2)), "version 2  active ", ""),
        (
            MemoryKeyring(a_keyring(1)),
            "version 2  missing ",
            "The vault is sealed: keyring_lacks_a_version, version 2 is missing.",
        ),
        (
            MemoryKeyring(a_keyring(1, 2, environment="another")),
            "version 2  active ",
            "The vault is sealed: keyring_of_another_database.",
        ),
        (MemoryKeyring(), "", "The vault is sealed: keyring_missing."),
    ],
)
def test_a_sealed_vault_says_why_and_who_knows_what(
    monkeypatch: pytest.MonkeyPatch, keyring: MemoryKeyring, line: str, trouble: str
) -> None:
    async def begun() -> Desk:
        desk = await an_open_desk(source=MemoryKeyring(a_keyring(1, 2)))
        async with desk.work() as work:
            replica = Replica("web 1", 2, frozenset({1, 2}))
            await work.rotation.report(replica, good_for=timedelta(minutes=1))
        return desk

    seen_with(keyring, asyncio.run(begun()), monkeypatch)
    said = CliRunner().invoke(app, ["keyring", "status"])
    assert line in said.output
    assert "web 1: wraps with 2, knows 1, 2" in said.output
    assert (told(said) if trouble else said.exception or "") == trouble
