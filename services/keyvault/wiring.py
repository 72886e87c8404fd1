"""Who gets which part."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import structlog

from services.keyvault.actions import (
    Actions,
    ExamineVault,
    ExportUser,
    ForgetUser,
    ListKeys,
    ReadAudit,
    RequestDueValidations,
    RequestValidation,
    RevokeKey,
    ShowKey,
    StoreKey,
    UseKey,
    ValidateKeys,
)
from services.keyvault.domain.ports import KeyChecker, NewUnitOfWork
from services.keyvault.domain.vault import Vault
from services.keyvault.providers.keyring_file import KeyringFile
from services.keyvault.providers.vendor_check import open_vendor_check
from services.keyvault.settings import Settings
from services.keyvault.storage.key_uses import SqlKeyUses
from services.keyvault.storage.unit_of_work import SqlWork
from shared.clock import SystemClock
from shared.db.database import Database, open_database
from shared.errors import Unavailable
from shared.http.app import Check
from shared.settings import service_database_url

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Wired:
    """The keyvault, put together."""

    actions: Actions
    database: Database
    checks: Mapping[str, Check]


@asynccontextmanager
async def wire(settings: Settings, *, may_begin: bool = False) -> AsyncIterator[Wired]:
    """The parts that web and worker share. The vault is sealed until it is examined."""
    keep_memory_private()
    url = service_database_url(settings.database_url.get_secret_value(), "keyvault")
    async with (
        open_database(
            url, connections=settings.database_connections, application="keyvault"
        ) as database,
        open_vendor_check(settings.provider_urls) as checker,
    ):
        vault = Vault()
        actions = _actions(settings, database, checker, vault, may_begin=may_begin)
        yield Wired(actions, database, {"database": database.check, "vault": vault.check})


@asynccontextmanager
async def wire_web(settings: Settings) -> AsyncIterator[Wired]:
    """The web process: it also watches the vault, and begins it in a fresh database."""
    async with wire(settings, may_begin=True) as wired:
        await _examine(wired.actions.examine_vault)
        watch = asyncio.create_task(_keep_watch(wired.actions.examine_vault, settings))
        try:
            yield wired
        finally:
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch


def keep_memory_private() -> None:
    """No core dump may hold what was open in this process when it crashed."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _actions(
    settings: Settings,
    database: Database,
    checker: KeyChecker,
    vault: Vault,
    *,
    may_begin: bool,
) -> Actions:
    def unit_of_work() -> SqlWork:
        return SqlWork(database)

    new_work: NewUnitOfWork = unit_of_work
    clock, key_uses = SystemClock(), SqlKeyUses(database)
    examine_vault = ExamineVault(KeyringFile(settings.keyring_file), new_work, vault, may_begin)
    list_keys, read_audit = ListKeys(new_work), ReadAudit(new_work)
    return Actions(
        store_key=StoreKey(new_work, vault, clock),
        list_keys=list_keys,
        show_key=ShowKey(new_work),
        request_validation=RequestValidation(new_work, vault, clock),
        request_due_validations=RequestDueValidations(new_work, clock),
        validate_keys=ValidateKeys(new_work, key_uses, checker, examine_vault, vault, clock),
        revoke_key=RevokeKey(new_work, clock),
        use_key=UseKey(key_uses, vault, clock),
        read_audit=read_audit,
        examine_vault=examine_vault,
        forget_user=ForgetUser(new_work, clock),
        export_user=ExportUser(list_keys, read_audit),
    )


async def _keep_watch(examine_vault: ExamineVault, settings: Settings) -> None:
    while True:
        await asyncio.sleep(settings.examine_seconds)
        await _examine(examine_vault)


async def _examine(examine_vault: ExamineVault) -> None:
    try:
        await examine_vault()
    except Unavailable as failure:
        log.warning("vault_not_examined", reason=failure.code)
    except Exception:
        # Whatever this was, there is a next look; without one the vault would stay as it is.
        log.exception("vault_examination_failed")
