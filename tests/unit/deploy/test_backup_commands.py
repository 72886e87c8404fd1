"""What a restore says when it is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from typer.testing import CliRunner

from deploy.companion.backup import erasures, restore
from deploy.companion.backup.erasures import Replayed
from deploy.companion.backup.manifest import Manifest
from deploy.companion.backup.restore import Restored
from deploy.companion.cli import app
from shared.ids import UserId

SECRETS = "The secrets that were here stay as they are; none came out of the backup."


@pytest.fixture
def restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`companion backup restore`, as if a backup had come back with or without secrets."""

    def said(*, with_secrets: bool, replayed: Replayed | None = None) -> str:
        def come_back(*_: object, after: Any, **__: object) -> Restored:
            after(None)
            return Restored(manifest, 3, 1.0, with_secrets)

        monkeypatch.setattr(restore, "restore_deployment", come_back)
        monkeypatch.setattr(erasures, "settings_of_deployment", lambda _: None)
        monkeypatch.setattr(erasures, "replay", lambda *_: replayed or Replayed([], [], {}))
        result = CliRunner().invoke(app, ["backup", "restore", str(tmp_path / "backup")])
        assert result.exit_code == 0, result.exception
        return result.output

    at = "2026-11-28T00:00:00+00:00"
    manifest = Manifest(at, at, "18", databases={}, ledger={}, ledger_heads={})
    monkeypatch.setenv("COMPANION_SECRETS", str(tmp_path))
    return said


def test_whose_secrets_hold_is_told(restored: Any) -> None:
    assert SECRETS in restored(with_secrets=False)
    assert SECRETS not in restored(with_secrets=True)


def test_what_became_of_each_deleted_account_is_told(restored: Any) -> None:
    one, two, three, four = (UserId(uuid4()) for _ in range(4))
    replayed = Replayed([one], [two, three], {four: "last_owner"})
    said = restored(with_secrets=True, replayed=replayed)
    assert "1 deleted accounts had come back and are deleted again; 2 had not." in said
    assert f"NOT deleted: {four}: last_owner." in said
