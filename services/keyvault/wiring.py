"""Who gets which part."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path

from services.keyvault.actions import (
    Actions,
    ActivateKeyringVersion,
    AddKeyringVersion,
    DropOldSeats,
    EndOrganisation,
    EnterOrganisation,
    ExamineVault,
    ExportUser,
    ForgetUser,
    KeyActions,
    LimitChecks,
    ListKeys,
    NoteSeats,
    OwnerActions,
    ReadAudit,
    ReportKeyring,
    RequestDueValidations,
    RequestValidation,
    ResumeService,
    RetireKeyringVersion,
    RevokeKey,
    RewrapDataKeys,
    ServiceActions,
    ShowKey,
    ShowRotation,
    ShowServices,
    StopService,
    StoreKey,
    UseKey,
    ValidateKeys,
    VaultActions,
    WatchUses,
)
from services.keyvault.api.rotation_gauges import showing_rotation
from services.keyvault.api.uses import watching_uses
from services.keyvault.api.vault_gauge import watch_vault
from services.keyvault.domain.ports import KeyAdmins, KeyChecker, KeyEncryptionSource, NewUnitOfWork
from services.keyvault.domain.service_use import UseMeter
from services.keyvault.domain.vault import Vault
from services.keyvault.providers.aws_kms import AwsKms
from services.keyvault.providers.key_encryption import open_key_service
from services.keyvault.providers.keyring_book import KeyringBook
from services.keyvault.providers.keyring_environment import KeyringEnvironment
from services.keyvault.providers.keyring_file import KeyringFile
from services.keyvault.providers.vault_transit import TransitKey, VaultTransit
from services.keyvault.providers.vendor_check import open_vendor_check
from services.keyvault.settings import Settings
from services.keyvault.storage.key_uses import SqlKeyUses
from services.keyvault.storage.service_uses import SqlServiceUses
from services.keyvault.storage.unit_of_work import SqlWork
from shared.background import attempt, repeated_later, running_beside
from shared.clients.auth import open_auth
from shared.clock import SystemClock
from shared.core_dumps import forbid_core_dumps
from shared.db.database import Database, open_database
from shared.errors import Unavailable
from shared.http.readiness import Check
from shared.identity import ServiceIdentity
from shared.settings import service_database_url
from shared.values import dataclass


@dataclass(frozen=True, slots=True)
class Wired:
    """The keyvault, put together."""

    actions: Actions
    database: Database
    checks: Mapping[str, Check]


@asynccontextmanager
async def wire(settings: Settings, *, may_begin: bool = False) -> AsyncIterator[Wired]:
    """The parts that web and worker share. The vault is sealed until it is examined."""
    # None may hold what was open in this process when it crashed.
    forbid_core_dumps()
    me = ServiceIdentity.of_setting("keyvault", settings.identity_key_file)
    url = service_database_url(settings.database_url.get_secret_value(), "keyvault")
    async with (
        open_database(
            url, connections=settings.database_connections, application="keyvault"
        ) as database,
        open_vendor_check(settings.provider_urls) as checker,
        open_auth(settings.auth_internal_url, me) as auth,
        _open_key_encryption(settings) as keys,
    ):
        vault = Vault()
        watch_vault(vault)
        actions = build_actions(settings, database, checker, auth, keys, vault, may_begin=may_begin)
        yield Wired(actions, database, {"database": database.check, "vault": vault.check})


@asynccontextmanager
async def wire_web(settings: Settings) -> AsyncIterator[Wired]:
    """The web process: it also watches the vault, and begins it in a fresh database."""
    async with wire(settings, may_begin=True) as wired:
        name = f"web {socket.gethostname()} {os.getpid()} {secrets.token_hex(3)}"
        examine = partial(_examine, wired.actions, settings, name)
        await attempt(examine)
        try:
            async with (
                running_beside(repeated_later(examine, pause_seconds=settings.examine_seconds)),
                watching_uses(wired.actions.watch_uses, settings.watch_seconds),
                showing_rotation(wired.actions.show_rotation),
            ):
                yield wired
        finally:
            with suppress(Unavailable):
                await wired.actions.report_keyring.leave(name)


@asynccontextmanager
async def _open_key_encryption(settings: Settings) -> AsyncIterator[KeyEncryptionSource]:
    if settings.keyring == "file" and settings.keyring_file is not None:
        yield KeyringFile(settings.keyring_file)
        return
    if settings.keyring in ("file", "env"):
        content = settings.keyring_json.get_secret_value() if settings.keyring_json else None
        yield KeyringEnvironment(content, environment=settings.environment)
        return
    make = partial(_transit if settings.keyring == "vault-transit" else _kms, settings)
    async with open_key_service(
        make,
        installation=settings.installation,
        timeout_seconds=settings.kek_timeout_seconds,
        cache_seconds=settings.data_key_seconds,
    ) as keys:
        yield keys


def _transit(settings: Settings) -> VaultTransit:
    key = TransitKey(
        url=settings.transit_url,
        token_file=settings.transit_token_file or Path(),
        key=settings.transit_key,
        mount=settings.transit_mount,
        namespace=settings.transit_namespace,
        ca_file=settings.transit_ca_file,
    )
    return VaultTransit(key, timeout_seconds=settings.kek_timeout_seconds)


def _kms(settings: Settings) -> AwsKms:
    return AwsKms(
        settings.kms_key_ids,
        timeout_seconds=settings.kek_timeout_seconds,
        region=settings.kms_region,
        endpoint=settings.kms_endpoint,
        active=settings.kms_active,
    )


def build_actions(
    settings: Settings,
    database: Database,
    checker: KeyChecker,
    key_admins: KeyAdmins,
    keys: KeyEncryptionSource,
    vault: Vault,
    *,
    may_begin: bool,
) -> Actions:
    """Every verb with its parts."""
    work, clock = partial(SqlWork, database), SystemClock()
    meter = UseMeter(settings.use_limits, clock.now())
    examine_vault = ExamineVault(keys, work, vault, may_begin)
    key_actions = _key_actions(settings, database, checker, examine_vault, meter, vault)
    return Actions(
        **vars(key_actions),
        **vars(_service_actions(settings, database, meter)),
        **vars(_vault_actions(settings, work, examine_vault, vault)),
        **vars(_owner_actions(work, key_admins, key_actions, vault)),
    )


def _key_actions(
    settings: Settings,
    database: Database,
    checker: KeyChecker,
    examine_vault: ExamineVault,
    meter: UseMeter,
    vault: Vault,
) -> KeyActions:
    work, clock, key_uses = partial(SqlWork, database), SystemClock(), SqlKeyUses(database)
    limit = LimitChecks(clock, settings.checks_per_owner_minute)
    return KeyActions(
        store_key=StoreKey(work, vault, clock, limit),
        list_keys=ListKeys(work),
        show_key=ShowKey(work),
        request_validation=RequestValidation(work, vault, clock, limit),
        request_due_validations=RequestDueValidations(work, clock),
        validate_keys=ValidateKeys(work, key_uses, checker, examine_vault, vault, clock),
        revoke_key=RevokeKey(work, clock, vault),
        use_key=UseKey(
            key_uses,
            vault,
            clock,
            meter,
            settings.uses_per_user_minute,
            settings.own_server,
        ),
        read_audit=ReadAudit(work),
    )


def _service_actions(settings: Settings, database: Database, meter: UseMeter) -> ServiceActions:
    service_uses, limits, clock = SqlServiceUses(database), settings.use_limits, SystemClock()
    return ServiceActions(
        watch_uses=WatchUses(service_uses, meter, limits, clock),
        stop_service=StopService(service_uses, clock),
        resume_service=ResumeService(service_uses, clock),
        show_services=ShowServices(service_uses, limits),
    )


def _vault_actions(
    settings: Settings, work: NewUnitOfWork, examine_vault: ExamineVault, vault: Vault
) -> VaultActions:
    book = None
    if settings.keyring == "file" and settings.keyring_file is not None:
        book = KeyringBook(settings.keyring_file)
    return VaultActions(
        examine_vault=examine_vault,
        add_keyring_version=AddKeyringVersion(book),
        activate_keyring_version=ActivateKeyringVersion(book, work, examine_vault, vault),
        rewrap_data_keys=RewrapDataKeys(work, examine_vault, vault),
        retire_keyring_version=RetireKeyringVersion(book, work, examine_vault, vault),
        report_keyring=ReportKeyring(work, vault),
        show_rotation=ShowRotation(work),
    )


def _owner_actions(
    work: NewUnitOfWork, key_admins: KeyAdmins, keys: KeyActions, vault: Vault
) -> OwnerActions:
    clock = SystemClock()
    return OwnerActions(
        forget_user=ForgetUser(work, clock, vault),
        export_user=ExportUser(keys.list_keys, keys.read_audit),
        enter_organisation=EnterOrganisation(key_admins),
        note_seats=NoteSeats(work),
        drop_old_seats=DropOldSeats(work, clock),
        end_organisation=EndOrganisation(work, clock, vault),
    )


async def _examine(actions: Actions, settings: Settings, name: str) -> None:
    await actions.examine_vault()
    await actions.report_keyring(name, good_for=settings.report_good_for)
