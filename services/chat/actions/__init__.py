"""Verbs of chat: the table of contents of what it can do."""

from __future__ import annotations

from dataclasses import dataclass

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
from services.chat.actions.settle_orphans import SettleOrphans
from services.chat.actions.start_session import StartSession
from services.chat.actions.take_turn import TakeTurn


@dataclass(frozen=True, slots=True)
class Actions:
    """Everything chat can do."""

    start_session: StartSession
    list_sessions: ListSessions
    read_session: ReadSession
    change_session: ChangeSession
    delete_session: DeleteSession
    read_messages: ReadMessages
    list_models: ListModels
    take_turn: TakeTurn
    settle_orphans: SettleOrphans
    learn_keys: LearnKeys
    forget_keys: ForgetKeys
    drop_key: DropKey
    drop_sign_in: DropSignIn
    forget_user: ForgetUser
    export_user: ExportUser
