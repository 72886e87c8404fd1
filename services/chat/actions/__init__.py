"""Verbs of chat: the table of contents of what it can do."""

from __future__ import annotations

from services.chat.actions.answer_call import AnswerCall
from services.chat.actions.ask_live import AskLive
from services.chat.actions.ask_spoken import AskSpoken
from services.chat.actions.change_session import ChangeSession
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
from services.chat.actions.read_limits import ReadLimits
from services.chat.actions.read_messages import ReadMessages
from services.chat.actions.read_preference import ReadPreference
from services.chat.actions.read_session import ReadSession
from services.chat.actions.read_tier import ReadTier
from services.chat.actions.relay_call import RelayCall
from services.chat.actions.relay_free_call import CountFreeCall, RelayFreeCall
from services.chat.actions.renew_leases import RenewLeases
from services.chat.actions.save_preference import SavePreference
from services.chat.actions.search_sessions import SearchSessions
from services.chat.actions.settle_orphans import SettleOrphans
from services.chat.actions.start_session import StartSession
from services.chat.actions.stop_turn import StopTurn
from services.chat.actions.switch_branch import SwitchBranch
from services.chat.actions.take_turn import TakeTurn
from services.chat.domain.devices import Devices
from shared.values import dataclass


@dataclass(frozen=True)
class SessionActions:
    """Sessions, what is in them, and what a user chose for all of them."""

    start_session: StartSession
    list_sessions: ListSessions
    search_sessions: SearchSessions
    read_session: ReadSession
    change_session: ChangeSession
    delete_session: DeleteSession
    switch_branch: SwitchBranch
    read_messages: ReadMessages
    read_preference: ReadPreference
    save_preference: SavePreference


@dataclass(frozen=True)
class TurnActions:
    """Turns: asked for, followed, spoken, stopped, settled; and the devices that follow."""

    list_models: ListModels
    take_turn: TakeTurn
    ask_live: AskLive
    ask_spoken: AskSpoken
    follow_turn: FollowTurn
    stop_turn: StopTurn
    emit_to_room: EmitToRoom
    devices: Devices
    hear_live_news: HearLiveNews
    close_silent_turns: CloseSilentTurns
    renew_leases: RenewLeases
    settle_orphans: SettleOrphans
    forget_answers: ForgetAnswers


@dataclass(frozen=True)
class CallActions:
    """Calls in the vendors' own forms, without a session."""

    find_model: FindModel
    answer_call: AnswerCall
    relay_call: RelayCall
    relay_free_call: RelayFreeCall
    count_free_call: CountFreeCall


@dataclass(frozen=True)
class UserActions:
    """Users: how they stand, which keys they have, what ends for them."""

    read_tier: ReadTier
    read_limits: ReadLimits
    learn_keys: LearnKeys
    forget_keys: ForgetKeys
    drop_key: DropKey
    drop_sign_in: DropSignIn
    forget_user: ForgetUser
    export_user: ExportUser


@dataclass(frozen=True)
class Actions(
    SessionActions,
    TurnActions,
    CallActions,
    UserActions,
):
    """Everything chat can do."""
