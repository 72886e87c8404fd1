"""Who gets which part."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from services.chat.actions import Actions
from services.chat.actions.change_session import ChangeSession
from services.chat.actions.delete_session import DeleteSession
from services.chat.actions.drop_key import DropKey
from services.chat.actions.drop_sign_in import DropSignIn
from services.chat.actions.export_user import ExportUser
from services.chat.actions.forget_user import ForgetUser
from services.chat.actions.learn_keys import ForgetKeys, LearnKeys
from services.chat.actions.list_models import ListModels
from services.chat.actions.list_sessions import ListSessions
from services.chat.actions.read_messages import ReadMessages
from services.chat.actions.read_session import ReadSession
from services.chat.actions.running_turn import RunningTurns
from services.chat.actions.settle_orphans import SettleOrphans
from services.chat.actions.settle_turn import SettleTurn
from services.chat.actions.start_session import StartSession
from services.chat.actions.take_turn import Policy, TakeTurn
from services.chat.domain.ports import Quote, Revocations
from services.chat.domain.usage import Usage
from services.chat.providers import Patience, chat_providers
from services.chat.settings import Settings
from services.chat.storage.admission import ValkeyAdmission
from services.chat.storage.turns import SqlTurns
from services.chat.storage.unit_of_work import SqlWork
from shared.background import running_beside
from shared.clients.egress import Egress, open_egress
from shared.clock import SystemClock
from shared.db.database import Database, open_database
from shared.errors import Unavailable
from shared.http.app import Check
from shared.identity import ServiceIdentity
from shared.limits.admission import Admissions, open_cache
from shared.model_catalogue import ModelCatalogue
from shared.news.ended_sessions import EndedSessions
from shared.news.revocations import ValkeyRevocations, open_listener
from shared.pricing import price
from shared.settings import service_database_url

log = structlog.get_logger(__name__)

_RENEW_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Wired:
    """Chat, put together."""

    actions: Actions
    database: Database
    checks: Mapping[str, Check]
    running: RunningTurns
    turns: SqlTurns
    revocations: Revocations
    ended_sessions: EndedSessions


@asynccontextmanager
async def wire_web(settings: Settings) -> AsyncIterator[Wired]:
    """A replica that runs turns: it also keeps their leases, and hears of revoked keys and
    ended sessions."""
    async with wire(settings) as wired:
        # Loading the price list takes half a second, which no user should wait for.
        quote("openai", "gpt-6-luna", Usage(), SystemClock().now())
        lease = timedelta(seconds=settings.hold_lease_seconds)
        async with running_beside(
            _renew_leases(wired.running, wired.turns, lease),
            _hear_revocations(wired),
            _hear_ended_sessions(wired),
        ):
            yield wired


@asynccontextmanager
async def wire(settings: Settings) -> AsyncIterator[Wired]:
    """Open what chat needs and put it together; close it, once its turns have ended."""
    me = ServiceIdentity.from_file("chat", settings.identity_key_file)
    url = service_database_url(settings.database_url.get_secret_value(), "chat")
    cache_url = settings.cache_url.get_secret_value()
    async with (
        open_database(
            url, connections=settings.database_connections, application="chat"
        ) as database,
        open_cache(cache_url) as cache,
        open_listener(cache_url) as listener,
        open_egress(settings.egress_url, me) as egress,
    ):
        admissions = Admissions(cache)
        running = RunningTurns()
        turns = SqlTurns(database)
        revocations = ValkeyRevocations("chat", cache, listener)
        try:
            yield Wired(
                actions=_actions(
                    settings, database, turns, running, admissions, egress, revocations
                ),
                database=database,
                checks={
                    "database": database.check,
                    "cache": admissions.check,
                    "egress": egress.check,
                },
                running=running,
                turns=turns,
                revocations=revocations,
                ended_sessions=EndedSessions(cache, listener),
            )
        finally:
            await running.drained(settings.drain_seconds)


def _actions(
    settings: Settings,
    database: Database,
    turns: SqlTurns,
    running: RunningTurns,
    admissions: Admissions,
    egress: Egress,
    revocations: Revocations,
) -> Actions:
    clock = SystemClock()
    catalogue = ModelCatalogue.from_json(settings.model_overrides)
    patience = Patience(
        first_byte=timedelta(seconds=settings.first_byte_seconds),
        silence=timedelta(seconds=settings.silence_seconds),
    )
    settle = SettleTurn(turns, quote, clock, sandbox=settings.sandbox)

    def work() -> SqlWork:
        return SqlWork(database)

    return Actions(
        start_session=StartSession(work, clock),
        list_sessions=ListSessions(work),
        read_session=ReadSession(work),
        change_session=ChangeSession(work, clock),
        delete_session=DeleteSession(work),
        read_messages=ReadMessages(work),
        list_models=ListModels(work, catalogue),
        take_turn=TakeTurn(
            turns=turns,
            admission=ValkeyAdmission(admissions),
            providers={name: make(egress, patience) for name, make in chat_providers.items()},
            settle=settle,
            running=running,
            catalogue=catalogue,
            clock=clock,
            policy=Policy(
                hold_lease=timedelta(seconds=settings.hold_lease_seconds),
                history_characters=settings.history_characters,
            ),
        ),
        settle_orphans=SettleOrphans(turns, settle, clock),
        learn_keys=LearnKeys(work),
        forget_keys=ForgetKeys(work, revocations),
        drop_key=DropKey(running),
        drop_sign_in=DropSignIn(running),
        forget_user=ForgetUser(work, clock, revocations),
        export_user=ExportUser(work),
    )


def quote(provider: str, model: str, usage: Usage, at: datetime) -> Quote | None:
    """The list price of a call; billing's own price book has the last word."""
    priced = price(provider, model, usage, at, usage.service_tier)
    return Quote(priced.cost, priced.version) if priced else None


async def _renew_leases(running: RunningTurns, turns: SqlTurns, lease: timedelta) -> None:
    """Keep this replica's holds alive, and note how far each answer has come."""
    clock = SystemClock()
    while True:
        await asyncio.sleep(_RENEW_SECONDS)
        progress = running.progress()
        if not progress:
            continue
        try:
            await turns.renew(progress, clock.now() + lease)
        except Unavailable:
            log.warning("leases_not_renewed", turns=len(progress))


async def _hear_ended_sessions(wired: Wired) -> None:
    async for sign_in_id in wired.ended_sessions.heard(wired.running.sign_ins):
        await wired.actions.drop_sign_in(sign_in_id)


async def _hear_revocations(wired: Wired) -> None:
    async for revocation in wired.revocations.heard():
        await wired.actions.drop_key(revocation)
