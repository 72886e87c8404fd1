"""Which keyrings let the vault open, on a real file and a real database."""

from __future__ import annotations

import asyncio
import json
import resource
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.keyvault.actions import ExamineVault
from services.keyvault.domain.keyring import new_keyring_document
from services.keyvault.domain.vault import Vault
from services.keyvault.providers.keyring_file import KeyringFile
from services.keyvault.storage.unit_of_work import SqlWork
from shared.db.database import Database
from shared.db.migrations import upgrade
from shared.settings import service_database_url
from tests.integration.keyvault.harness import SECRET, Keyvault, Surroundings, a_user, running
from tests.support.core_dumps import least_core_limit
from tests.support.engines import running_postgres
from tests.support.keyvault import a_document, encoded, write_keyring

Document = dict[str, Any]


def an_entry(version: int, state: str) -> Document:
    return {"version": version, "key": encoded(secrets.token_bytes(32)), "state": state}


OLD = new_keyring_document()
TWO = a_document(OLD, keys=[*OLD["keys"], an_entry(2, "standby")])


def with_key(key: str) -> Document:
    return a_document(OLD, keys=[{**OLD["keys"][0], "key": key}])


MATRIX: dict[str, tuple[Any, str | None]] = {
    "right": (OLD, None),
    "with more on standby": (TWO, None),
    "reordered": (a_document(TWO, keys=TWO["keys"][::-1]), None),
    "missing": (None, "keyring_missing"),
    "empty": ("", "keyring_malformed"),
    "cut": (json.dumps(OLD)[:-20], "keyring_malformed"),
    "short": (with_key(encoded(secrets.token_bytes(31))), "key_of_wrong_length"),
    "example": (with_key(encoded(bytes(32))), "key_is_an_example"),
    "wrong": (with_key(encoded(secrets.token_bytes(32))), "keyring_of_another_database"),
    "of another installation": (new_keyring_document(), "keyring_of_another_database"),
    "other fingerprint key": (
        a_document(OLD, fingerprint_keys=new_keyring_document()["fingerprint_keys"]),
        "keyring_of_another_database",
    ),
    "without the old version": (
        a_document(OLD, active=2, keys=[an_entry(2, "active")]),
        "keyring_lacks_a_version",
    ),
    "active without canary": (
        a_document(
            OLD, active=2, keys=[{**OLD["keys"][0], "state": "retired"}, an_entry(2, "active")]
        ),
        "canary_missing",
    ),
}


async def begun(database: Database, path: Path) -> tuple[Vault, ExamineVault]:
    """A vault that has begun with the old keyring."""
    write_keyring(path, OLD)
    vault = Vault()
    examine = ExamineVault(KeyringFile(path), lambda: SqlWork(database), vault, may_begin=True)
    await examine()
    assert not vault.is_sealed
    return vault, examine


@pytest.mark.parametrize("name", MATRIX)
async def test_start_matrix(fresh_database: Database, tmp_path: Path, name: str) -> None:
    document, reason = MATRIX[name]
    path = tmp_path / "keyring.json"
    vault, examine = await begun(fresh_database, path)
    before = await fresh_database.fetch("select * from keyring_canary order by 1, 2")

    if document is None:
        path.unlink()
    else:
        write_keyring(path, document)
    await examine()
    assert vault.sealed_because == reason

    # Whatever was found, nothing was made or changed, and the right file opens the vault again.
    assert await fresh_database.fetch("select * from keyring_canary order by 1, 2") == before
    assert path.exists() is (document is not None)
    write_keyring(path, OLD)
    await examine()
    assert not vault.is_sealed


async def test_keys_that_changed_places_seal_the_vault(
    fresh_database: Database, tmp_path: Path
) -> None:
    path = write_keyring(tmp_path / "keyring.json", TWO)
    vault = Vault()
    examine = ExamineVault(
        KeyringFile(path), lambda: SqlWork(fresh_database), vault, may_begin=True
    )
    await examine()
    one, two = TWO["keys"]
    write_keyring(
        path, a_document(TWO, keys=[{**one, "key": two["key"]}, {**two, "key": one["key"]}])
    )
    await examine()
    assert vault.sealed_because == "keyring_of_another_database"


async def test_of_two_first_starts_with_different_keyrings_one_is_sealed(
    fresh_database: Database, tmp_path: Path
) -> None:
    vaults = [Vault(), Vault()]
    examinations = [
        ExamineVault(
            KeyringFile(write_keyring(tmp_path / f"{number}.json", new_keyring_document())),
            lambda: SqlWork(fresh_database),
            vault,
            may_begin=True,
        )
        for number, vault in enumerate(vaults)
    ]
    await asyncio.gather(*(examine() for examine in examinations))
    assert sorted(vault.is_sealed for vault in vaults) == [False, True]


async def until(condition: Callable[[], Any], *, seconds: float = 5) -> None:
    """Wait for an asynchronous condition."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.01)


async def readiness(keyvault: Keyvault) -> tuple[int, dict[str, str]]:
    answer = await keyvault.internal.get("/readyz")
    return answer.status_code, answer.json()["dependencies"]


async def test_a_sealed_keyvault_stays_up_and_refuses_what_needs_keys(
    own_keyring: Surroundings,
) -> None:
    user = a_user()
    async with running(own_keyring) as keyvault:
        await keyvault.put(user)
        assert await readiness(keyvault) == (200, {"database": "ok", "vault": "ok"})
        mended = own_keyring.keyring_file.read_text()

        write_keyring(own_keyring.keyring_file, new_keyring_document())
        await until(lambda: _is(keyvault, 503))

        assert (await keyvault.internal.get("/healthz")).status_code == 200
        assert await readiness(keyvault) == (503, {"database": "ok", "vault": "vault_sealed"})
        for answer in (
            await keyvault.put(user),
            await keyvault.egress(user),
            await keyvault.public.post(
                "/keys/openai/validate", headers=own_keyring.mint.headers(user)
            ),
        ):
            assert (answer.status_code, answer.json()["code"]) == (503, "vault_sealed")
            assert int(answer.headers["retry-after"]) > 0
        # What needs no key goes on: to look, and to withdraw.
        assert (await keyvault.get(user, "/keys/openai")).status_code == 200

        write_keyring(own_keyring.keyring_file, mended)
        await until(lambda: _is(keyvault, 200))
        assert (await keyvault.egress(user)).headers["authorization"] == f"Bearer {SECRET}"
        assert "companion_keyvault_sealed 0.0" in (await keyvault.internal.get("/metrics")).text


async def _is(keyvault: Keyvault, status: int) -> bool:
    return (await readiness(keyvault))[0] == status


async def test_a_keyvault_without_a_keyring_starts_sealed_and_makes_none(
    own_keyring: Surroundings,
) -> None:
    own_keyring.keyring_file.unlink()
    async with running(own_keyring) as keyvault:
        assert (await readiness(keyvault))[1]["vault"] == "vault_sealed"
        assert (await keyvault.put(a_user())).json()["code"] == "vault_sealed"
        assert "companion_keyvault_sealed 1.0" in (await keyvault.internal.get("/metrics")).text
    assert not own_keyring.keyring_file.exists()


async def test_a_lost_database_is_told_and_comes_back_by_itself(
    own_keyring: Surroundings, tmp_path: Path
) -> None:
    from dataclasses import replace

    user = a_user()
    with running_postgres(tmp_path) as server:
        server.create_database("companion_keyvault")
        upgrade("keyvault", service_database_url(server.url, "keyvault"))
        around = replace(own_keyring, database_url=server.url)
        async with running(around) as keyvault:
            assert (await keyvault.put(user)).status_code == 202
            assert (await keyvault.egress(user)).status_code == 200

            server.child.kill()
            # Its own children notice a moment later, and may answer until then.
            async with asyncio.timeout(30):
                while (await readiness(keyvault))[0] != 503:
                    await asyncio.sleep(0.05)

            for answer in (
                await keyvault.egress(user),
                await keyvault.put(user),
                await keyvault.get(user),
            ):
                assert answer.status_code == 503
                assert answer.json()["code"] == "dependency_unavailable"
                assert SECRET not in answer.text
            # Nothing about the keyring has come to light: the vault is as open as before.
            assert await readiness(keyvault) == (
                503,
                {"database": "dependency_unavailable", "vault": "ok"},
            )


async def test_a_keyvault_starts_without_its_database(own_keyring: Surroundings) -> None:
    from dataclasses import replace

    around = replace(own_keyring, database_url="postgresql://nobody@127.0.0.1:1/")
    async with running(around) as keyvault:
        assert (await keyvault.internal.get("/healthz")).status_code == 200
        assert (await readiness(keyvault))[0] == 503


async def test_no_core_dump_is_ever_written(keyvault: Keyvault) -> None:
    assert (await keyvault.internal.get("/healthz")).status_code == 200
    assert resource.getrlimit(resource.RLIMIT_CORE) == (least_core_limit(),) * 2
