"""Who gets which part."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from uuid import UUID

import structlog

from services.voice.actions import Actions
from services.voice.actions.announce_revocations import AnnounceRevocations
from services.voice.actions.change_voice_settings import ChangeVoiceSettings
from services.voice.actions.clone_voice import CloneVoice
from services.voice.actions.drop_key import DropKey
from services.voice.actions.drop_sign_in import DropSignIn
from services.voice.actions.export_user import ExportUser
from services.voice.actions.forget_lost_clones import ForgetLostClones
from services.voice.actions.forget_user import ForgetUser
from services.voice.actions.formats_in_plan import FormatsInPlan
from services.voice.actions.hearers import Hearers
from services.voice.actions.list_engines import ListEngines
from services.voice.actions.list_voices import ListVoices
from services.voice.actions.live_speech import SpeakLive
from services.voice.actions.read_standing import ReadStanding
from services.voice.actions.read_voice import ReadVoice
from services.voice.actions.read_voice_settings import ReadVoiceSettings
from services.voice.actions.recall_settings import RecallSettings
from services.voice.actions.relay_speech import RelaySpeech
from services.voice.actions.remove_every_voice import RemoveEveryVoice
from services.voice.actions.remove_voice import RemoveVoice
from services.voice.actions.renew_leases import RenewLeases
from services.voice.actions.running_speech import RunningSpeeches
from services.voice.actions.settle_orphans import SettleOrphans
from services.voice.actions.settle_speech import SettleSpeech
from services.voice.actions.speak import Speak
from services.voice.actions.spoken_before import SpokenBefore
from services.voice.actions.tell_of_vendor import TellOfVendor
from services.voice.actions.withdraw_hold import WithdrawHold
from services.voice.api import speech_metrics
from services.voice.domain.offline_engine import OfflineEngine
from services.voice.domain.ports import Revocations
from services.voice.domain.voice import VoiceId
from services.voice.providers.elevenlabs import ElevenLabs, Patience
from services.voice.providers.elevenlabs_lists import ElevenLabsLists
from services.voice.providers.elevenlabs_live import ElevenLabsLive
from services.voice.providers.elevenlabs_voices import ElevenLabsVoices
from services.voice.providers.espeak import Espeak, installed
from services.voice.providers.recordings import Recordings
from services.voice.providers.remembered_voices import RememberedStudio, RememberedVoices
from services.voice.providers.utterance_keys import FileUtteranceKeys
from services.voice.settings import Settings
from services.voice.storage.admission import ValkeyAdmission
from services.voice.storage.recollections import SqlRecollections
from services.voice.storage.speeches import SqlSpeeches
from services.voice.storage.unit_of_work import SqlWork
from services.voice.storage.utterances import SqlUtterances
from shared.background import running_beside
from shared.clients.egress import Egress, open_egress
from shared.clock import SystemClock
from shared.db.database import Database, open_database
from shared.errors import Unavailable
from shared.http.readiness import Check, GoodToHave
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

    def sign_ins(self) -> set[UUID]:
        """For which sign-ins something runs or is open."""
        return self.running.sign_ins() | self.actions.hearers.sign_ins()

    def stopping(self) -> None:
        """This replica is about to go: whoever listens had better go elsewhere."""
        self.actions.hearers.drain()


@asynccontextmanager
async def wire(settings: Settings) -> AsyncIterator[Wired]:
    """Everything that any process of voice needs."""
    me = ServiceIdentity.of_setting("voice", settings.identity_key_file)
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
        actions = _actions(settings, database, admissions, egress, running, revocations)
        try:
            yield Wired(
                actions=actions,
                database=database,
                checks={
                    "database": database.check,
                    "cache": GoodToHave(admissions.check),
                    "egress": GoodToHave(egress.check),
                },
                running=running,
                revocations=revocations,
                ended_sessions=EndedSessions(cache, listener),
            )
        finally:
            await running.drained(settings.drain_seconds)
            await actions.spoken_before.drained(settings.drain_seconds)


@asynccontextmanager
async def wire_web(settings: Settings) -> AsyncIterator[Wired]:
    """A replica that carries speeches: it also keeps their leases, and hears of revoked keys and
    ended sessions."""
    async with wire(settings) as wired:
        # Three tries within a lease, so that one slow statement does not give a speech away.
        pause = settings.hold_lease_seconds / 3
        speech_metrics.watch_running(wired.running)
        async with running_beside(
            _repeat(wired.actions.renew_leases, pause),
            _repeat(partial(_hear_revocations, wired), pause=1),
            _repeat(partial(_hear_ended_sessions, wired), pause=1),
            _repeat(partial(_look_at_hearers, wired), pause=1),
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
    hearers = Hearers()
    lease = timedelta(seconds=settings.hold_lease_seconds)
    speeches = SqlSpeeches(database)
    settle = SettleSpeech(speeches, speech_metrics.settled)
    patience = Patience(
        first_byte=timedelta(seconds=settings.first_byte_seconds),
        silence=timedelta(seconds=settings.silence_seconds),
    )
    provider = RememberedVoices(ElevenLabs(egress, patience))
    admission = ValkeyAdmission(admissions)
    catalogue = ModelCatalogue.from_json(settings.model_overrides)
    work = partial(SqlWork, database)
    recollections = SqlRecollections(database)
    before = SpokenBefore(
        SqlUtterances(database),
        recollections,
        FileUtteranceKeys(settings.cache_keys_file),
        clock,
        settings.cache_bounds,
    )
    offline = _offline_engine(settings)
    studio = RememberedStudio(ElevenLabsVoices(egress, patience), provider)
    remove_voice = RemoveVoice(studio, provider, work, clock)
    return Actions(
        list_voices=ListVoices(studio, work, remove_voice),
        read_voice=ReadVoice(provider, work),
        read_voice_settings=ReadVoiceSettings(provider, work),
        change_voice_settings=ChangeVoiceSettings(provider, work, clock),
        recall_settings=RecallSettings(recollections),
        clone_voice=CloneVoice(studio, Recordings(), admission, work, clock),
        remove_voice=remove_voice,
        remove_every_voice=RemoveEveryVoice(remove_voice, work, clock),
        forget_lost_clones=ForgetLostClones(work, clock),
        speak=Speak(
            speeches=speeches,
            admission=admission,
            provider=provider,
            settle=settle,
            running=running,
            catalogue=catalogue,
            clock=clock,
            formats=FormatsInPlan(clock),
            withdraw=WithdrawHold(settle),
            lease=lease,
            sandbox=settings.sandbox,
            before=before,
            offline=offline,
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
            withdraw=WithdrawHold(settle),
            lease=lease,
            sandbox=settings.sandbox,
        ),
        hearers=hearers,
        relay_speech=RelaySpeech(settle, running, before),
        spoken_before=before,
        list_engines=ListEngines(offline, falls_back=settings.offline_fallback),
        renew_leases=RenewLeases(speeches, running, clock, lease),
        settle_orphans=SettleOrphans(speeches, settle, clock),
        announce_revocations=AnnounceRevocations(revocations),
        drop_key=DropKey(running),
        drop_sign_in=DropSignIn(running, hearers),
        forget_user=ForgetUser(work, clock, revocations),
        export_user=ExportUser(work),
        tell_of_vendor=TellOfVendor(ElevenLabsLists(egress), work, catalogue),
        read_standing=ReadStanding(admission, clock),
    )


def _offline_engine(settings: Settings) -> OfflineEngine | None:
    """Raises EngineNotInstalled."""
    if not settings.offline_engine:
        return None
    return Espeak(
        installed(),
        default_voice=VoiceId(settings.offline_voice),
        at_once=settings.offline_at_once,
        patience=timedelta(seconds=settings.offline_seconds),
    )


async def _hear_ended_sessions(wired: Wired) -> None:
    async for sign_in_id in wired.ended_sessions.heard(wired.sign_ins):
        await wired.actions.drop_sign_in(sign_in_id)


async def _look_at_hearers(wired: Wired) -> None:
    wired.actions.hearers.look()


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
