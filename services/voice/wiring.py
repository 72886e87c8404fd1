"""Who gets which part."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import structlog

from services.voice.actions import Actions
from services.voice.actions.announce_revocations import AnnounceRevocations
from services.voice.actions.drop_key import DropKey
from services.voice.actions.drop_sign_in import DropSignIn
from services.voice.actions.export_user import ExportUser
from services.voice.actions.forget_user import ForgetUser
from services.voice.actions.list_voices import ListVoices
from services.voice.actions.live_speech import SpeakLive
from services.voice.actions.read_voice import ReadVoice
from services.voice.actions.read_voice_settings import ReadVoiceSettings
from services.voice.actions.relay_speech import RelaySpeech
from services.voice.actions.renew_leases import RenewLeases
from services.voice.actions.running_speech import RunningSpeeches
from services.voice.actions.settle_orphans import SettleOrphans
from services.voice.actions.settle_speech import SettleSpeech
from services.voice.actions.speak import Speak
from services.voice.domain.ports import Revocations
from services.voice.providers.elevenlabs import ElevenLabs, Patience
from services.voice.providers.elevenlabs_live import ElevenLabsLive
from services.voice.providers.remembered_voices import RememberedVoices
from services.voice.settings import Settings
from services.voice.storage.admission import ValkeyAdmission
from services.voice.storage.speeches import SqlSpeeches
from services.voice.storage.unit_of_work import SqlWork
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
from shared.settings import service_database_url

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Wired:
    """The parts that a process holds on to."""

    actions: Actions
    database: Database
    checks: Mapping[str, Check]
    running: RunningSpeeches
    revocations: Revocations
    ended_sessions: EndedSessions


@asynccontextmanager
async def wire(settings: Settings) -> AsyncIterator[Wired]:
    """Everything that any process of voice needs."""
    me = ServiceIdentity.from_file("voice", settings.identity_key_file)
    server_url = settings.database_url.get_secret_value()
    cache_url = settings.cache_url.get_secret_value()
    async with (
        open_database(
            service_database_url(server_url, "voice"),
            connections=settings.database_connections,
            application="voice",
        ) as database,
        open_cache(cache_url) as cache,
        open_listener(cache_url) as listener,
        open_egress(settings.egress_url, me) as egress,
    ):
        admissions = Admissions(cache)
        running = RunningSpeeches()
        revocations = ValkeyRevocations("voice", cache, listener)
        try:
            yield Wired(
                actions=_actions(settings, database, admissions, egress, running, revocations),
                database=database,
                checks={
                    "database": database.check,
                    "cache": admissions.check,
                    "egress": egress.check,
                },
                running=running,
                revocations=revocations,
                ended_sessions=EndedSessions(cache, listener),
            )
        finally:
            await running.drained(settings.drain_seconds)


@asynccontextmanager
async def wire_web(settings: Settings) -> AsyncIterator[Wired]:
    """A replica that carries speeches: it also keeps their leases, and hears of revoked keys and
    ended sessions."""
    async with wire(settings) as wired:
        # Three tries within a lease, so that one slow statement does not give a speech away.
        pause = settings.hold_lease_seconds / 3
        async with running_beside(
            _repeat(wired.actions.renew_leases, pause),
            _repeat(partial(_hear_revocations, wired), pause=1),
            _repeat(partial(_hear_ended_sessions, wired), pause=1),
        ):
            yield wired


def _actions(
    settings: Settings,
    database: Database,
    admissions: Admissions,
    egress: Egress,
    running: RunningSpeeches,
    revocations: Revocations,
) -> Actions:
    clock = SystemClock()
    lease = timedelta(seconds=settings.hold_lease_seconds)
    speeches = SqlSpeeches(database)
    settle = SettleSpeech(speeches)
    patience = Patience(
        first_byte=timedelta(seconds=settings.first_byte_seconds),
        silence=timedelta(seconds=settings.silence_seconds),
    )
    provider = RememberedVoices(ElevenLabs(egress, patience))
    admission = ValkeyAdmission(admissions)
    catalogue = ModelCatalogue.from_json(settings.model_overrides)
    work = partial(SqlWork, database)
    return Actions(
        list_voices=ListVoices(provider),
        read_voice=ReadVoice(provider),
        read_voice_settings=ReadVoiceSettings(provider),
        speak=Speak(
            speeches=speeches,
            admission=admission,
            provider=provider,
            settle=settle,
            running=running,
            catalogue=catalogue,
            clock=clock,
            lease=lease,
            sandbox=settings.sandbox,
        ),
        speak_live=SpeakLive(
            speeches=speeches,
            admission=admission,
            voices=provider,
            provider=ElevenLabsLive(egress, patience.silence),
            settle=settle,
            running=running,
            catalogue=catalogue,
            clock=clock,
            lease=lease,
            sandbox=settings.sandbox,
        ),
        relay_speech=RelaySpeech(settle, running),
        renew_leases=RenewLeases(speeches, running, clock, lease),
        settle_orphans=SettleOrphans(speeches, settle, clock),
        announce_revocations=AnnounceRevocations(revocations),
        drop_key=DropKey(running),
        drop_sign_in=DropSignIn(running),
        forget_user=ForgetUser(work, clock, revocations),
        export_user=ExportUser(work),
    )


async def _hear_ended_sessions(wired: Wired) -> None:
    async for sign_in_id in wired.ended_sessions.heard(wired.running.sign_ins):
        await wired.actions.drop_sign_in(sign_in_id)


async def _hear_revocations(wired: Wired) -> None:
    async for revocation in wired.revocations.heard():
        await wired.actions.drop_key(revocation)


async def _repeat(work: Callable[[], Awaitable[None]], pause: float) -> None:
    """Do the work again and again, whatever became of it last time."""
    while True:
        try:
            await work()
        except Unavailable as failure:
            log.warning("background_work_waits", reason=failure.code)
        except Exception:
            log.exception("background_work_failed")
        await asyncio.sleep(pause)
