"""`companion auth …-signing-key` and `companion identities …`, as an operator calls them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from deploy.companion.cli import app
from deploy.companion.data_dir import DataDir
from deploy.companion.errors import CompanionError
from deploy.companion.identities import create_identities
from deploy.companion.programs import SERVICES
from services.auth.domain.signing_keys import new_signing_keys

Companion = Callable[..., Any]


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    data = DataDir(tmp_path)
    create_identities(data, SERVICES)
    data.signing_keys.write_text(json.dumps(new_signing_keys()))
    return data


@pytest.fixture
def companion(data: DataDir, monkeypatch: pytest.MonkeyPatch) -> Companion:
    monkeypatch.delenv("AUTH_SIGNING_KEYS_FILE", raising=False)
    monkeypatch.setenv("COMPANION_DATA_DIR", str(data.root))
    return lambda *words: CliRunner().invoke(app, words)


def told(result: Any) -> str:
    """What a failed command says."""
    assert result.exit_code == 1
    assert isinstance(result.exception, CompanionError)
    return result.exception.message


def states(data: DataDir) -> list[str]:
    return [key["state"] for key in json.loads(data.signing_keys.read_text())["keys"]]


def kid_of(data: DataDir, state: str) -> str:
    keys = json.loads(data.signing_keys.read_text())["keys"]
    return next(str(key["kid"]) for key in keys if key["state"] == state)


def test_a_new_installation_can_rotate_at_once_and_then_has_to_wait(
    companion: Companion, data: DataDir
) -> None:
    active, standby = kid_of(data, "active"), kid_of(data, "standby")
    output = companion("auth", "rotate-signing-key").output
    assert f"{standby} signs from now on." in output
    assert f"{active} is published until " in output
    assert states(data) == ["retiring", "active", "standby"]
    before = data.signing_keys.read_bytes()
    refusal = told(companion("auth", "rotate-signing-key"))
    assert kid_of(data, "standby") in refusal
    assert "may sign from" in refusal
    assert data.signing_keys.read_bytes() == before


def test_waiting_rotates_as_soon_as_the_next_key_may_sign(
    companion: Companion, data: DataDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    companion("auth", "rotate-signing-key")
    monkeypatch.setenv("AUTH_SIGNING_KEY_PUBLISH_SECONDS", "1")
    standby = kid_of(data, "standby")
    began = time.monotonic()
    output = companion("auth", "rotate-signing-key", "--wait").output
    assert f"until {standby} may sign" in output
    assert kid_of(data, "active") == standby
    assert time.monotonic() - began < 4


def test_the_list_says_what_happens_next_and_shows_no_secret(
    companion: Companion, data: DataDir
) -> None:
    companion("auth", "rotate-signing-key")
    companion("auth", "remove-signing-key", kid_of(data, "retiring"))
    lines = companion("auth", "signing-keys").output.splitlines()
    assert [line.split()[1] for line in lines] == ["removed", "active", "standby"]
    assert "no longer published" in lines[0]
    assert "signs until the next rotation" in lines[1]
    assert "may sign from" in lines[2]
    secrets = [key["d"] for key in json.loads(data.signing_keys.read_text())["keys"]]
    assert not any(secret in line for secret in secrets for line in lines)


def test_a_removed_active_key_is_followed_by_its_standby(
    companion: Companion, data: DataDir
) -> None:
    stolen, standby = kid_of(data, "active"), kid_of(data, "standby")
    output = companion("auth", "remove-signing-key", stolen).output
    assert f"{stolen} is no longer published." in output
    assert "60 s" in output
    assert f"{standby} signs from now on." in output
    assert states(data) == ["removed", "active", "standby"]


def test_an_unknown_key_is_told(companion: Companion, data: DataDir) -> None:
    before = data.signing_keys.read_bytes()
    assert "no signing key stranger" in told(companion("auth", "remove-signing-key", "stranger"))
    assert data.signing_keys.read_bytes() == before


@pytest.mark.parametrize("words", [("signing-keys",), ("rotate-signing-key",)])
@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff"])
def test_a_lost_or_spoiled_file_is_told_and_not_made_anew(
    companion: Companion, data: DataDir, words: tuple[str], content: bytes | None
) -> None:
    data.signing_keys.unlink()
    if content is not None:
        data.signing_keys.write_bytes(content)
    assert str(data.signing_keys) in told(companion("auth", *words))
    assert (data.signing_keys.read_bytes() if data.signing_keys.exists() else None) == content


def test_another_file_may_be_named(
    companion: Companion, data: DataDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.json"
    other.write_text(json.dumps(new_signing_keys()))
    monkeypatch.setenv("AUTH_SIGNING_KEYS_FILE", str(other))
    companion("auth", "rotate-signing-key")
    assert states(data) == ["active", "standby"]
    assert len(json.loads(other.read_text())["keys"]) == 3


def test_a_wrong_setting_is_told(companion: Companion, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTH_SIGNING_KEY_PUBLISH_SECONDS", "soon")
    assert "AUTH_SIGNING_KEY_PUBLISH_SECONDS" in told(companion("auth", "signing-keys"))


def test_identities_are_rotated_and_listed(companion: Companion) -> None:
    rotated = companion("identities", "rotate", "chat", "--pause-seconds", "0").output
    assert "chat signs with chat." in rotated
    listed = companion("identities", "list").output.splitlines()
    assert len(listed) == len(SERVICES) + 1
    assert sum("retired  trusted until" in line for line in listed) == 1
    assert "no service nobody" in told(companion("identities", "rotate", "nobody"))
