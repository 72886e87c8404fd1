"""Who gets which part."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from uuid import UUID

from services.voice.actions import Actions, SpeechActions, UserActions, VoiceActions
from services.voice.actions._spoken_before import SpokenBefore
from services.voice.actions.announce_revocations import AnnounceRevocations
from services.voice.actions.change_voice_settings import ChangeVoiceSettings
from services.voice.actions.clone_voice import CloneVoice
from services.voice.actions.drop_key import DropKey
from services.voice.actions.drop_old_speech import DropOldSpeech
from services.voice.actions.drop_sign_in import DropSignIn
from services.voice.actions.export_user import ExportUser
from services.voice.actions.forget_idempotency_keys import ForgetIdempotencyKeys
from services.voice.actions.forget_lost_clones import ForgetLostClones
from services.voice.actions.forget_user import ForgetUser
from services.voice.actions.keep_places import KeepPlaces
from services.voice.actions.list_engines import ListEngines
from services.voice.actions.list_voices import ListVoices
from services.voice.actions.organisation_voices import OrganisationVoices
from services.voice.actions.read_standing import ReadStanding
from services.voice.actions.read_tier import ReadTier
from services.voice.actions.read_voice import ReadVoice
from services.voice.actions.read_voice_settings import ReadVoiceSettings
from services.voice.actions.recall_settings import RecallSettings
from services.voice.actions.relay_speech import RelaySpeech
from services.voice.actions.remove_every_voice import RemoveEveryVoice
from services.voice.actions.remove_voice import RemoveVoice
from services.voice.actions.renew_leases import RenewLeases
from services.voice.actions.settle_orphans import SettleOrphans
from services.voice.actions.settle_speech import SettleSpeech
from services.voice.actions.speak import Speak
from services.voice.actions.speak_live import SpeakLive
from services.voice.actions.tell_of_vendor import TellOfVendor
from services.voice.actions.tell_refused import TellRefused
from services.voice.actions.withdraw_hold import WithdrawHold
from services.voice.api import speech_metrics
from services.voice.domain.formats_in_plan import FormatsInPlan
from services.voice.domain.looks import Looks
from services.voice.domain.offline_engine import OfflineEngine
from services.voice.domain.open_sockets import OpenSockets
from services.voice.domain.ports import KeyAdmins, NewUnitOfWork, Revocations
from services.voice.domain.running_speech import RunningSpeeches
from services.voice.domain.voice import VoiceId
from services.voice.providers.elevenlabs import ElevenLabs, Patience
from services.voice.providers.elevenlabs_lists import ElevenLabsLists
from services.voice.providers.elevenlabs_live import ElevenLabsLive
from services.voice.providers.elevenlabs_voices import ElevenLabsVoices
from services.voice.providers.espeak import Espeak, installed
from services.voice.providers.kept_speech_keys import FileKeptSpeechKeys
from services.voice.providers.recordings import Recordings
from services.voice.providers.remembered_voices import RememberedStudio, RememberedVoices
from services.voice.settings import Settings
from services.voice.storage.admission import ValkeyAdmission
from services.voice.storage.kept_speeches import SqlKeptSpeeches
from services.voice.storage.recollections import SqlRecollections
from services.voice.storage.speeches import SqlSpeeches
from services.voice.storage.unit_of_work import SqlWork
from shared.background import act_on_each, repeated, running_beside
from shared.clients.auth import open_auth
from shared.clients.egress import Egress, open_egress
from shared.clock import Clock, SystemClock
from shared.db.database import Database, open_database
from shared.http.readiness import Check, GoodToHave
from shared.identity import ServiceIdentity
from shared.limits.admission import Admissions
from shared.limits.shedding import Shedding
from shared.messaging.backlog import LOOK_SECONDS, WatchBacklog, shedding_of
from shared.model_catalogue import ModelCatalogue
from shared.news.ended_sessions import EndedSessions
from shared.news.living_sessions import LivingSessions
from shared.news.revocations import ValkeyRevocations
from shared.settings import service_database_url
from shared.valkey import open_cache, open_listener
from shared.values import dataclass

_LONGEST_RENEWAL_PAUSE_SECONDS = 2.0
_KEPT_AGAIN_SECONDS = 1200.0  # so that one try within the hour may fail


@dataclass(frozen=True, slots=True)
class Wired:
    """The parts that a process holds on to."""

    actions: Actions
    database: Database
    checks: Mapping[str, Check]
    running: RunningSpeeches
    shedding: Shedding
    revocations: Revocations
    ended_sessions: EndedSessions
    living_sessions: LivingSessions

    def sign_ins(self) -> set[UUID]:
        """Of which it has to be known here when they end."""
        open_here = self.running.sign_ins() | self.actions.open_sockets.sign_ins()
        return open_here | self.living_sessions.known()

    def stopping(self) -> None:
        """This replica is about to go: whoever listens had better go elsewhere."""
        self.actions.open_sockets.drain()


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
        open_auth(settings.auth_internal_url, me) as auth,
    ):
        admissions = Admissions(cache)
        running, shedding = RunningSpeeches(), shedding_of("voice")
        revocations = ValkeyRevocations("voice", cache, listener)
        ended_sessions = EndedSessions(cache, listener)
        kept = _spoken_before(settings, database)
        actions = build_actions(
            settings, database, admissions, egress, auth, running, kept, revocations, shedding
        )
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
                shedding=shedding,
                revocations=revocations,
                ended_sessions=ended_sessions,
                living_sessions=LivingSessions(ended_sessions),
            )
        finally:
            await running.drained(settings.drain_seconds)
            await actions.speak.withdraw.drained()
            await kept.drained(settings.drain_seconds)


@asynccontextmanager
async def wire_web(settings: Settings) -> AsyncIterator[Wired]:
    """A replica that carries speeches: it also keeps their leases, and hears of revoked keys and
    ended sessions."""
    async with wire(settings) as wired:
        speech_metrics.watch_running(wired.running)
        bearable = timedelta(seconds=settings.shed_after_seconds)
        backlog = WatchBacklog("voice", wired.database, wired.shedding, bearable)
        async with running_beside(
            repeated(backlog, pause_seconds=LOOK_SECONDS),
            repeated(wired.actions.renew_leases, pause_seconds=renewal_pause(settings)),
            repeated(wired.actions.keep_places, pause_seconds=_KEPT_AGAIN_SECONDS),
            repeated(partial(_hear_revocations, wired), pause_seconds=1),
            repeated(partial(_hear_ended_sessions, wired), pause_seconds=1),
            repeated(partial(_look_at_sockets, wired), pause_seconds=1),
        ):
            yield wired


def renewal_pause(settings: Settings) -> float:
    """Three tries within a lease, so that one slow statement does not give a speech away; and after
    a failure the next so soon that the sweeper waits for it."""
    return min(settings.hold_lease_seconds / 3, _LONGEST_RENEWAL_PAUSE_SECONDS)


@dataclass(frozen=True, slots=True)
class _Parts:
    """What the verbs of more than one topic are made of."""

    egress: Egress
    patience: Patience
    provider: RememberedVoices
    admission: ValkeyAdmission
    speeches: SqlSpeeches
    work: NewUnitOfWork
    catalogue: ModelCatalogue
    clock: Clock


def build_actions(
    settings: Settings,
    database: Database,
    admissions: Admissions,
    egress: Egress,
    key_admins: KeyAdmins,
    running: RunningSpeeches,
    before: SpokenBefore,
    revocations: Revocations,
    shedding: Shedding,
) -> Actions:
    """Every verb with its parts."""
    patience = Patience(
        first_byte=timedelta(seconds=settings.first_byte_seconds),
        silence=timedelta(seconds=settings.silence_seconds),
    )
    speeches = SqlSpeeches(database)
    parts = _Parts(
        egress=egress,
        patience=patience,
        provider=RememberedVoices(ElevenLabs(egress, patience)),
        admission=ValkeyAdmission(
            admissions, speeches.charged_since, shedding, TellRefused(partial(SqlWork, database))
        ),
        speeches=speeches,
        work=partial(SqlWork, database),
        catalogue=ModelCatalogue.from_json(settings.model_overrides),
        clock=SystemClock(),
    )
    speech = _speech_actions(settings, parts, running, before)
    return Actions(
        **vars(_voice_actions(parts, key_admins)),
        **vars(speech),
        **vars(_user_actions(parts, running, speech.open_sockets, revocations)),
    )


def _voice_actions(parts: _Parts, key_admins: KeyAdmins) -> VoiceActions:
    provider, work, clock = parts.provider, parts.work, parts.clock
    studio = RememberedStudio(ElevenLabsVoices(parts.egress, parts.patience), provider)
    remove_voice = RemoveVoice(studio, provider, work, clock)
    return VoiceActions(
        list_voices=ListVoices(studio, work, remove_voice),
        read_voice=ReadVoice(provider, work),
        read_voice_settings=ReadVoiceSettings(provider, work),
        change_voice_settings=ChangeVoiceSettings(provider, work, clock),
        clone_voice=CloneVoice(studio, Recordings(), parts.admission, work, clock),
        remove_voice=remove_voice,
        remove_every_voice=RemoveEveryVoice(remove_voice, work),
        forget_lost_clones=ForgetLostClones(work, clock),
        organisation_voices=OrganisationVoices(key_admins, work, remove_voice),
    )


def _speech_actions(
    settings: Settings, parts: _Parts, running: RunningSpeeches, before: SpokenBefore
) -> SpeechActions:
    speeches, clock = parts.speeches, parts.clock
    lease = timedelta(seconds=settings.hold_lease_seconds)
    settle = SettleSpeech(speeches, speech_metrics.settled)
    withdraw = WithdrawHold(settle)  # one task of the process for both
    formats = FormatsInPlan(clock)
    offline = _offline_engine(settings)
    return SpeechActions(
        speak=Speak(
            speeches=speeches,
            admission=parts.admission,
            provider=parts.provider,
            settle=settle,
            running=running,
            catalogue=parts.catalogue,
            clock=clock,
            formats=formats,
            withdraw=withdraw,
            lease=lease,
            sandbox=settings.sandbox,
            before=before,
            offline=offline,
        ),
        speak_live=_speak_live(settings, parts, settle, running, withdraw, before, formats),
        open_sockets=OpenSockets(),
        relay_speech=RelaySpeech(settle, running, before),
        drop_old_speech=DropOldSpeech(before.kept_speeches, clock, before.bounds.age),
        list_engines=ListEngines(offline, falls_back=settings.offline_fallback),
        renew_leases=RenewLeases(speeches, running, clock, lease),
        keep_places=KeepPlaces(running),
        settle_orphans=SettleOrphans(speeches, settle, clock, parts.admission),
        forget_idempotency_keys=ForgetIdempotencyKeys(speeches, parts.work, clock),
    )


def _speak_live(
    settings: Settings,
    parts: _Parts,
    settle: SettleSpeech,
    running: RunningSpeeches,
    withdraw: WithdrawHold,
    before: SpokenBefore,
    formats: FormatsInPlan,
) -> SpeakLive:
    return SpeakLive(
        speeches=parts.speeches,
        admission=parts.admission,
        voices=parts.provider,
        provider=ElevenLabsLive(parts.egress, parts.patience.silence),
        settle=settle,
        running=running,
        catalogue=parts.catalogue,
        clock=parts.clock,
        withdraw=withdraw,
        recall_settings=RecallSettings(before.recollections),
        formats=formats,
        looks=Looks(parts.clock),
        lease=timedelta(seconds=settings.hold_lease_seconds),
        sandbox=settings.sandbox,
    )


def _user_actions(
    parts: _Parts, running: RunningSpeeches, open_sockets: OpenSockets, revocations: Revocations
) -> UserActions:
    work, clock = parts.work, parts.clock
    return UserActions(
        read_tier=ReadTier(parts.admission),
        read_standing=ReadStanding(parts.admission, clock),
        announce_revocations=AnnounceRevocations(revocations),
        drop_key=DropKey(running),
        drop_sign_in=DropSignIn(running, open_sockets),
        forget_user=ForgetUser(work, clock, revocations),
        export_user=ExportUser(work),
        tell_of_vendor=TellOfVendor(ElevenLabsLists(parts.egress), work, parts.catalogue),
    )


def _spoken_before(settings: Settings, database: Database) -> SpokenBefore:
    return SpokenBefore(
        SqlKeptSpeeches(database),
        SqlRecollections(database),
        FileKeptSpeechKeys(settings.cache_keys_file),
        SystemClock(),
        settings.cache_bounds,
    )


def _offline_engine(settings: Settings) -> OfflineEngine | None:
    """Raises EngineNotInstalled and VoiceNotInstalled."""
    if not settings.offline_engine:
        return None
    return Espeak(
        installed(),
        default_voice=VoiceId(settings.offline_voice),
        at_once=settings.offline_at_once,
        patience=timedelta(seconds=settings.offline_seconds),
    )


async def _hear_ended_sessions(wired: Wired) -> None:
    async def sign_in_ended(sign_in_id: UUID) -> None:
        wired.living_sessions.end(sign_in_id)
        await wired.actions.drop_sign_in(sign_in_id)

    await act_on_each(wired.ended_sessions.heard(wired.sign_ins), sign_in_ended)


async def _look_at_sockets(wired: Wired) -> None:
    wired.actions.open_sockets.look()


async def _hear_revocations(wired: Wired) -> None:
    await act_on_each(wired.revocations.heard(), wired.actions.drop_key)
