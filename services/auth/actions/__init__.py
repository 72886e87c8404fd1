"""Everything that auth can do."""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class Actions:
    """The table of contents."""

    register: Register
    sign_in_with_password: SignInWithPassword
    refresh: Refresh
    sign_out: SignOut
    show_account: ShowAccount
    rename_account: RenameAccount
    change_password: ChangePassword
    list_sign_ins: ListSignIns
    end_sign_in: EndSignIn
    create_operator: CreateOperator
    publish_signing_keys: PublishSigningKeys
    look_up_user: LookUpUser
    follow_subscriptions: FollowSubscriptions
    forget_expired: ForgetExpired
    check_health: CheckHealth
