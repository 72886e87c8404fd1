"""Keys in a key service, from the settings to the database."""

from __future__ import annotations

import asyncio
import io
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from services.keyvault.actions import ExamineVault, LimitChecks, StoreKey
from services.keyvault.domain.owner import Owner
from services.keyvault.domain.ports import KeyEncryptionSource
from services.keyvault.domain.secret import OpenedSecret
from services.keyvault.domain.vault import Vault
from services.keyvault.storage.unit_of_work import SqlWork
from services.keyvault.wiring import _open_key_encryption
from shared.clock import SystemClock
from shared.db.database import Database
from shared.telemetry.logging import configure_logging
from tests.integration.keyvault.harness import SECRET, Surroundings, a_user
from tests.support.key_services import KmsStandIn, TransitStandIn, serving


def examining(database: Database, keys: KeyEncryptionSource) -> tuple[Vault, ExamineVault]:
    """A vault over this database, and what looks after it."""
    vault = Vault()
    return vault, ExamineVault(keys, lambda: SqlWork(database), vault, may_begin=True)


async def stored_and_opened(database: Database, vault: Vault) -> str:
    """What comes out of the database after a key went in."""
    user = a_user()
    clock = SystemClock()
    store = StoreKey(lambda: SqlWork(database), vault, clock, LimitChecks(clock, 0))
    key = await store("openai", SECRET, by=user, tier="free")
    async with SqlWork(database) as work:
        data_key = await work.data_keys.of(Owner.user(user))
    assert data_key is not None
    assert key.secret is not None
    vault.forget()
    async with OpenedSecret(vault.roots, data_key, key.name, key.secret.envelope) as secret:
        return secret.decode()


@pytest.mark.parametrize("keyring", ["vault-transit", "aws-kms"])
async def test_a_deployment_may_keep_its_keys_in_a_key_service(
    around: Surroundings,
    fresh_database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    keyring: str,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    stand_in = TransitStandIn() if keyring == "vault-transit" else KmsStandIn()
    token = tmp_path / "token"
    token.write_text(getattr(stand_in, "token", ""))
    with serving(stand_in) as url:
        settings = around.settings(
            keyring=keyring,
            installation="test",
            transit_url=url,
            transit_token_file=token,
            kms_keys="1=key-one",
            kms_region="eu-central-1",
            kms_endpoint=url,
        )
        async with _open_key_encryption(settings) as keys:
            vault, examine = examining(fresh_database, keys)
            await examine()
            assert await stored_and_opened(fresh_database, vault) == SECRET

            again, examine_again = examining(fresh_database, keys)
            await examine_again()
            assert again.roots.fingerprints == vault.roots.fingerprints


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """All that a keyvault writes whose log level is `debug`."""
    out, root = io.StringIO(), logging.getLogger()
    before = list(root.handlers), root.level
    levels = {name: logging.getLogger(name).level for name in ("services", "shared", "deploy")}
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", out)
    configure_logging("keyvault", "debug")
    yield out
    root.handlers, root.level = before
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    structlog.reset_defaults()


async def test_no_level_of_logs_tells_a_data_key_or_a_credential(
    around: Surroundings,
    fresh_database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    told: io.StringIO,
) -> None:
    """botocore tells bodies and answers at `debug`: data keys, and the credentials of roles."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up-secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "made-up-session")
    stand_in = KmsStandIn()
    with serving(stand_in) as url:
        settings = around.settings(
            keyring="aws-kms",
            installation="test",
            kms_keys="1=key-one",
            kms_region="eu-central-1",
            kms_endpoint=url,
        )
        async with _open_key_encryption(settings) as keys:
            vault, examine = examining(fresh_database, keys)
            await examine()
            assert await stored_and_opened(fresh_database, vault) == SECRET
    structlog.get_logger("services.keyvault").debug("that_was_all")
    plain = [body["Plaintext"] for body in stand_in.asked.bodies if "Plaintext" in body]
    assert len(plain) >= 2
    assert stand_in.asked.count("Decrypt") >= 1
    assert "that_was_all" in told.getvalue()
    for secret in (*plain, "made-up-secret", "made-up-session", SECRET):
        assert secret not in told.getvalue()


async def test_two_first_starts_agree_on_one_fingerprint_key(
    around: Surroundings, fresh_database: Database, tmp_path: Path
) -> None:
    stand_in, token = TransitStandIn(), tmp_path / "token"
    token.write_text(stand_in.token)
    with serving(stand_in) as url:
        settings = around.settings(
            keyring="vault-transit", installation="test", transit_url=url, transit_token_file=token
        )
        async with _open_key_encryption(settings) as keys:
            pairs = [examining(fresh_database, keys) for _ in range(4)]
            await asyncio.gather(*(examine() for _, examine in pairs))
            assert not any(vault.is_sealed for vault, _ in pairs)
            one, *others = [vault.roots.fingerprints for vault, _ in pairs]
            assert all(other == one for other in others)

            stand_in.rotate()
            await asyncio.gather(*(examine() for _, examine in pairs))
            assert not any(vault.is_sealed for vault, _ in pairs)
            async with SqlWork(fresh_database) as work:
                (root,) = await work.sealed_roots.all()
            assert root.kek_version == 2
