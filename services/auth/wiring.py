"""Who gets which part."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import argon2
import httpx

from services.auth.actions import Actions
from services.auth.actions.change_password import ChangePassword
from services.auth.actions.check_health import CheckHealth
from services.auth.actions.create_operator import CreateOperator
from services.auth.actions.end_sign_in import EndSignIn
from services.auth.actions.follow_subscriptions import FollowSubscriptions
from services.auth.actions.forget_expired import ForgetExpired
from services.auth.actions.list_sign_ins import ListSignIns
from services.auth.actions.look_up_user import LookUpUser
from services.auth.actions.publish_signing_keys import PublishSigningKeys
from services.auth.actions.refresh import Refresh
from services.auth.actions.register import Register
from services.auth.actions.rename_account import RenameAccount
from services.auth.actions.show_account import ShowAccount
from services.auth.actions.sign_in_with_password import SignInWithPassword
from services.auth.actions.sign_out import SignOut
from services.auth.domain.attempts import AttemptLimit
from services.auth.domain.ports import NewUnitOfWork, Passwords, Probe
from services.auth.domain.sign_in import SignInLifetimes
from services.auth.domain.token_pair import TokenIssuer
from services.auth.providers.argon2_passwords import Argon2Passwords
from services.auth.providers.readiness import OwnReadiness, PeerReadiness
from services.auth.providers.signing_key_file import SigningKeyFile
from services.auth.settings import Settings
from services.auth.storage.unit_of_work import SqlWork
from shared.clock import Clock, SystemClock
from shared.db.database import Database, open_database
from shared.http.app import Check
from shared.settings import service_database_url


@dataclass(frozen=True, slots=True)
class Wired:
    """The service, ready to work."""

    actions: Actions
    database: Database
    checks: Mapping[str, Check]


@asynccontextmanager
async def wire(settings: Settings) -> AsyncIterator[Wired]:
    """Open what the service needs and introduce the rooms to each other."""
    url = service_database_url(settings.database_url.get_secret_value(), "auth")
    keys = SigningKeyFile(settings.signing_keys_file)
    passwords = _passwords(settings)
    async with (
        open_database(
            url, connections=settings.database_connections, application="auth"
        ) as database,
        httpx.AsyncClient() as client,
    ):
        checks: dict[str, Check] = {"database": database.check, "signing_keys": keys.check}
        probes: dict[str, Probe] = {"auth": OwnReadiness(checks)}
        for name, address in settings.peers_health.items():
            probes[name] = PeerReadiness(client, address)
        work = partial(SqlWork, database)
        try:
            yield Wired(
                build_actions(settings, work, passwords, keys, probes, SystemClock()),
                database,
                checks,
            )
        finally:
            passwords.close()


def build_actions(
    settings: Settings,
    work: NewUnitOfWork,
    passwords: Passwords,
    keys: SigningKeyFile,
    probes: Mapping[str, Probe],
    clock: Clock,
) -> Actions:
    """Every verb with its parts."""
    issuer = TokenIssuer(
        keys, settings.token_issuer, settings.token_audience, settings.access_lifetime
    )
    limit = AttemptLimit(settings.login_failures, timedelta(minutes=settings.login_window_minutes))
    lifetimes = SignInLifetimes(
        idle=timedelta(days=settings.refresh_idle_days),
        absolute=timedelta(days=settings.refresh_absolute_days),
        grace=timedelta(seconds=settings.refresh_grace_seconds),
    )
    register = Register(work, passwords, clock)
    return Actions(
        register=register,
        sign_in_with_password=SignInWithPassword(work, passwords, issuer, limit, lifetimes, clock),
        refresh=Refresh(work, issuer, lifetimes, clock),
        sign_out=SignOut(work, clock),
        show_account=ShowAccount(work),
        rename_account=RenameAccount(work, clock),
        change_password=ChangePassword(work, passwords, limit, clock),
        list_sign_ins=ListSignIns(work, clock),
        end_sign_in=EndSignIn(work, clock),
        create_operator=CreateOperator(register),
        publish_signing_keys=PublishSigningKeys(keys),
        look_up_user=LookUpUser(work),
        follow_subscriptions=FollowSubscriptions(work, clock),
        forget_expired=ForgetExpired(work, clock),
        check_health=CheckHealth(probes),
    )


def _passwords(settings: Settings) -> Argon2Passwords:
    hasher = argon2.PasswordHasher(
        time_cost=settings.argon2_passes,
        memory_cost=settings.argon2_memory_kib,
        parallelism=settings.argon2_lanes,
    )
    return Argon2Passwords(
        hasher, at_once=settings.passwords_at_once, waiting=settings.passwords_waiting
    )
