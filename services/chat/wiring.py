"""Who gets which part."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

import structlog
from redis.asyncio import Redis

from services.chat.actions import (
    Actions,
    CallActions,
    SessionActions,
    TurnActions,
    UserActions,
)
from services.chat.actions._ask_vendors import AskVendors
from services.chat.actions.answer_call import AnswerCall
from services.chat.actions.ask_live import AskLive
from services.chat.actions.ask_spoken import AskSpoken
from services.chat.actions.change_session import ChangeSession
from services.chat.actions.compose_prompt import ComposePrompt
from services.chat.actions.delete_session import DeleteSession
from services.chat.actions.drop_key import DropKey
from services.chat.actions.drop_sign_in import DropSignIn
from services.chat.actions.emit_to_room import EmitToRoom
from services.chat.actions.export_user import ExportUser
from services.chat.actions.find_model import FindModel
from services.chat.actions.follow_turn import CloseSilentTurns, FollowTurn
from services.chat.actions.forget_answers import ForgetAnswers
from services.chat.actions.forget_keys import ForgetKeys
from services.chat.actions.forget_user import ForgetUser
from services.chat.actions.hear_live_news import HearLiveNews
from services.chat.actions.learn_keys import LearnKeys
from services.chat.actions.list_models import ListModels
from services.chat.actions.list_sessions import ListSessions
from services.chat.actions.open_turn import OpenTurn
from services.chat.actions.read_limits import ReadLimits
from services.chat.actions.read_messages import ReadMessages
from services.chat.actions.read_preference import ReadPreference
from services.chat.actions.read_session import ReadSession
from services.chat.actions.read_tier import ReadTier
from services.chat.actions.relay_call import RelayCall
from services.chat.actions.relay_free_call import CountFreeCall, RelayFreeCall
from services.chat.actions.renew_leases import RenewLeases
from services.chat.actions.run_turn import RunTurn
from services.chat.actions.save_preference import SavePreference
from services.chat.actions.search_sessions import SearchSessions
from services.chat.actions.settle_orphans import SettleOrphans
from services.chat.actions.settle_turn import SettleTurn
from services.chat.actions.start_session import StartSession
from services.chat.actions.stop_turn import StopTurn
from services.chat.actions.switch_branch import SwitchBranch
from services.chat.actions.take_turn import TakeTurn
from services.chat.actions.withdraw_hold import WithdrawHold
from services.chat.api import turn_metrics
from services.chat.api.live_events import audio_trouble, live_event
from services.chat.domain.attempts import AttemptPolicy
from services.chat.domain.devices import Devices
from services.chat.domain.model_choice import CHAT_PROVIDERS
from services.chat.domain.ports import Admission, NewUnitOfWork, Quote, Revocations
from services.chat.domain.running_turn import RunningTurn, RunningTurns
from services.chat.domain.usage import Usage
from services.chat.providers import Patience, RawEgress, SpokenProvider, speaking
from services.chat.settings import Settings
from services.chat.storage.admission import ValkeyAdmission
from services.chat.storage.beginnings import Memory
from services.chat.storage.kept_thoughts import ValkeyThoughts
from services.chat.storage.live_channel import ValkeyLiveChannel
from services.chat.storage.turn_log import ValkeyTurnLog
from services.chat.storage.turns import SqlTurns
from services.chat.storage.unit_of_work import SqlWork
from services.chat.storage.written_text import WrittenInLog
from shared.background import act_on_each, repeated, running_beside
from shared.clients.egress import Egress, open_egress
from shared.clients.voice import VoiceLines
from shared.clock import Clock, SystemClock
from shared.db.database import Database, open_database
from shared.http.readiness import Check, GoodToHave
from shared.identity import ServiceIdentity
from shared.ids import UserId
from shared.limits.admission import Admissions
from shared.limits.current_tiers import CurrentTiers
from shared.limits.pace import Paces, Watchers
from shared.limits.shedding import Shedding
from shared.messaging.backlog import LOOK_SECONDS, WatchBacklog, shedding_of
from shared.model_catalogue import ModelCatalogue
from shared.news.ended_sessions import EndedSessions
from shared.news.living_sessions import LivingSessions
from shared.news.revocations import ValkeyRevocations
from shared.pricing import price
from shared.settings import service_database_url
from shared.valkey import open_cache, open_listener
from shared.values import dataclass

log = structlog.get_logger(__name__)

_RENEW_SECONDS = 2.0
_HEAR_AGAIN_SECONDS = 1.0


class Live:
    """What is followed while it happens: the turns of this replica, the log that others follow them
    by, and the devices that are connected here; and what turns leave for the next one."""

    def __init__(self, cache: Redis, listener: Redis) -> None:
        self.log = ValkeyTurnLog(cache, listener)
        self.channel = ValkeyLiveChannel(cache, listener)
        self.thoughts = ValkeyThoughts(cache)
        self.devices = Devices(self.channel)
        self.running = RunningTurns(
            live_event, (self._keep, self.devices.turn_began), turn_metrics.answering
        )
        self.tiers = CurrentTiers(cache, listener)

    def _keep(self, turn: RunningTurn) -> None:
        # Without a session nobody can come back for it.
        if turn.session_id is not None:
            self.log.keep(turn)

    def sign_ins(self) -> set[UUID]:
        """For which sign-ins something runs or is open."""
        return self.running.sign_ins() | self.devices.sign_ins()


@dataclass(frozen=True, slots=True)
class Wired:
    """Chat, put together."""

    actions: Actions
    database: Database
    checks: Mapping[str, Check]
    running: RunningTurns
    live: Live
    turns: SqlTurns
    admission: Admission
    shedding: Shedding
    withdraw: WithdrawHold
    revocations: Revocations
    ended_sessions: EndedSessions
    living_sessions: LivingSessions

    def sign_ins(self) -> set[UUID]:
        """Of which it has to be known here when they end."""
        return self.live.sign_ins() | self.living_sessions.known()

    def stopping(self) -> None:
        """This replica is about to go: its devices had better go elsewhere."""
        self.live.devices.drain()


@asynccontextmanager
async def wire_web(settings: Settings) -> AsyncIterator[Wired]:
    """A replica that runs turns: it also keeps their leases, and hears of revoked keys and
    ended sessions."""
    async with wire(settings) as wired:
        # Loading the price list takes half a second, which no user should wait for.
        quote("openai", "gpt-6-luna", Usage(), SystemClock().now())
        _tell_of_unpriced(settings.catalogue)
        turn_metrics.watch_running(wired.running)
        bearable = timedelta(seconds=settings.shed_after_seconds)
        backlog = WatchBacklog("chat", wired.database, wired.shedding, bearable)
        async with running_beside(
            repeated(backlog, pause_seconds=LOOK_SECONDS),
            repeated(wired.actions.renew_leases, pause_seconds=_RENEW_SECONDS),
            repeated(partial(_renew_places, wired), pause_seconds=_RENEW_SECONDS),
            repeated(partial(_hear_revocations, wired), pause_seconds=_HEAR_AGAIN_SECONDS),
            repeated(partial(_hear_ended_sessions, wired), pause_seconds=_HEAR_AGAIN_SECONDS),
            repeated(partial(_hear_tiers, wired), pause_seconds=_HEAR_AGAIN_SECONDS),
            repeated(partial(_hear_live_news, wired), pause_seconds=_HEAR_AGAIN_SECONDS),
            repeated(partial(_look_around, wired), pause_seconds=1),
            wired.live.log.write(),
            wired.live.log.read(),
        ):
            try:
                yield wired
            finally:
                # While they end, their leases are kept and what ends them is heard.
                await wired.running.drained(settings.drain_seconds)
                await wired.withdraw.drained()
                await wired.live.log.flush()


@asynccontextmanager
async def wire(settings: Settings) -> AsyncIterator[Wired]:
    """Open what chat needs and put it together, and close it."""
    me = ServiceIdentity.of_setting("chat", settings.identity_key_file)
    url = service_database_url(settings.database_url.get_secret_value(), "chat")
    cache_url = settings.cache_url.get_secret_value()
    async with (
        open_database(
            url, connections=settings.database_connections, application="chat"
        ) as database,
        open_cache(cache_url) as cache,
        open_listener(cache_url) as listener,
        open_egress(
            settings.egress_url,
            me,
            gather=timedelta(milliseconds=settings.gather_milliseconds),
        ) as egress,
    ):
        lines = _lines(settings, me)
        yield _wired(settings, database, cache, listener, egress, lines)


def _wired(
    settings: Settings,
    database: Database,
    cache: Redis,
    listener: Redis,
    egress: Egress,
    lines: VoiceLines | None,
) -> Wired:
    """What was opened, put together."""
    admissions = Admissions(cache)
    shedding = shedding_of("chat")
    admission = ValkeyAdmission(admissions, shedding)
    live = Live(cache, listener)
    turns = SqlTurns(database, Memory.for_tokens(settings.history_tokens))
    withdraw = WithdrawHold(turns)
    revocations = ValkeyRevocations("chat", cache, listener)
    ended_sessions = EndedSessions(cache, listener)
    return Wired(
        actions=build_actions(
            settings, database, turns, live, admission, withdraw, egress, revocations, lines
        ),
        database=database,
        checks={
            "database": database.check,
            "cache": GoodToHave(admissions.check),
            "egress": GoodToHave(egress.check),
        },
        running=live.running,
        live=live,
        turns=turns,
        admission=admission,
        shedding=shedding,
        withdraw=withdraw,
        revocations=revocations,
        ended_sessions=ended_sessions,
        living_sessions=LivingSessions(ended_sessions),
    )


@dataclass(frozen=True, slots=True)
class _Parts:
    """What the verbs of more than one topic are made of."""

    work: NewUnitOfWork
    turns: SqlTurns
    live: Live
    admission: Admission
    providers: Mapping[str, SpokenProvider]
    catalogue: ModelCatalogue
    clock: Clock
    open: OpenTurn
    settle: SettleTurn
    run: RunTurn


def _parts(
    settings: Settings,
    database: Database,
    turns: SqlTurns,
    live: Live,
    admission: Admission,
    withdraw: WithdrawHold,
    egress: Egress,
) -> _Parts:
    work, clock, catalogue = partial(SqlWork, database), SystemClock(), settings.catalogue
    patience = Patience(
        first_byte=timedelta(seconds=settings.first_byte_seconds),
        silence=timedelta(seconds=settings.silence_seconds),
    )
    providers = speaking(egress, patience)
    settle = SettleTurn(turns, quote, clock, sandbox=settings.sandbox, settled=turn_metrics.settled)
    opening = OpenTurn(
        turns=turns,
        admission=admission,
        withdraw=withdraw,
        price=quote,
        clock=clock,
        lease=timedelta(seconds=settings.hold_lease_seconds),
        sandbox=settings.sandbox,
        let_in=turn_metrics.let_in,
        paces=_paces(settings),
    )
    attempts = AttemptPolicy(settings.retries, timedelta(seconds=settings.retry_seconds))
    ask = AskVendors(providers, opening, work, catalogue, policy=attempts)
    longest = timedelta(seconds=settings.longest_turn_seconds)
    run = RunTurn(ask, settle, live.running, longest=longest)
    return _Parts(work, turns, live, admission, providers, catalogue, clock, opening, settle, run)


def build_actions(
    settings: Settings,
    database: Database,
    turns: SqlTurns,
    live: Live,
    admission: Admission,
    withdraw: WithdrawHold,
    egress: Egress,
    revocations: Revocations,
    lines: VoiceLines | None,
) -> Actions:
    """Every verb with its parts."""
    parts = _parts(settings, database, turns, live, admission, withdraw, egress)
    turn_actions = _turn_actions(settings, parts, lines)
    return Actions(
        **vars(_session_actions(parts)),
        **vars(turn_actions),
        **vars(_call_actions(settings, parts, turn_actions.list_models)),
        **vars(_user_actions(parts, revocations)),
    )


def _session_actions(parts: _Parts) -> SessionActions:
    work, clock, catalogue = parts.work, parts.clock, parts.catalogue
    return SessionActions(
        start_session=StartSession(work, clock, catalogue),
        list_sessions=ListSessions(work),
        search_sessions=SearchSessions(work),
        read_session=ReadSession(work),
        change_session=ChangeSession(work, clock, catalogue),
        delete_session=DeleteSession(work, parts.live.running, parts.live.channel),
        switch_branch=SwitchBranch(work),
        read_messages=ReadMessages(work),
        read_preference=ReadPreference(work),
        save_preference=SavePreference(work, catalogue),
    )


def _turn_actions(settings: Settings, parts: _Parts, lines: VoiceLines | None) -> TurnActions:
    work, turns, live, clock = parts.work, parts.turns, parts.live, parts.clock
    providers, catalogue, running = parts.providers, parts.catalogue, parts.live.running
    take_turn = TakeTurn(
        turns=turns,
        open=parts.open,
        run=parts.run,
        providers=providers,
        catalogue=catalogue,
        compose=ComposePrompt(providers, catalogue, settings.history_tokens, settings.image_bytes),
    )
    follow = FollowTurn(turns, running, live.log, live_event, clock)
    ask_live = AskLive(take_turn, turns, follow)
    return TurnActions(
        list_models=ListModels(work, catalogue),
        take_turn=take_turn,
        ask_live=ask_live,
        ask_spoken=AskSpoken(ask_live, work, lines, audio_trouble),
        follow_turn=follow,
        stop_turn=StopTurn(turns, running, live.channel),
        emit_to_room=EmitToRoom(live.channel),
        devices=live.devices,
        hear_live_news=HearLiveNews(running, live.devices, follow),
        close_silent_turns=CloseSilentTurns(turns, live.log, live_event),
        renew_leases=RenewLeases(turns, running, clock, parts.open.lease),
        settle_orphans=SettleOrphans(
            turns, parts.settle, clock, parts.admission, WrittenInLog(live.log)
        ),
        forget_answers=ForgetAnswers(turns, clock),
    )


def _call_actions(settings: Settings, parts: _Parts, list_models: ListModels) -> CallActions:
    turns, providers, catalogue, run = parts.turns, parts.providers, parts.catalogue, parts.run
    raw = RawEgress(providers)
    count_free_call = CountFreeCall(parts.open, parts.admission, parts.clock)
    longest = timedelta(seconds=settings.longest_turn_seconds)
    return CallActions(
        find_model=FindModel(list_models, catalogue),
        answer_call=AnswerCall(
            turns, parts.open, run, providers, catalogue, parts.live.thoughts, settings.image_bytes
        ),
        relay_call=RelayCall(
            turns,
            parts.open,
            parts.settle,
            parts.live.running,
            raw,
            catalogue,
            run.drains,
            longest=longest,
        ),
        relay_free_call=RelayFreeCall(count_free_call, raw, catalogue),
        count_free_call=count_free_call,
    )


def _user_actions(parts: _Parts, revocations: Revocations) -> UserActions:
    work, clock, live = parts.work, parts.clock, parts.live
    return UserActions(
        read_tier=ReadTier(parts.admission),
        read_limits=ReadLimits(parts.turns, parts.admission, clock),
        learn_keys=LearnKeys(work),
        forget_keys=ForgetKeys(work, revocations),
        drop_key=DropKey(live.running),
        drop_sign_in=DropSignIn(live.running, live.devices),
        forget_user=ForgetUser(work, clock, revocations),
        export_user=ExportUser(work),
    )


def _paces(settings: Settings) -> Paces:
    paces = Paces(
        settings.paces,
        longest=timedelta(seconds=settings.turns_wait_seconds),
        watchers=Watchers(turn_metrics.waited, turn_metrics.turned_away),
    )
    turn_metrics.watch_waiting(paces)
    return paces


def _lines(settings: Settings, me: ServiceIdentity) -> VoiceLines | None:
    url = settings.voice_internal_url
    return VoiceLines(url, me) if url else None


def quote(provider: str, model: str, usage: Usage, at: datetime) -> Quote | None:
    """The list price of a call; billing's own price book has the last word."""
    priced = price(provider, model, usage, at, usage.service_tier)
    return Quote(priced.cost, priced.version) if priced else None


def _tell_of_unpriced(catalogue: ModelCatalogue) -> None:
    """An operator's own choice of models may be ahead of the price list: what these cost is not
    known, and no user's cap on the month holds for them."""
    anything, now = Usage(input_tokens=1, output_tokens=1), SystemClock().now()
    for model_class, model in catalogue.overridden.items():
        provider = model_class.partition(".")[0]
        if provider in CHAT_PROVIDERS and quote(provider, model, anything, now) is None:
            log.warning("model_without_price", model_class=model_class, model=model)


async def _renew_places(wired: Wired) -> None:
    """Keep the places in the limits. Apart from the holds, which must not wait for a slow Valkey
    and all that it has yet to be told."""
    if reservations := wired.running.reservations():
        await wired.admission.renew(reservations)


async def _hear_ended_sessions(wired: Wired) -> None:
    async def sign_in_ended(sign_in_id: UUID) -> None:
        wired.living_sessions.end(sign_in_id)
        await wired.actions.drop_sign_in(sign_in_id)

    await act_on_each(wired.ended_sessions.heard(wired.sign_ins), sign_in_ended)


async def _hear_tiers(wired: Wired) -> None:
    async def change_tier(changed: tuple[UserId, str]) -> None:
        wired.admission.tier_changed(changed[0])
        wired.live.devices.tier_changed(*changed)

    await act_on_each(wired.live.tiers.heard(), change_tier)


async def _hear_live_news(wired: Wired) -> None:
    await act_on_each(wired.live.channel.heard(), wired.actions.hear_live_news)


async def _look_around(wired: Wired) -> None:
    """At sockets whose time is over, and at turns of which nothing is heard."""
    wired.live.devices.look()
    await wired.actions.close_silent_turns()


async def _hear_revocations(wired: Wired) -> None:
    await act_on_each(wired.revocations.heard(), wired.actions.drop_key)
