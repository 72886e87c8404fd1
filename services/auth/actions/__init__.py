"""Everything that auth can do."""

from __future__ import annotations

from services.auth.actions.accept_invitation import AcceptInvitation
from services.auth.actions.accept_invitation_with_password import AcceptInvitationWithPassword
from services.auth.actions.assign_role import AssignRole
from services.auth.actions.authorize_client import AuthorizeClient
from services.auth.actions.begin_totp import BeginTotp
from services.auth.actions.carry_first_step import CarryFirstStep
from services.auth.actions.change_member import ChangeMember
from services.auth.actions.change_password import ChangePassword
from services.auth.actions.check_health import CheckHealth
from services.auth.actions.confirm_totp import ConfirmTotp
from services.auth.actions.create_operator import CreateOperator
from services.auth.actions.create_organisation import CreateOrganisation
from services.auth.actions.delete_account import DeleteAccount
from services.auth.actions.delete_organisation import DeleteOrganisation
from services.auth.actions.describe_server import DescribeServer
from services.auth.actions.disable_account import DisableAccount, EnableAccount
from services.auth.actions.disable_client import DisableClient
from services.auth.actions.end_sign_in import EndSignIn
from services.auth.actions.exchange_personal_token import ExchangePersonalToken
from services.auth.actions.export_account import ExportAccount
from services.auth.actions.find_return_address import FindReturnAddress
from services.auth.actions.follow_subscriptions import FollowSubscriptions
from services.auth.actions.forget_expired import ForgetExpired
from services.auth.actions.forget_user import ForgetUser
from services.auth.actions.invite_member import InviteMember
from services.auth.actions.issue_personal_token import IssuePersonalToken
from services.auth.actions.link_audit_events import LinkAuditEvents
from services.auth.actions.list_clients import ListClients
from services.auth.actions.list_invitations import ListInvitations
from services.auth.actions.list_members import ListMembers
from services.auth.actions.list_personal_tokens import ListPersonalTokens
from services.auth.actions.list_sign_ins import ListSignIns
from services.auth.actions.look_up_member import LookUpMember
from services.auth.actions.mail_billing_news import MailBillingNews
from services.auth.actions.mail_limits import MailLimits
from services.auth.actions.note_console_act import NoteConsoleAct
from services.auth.actions.note_forgotten import NoteForgotten
from services.auth.actions.note_voices import NoteVoices
from services.auth.actions.publish_signing_keys import PublishSigningKeys
from services.auth.actions.read_audit import ReadAudit
from services.auth.actions.redeem_code import RedeemCode
from services.auth.actions.refresh import Refresh
from services.auth.actions.register import Register
from services.auth.actions.register_client import RegisterClient
from services.auth.actions.remind_services import RemindServices
from services.auth.actions.remove_member import RemoveMember
from services.auth.actions.remove_totp import RemoveTotp
from services.auth.actions.rename_account import RenameAccount
from services.auth.actions.rename_organisation import RenameOrganisation
from services.auth.actions.renew_recovery_codes import RenewRecoveryCodes
from services.auth.actions.repeat_ended_sessions import RepeatEndedSessions
from services.auth.actions.request_email_change import RequestEmailChange
from services.auth.actions.request_password_reset import RequestPasswordReset
from services.auth.actions.resend_verification import ResendVerification
from services.auth.actions.reset_password import ResetPassword
from services.auth.actions.reset_second_factor import ResetSecondFactor
from services.auth.actions.revoke_personal_token import RevokePersonalToken
from services.auth.actions.revoke_token import RevokeToken
from services.auth.actions.send_mails import SendMails
from services.auth.actions.show_account import ShowAccount
from services.auth.actions.show_erasure import ShowErasure
from services.auth.actions.show_organisation import ShowOrganisation
from services.auth.actions.show_second_factor import ShowSecondFactor
from services.auth.actions.sign_in_with_password import SignInWithPassword
from services.auth.actions.sign_out import SignOut
from services.auth.actions.step_up import StepUp
from services.auth.actions.verify_audit import VerifyAudit
from services.auth.actions.verify_email import VerifyEmail
from services.auth.actions.watch_audit import WatchAudit
from services.auth.actions.withdraw_invitation import WithdrawInvitation
from shared.values import dataclass


@dataclass(frozen=True)
class AccountActions:
    """Accounts: opened, changed, proven, ended."""

    register: Register
    show_account: ShowAccount
    rename_account: RenameAccount
    change_password: ChangePassword
    request_email_change: RequestEmailChange
    request_password_reset: RequestPasswordReset
    resend_verification: ResendVerification
    reset_password: ResetPassword
    verify_email: VerifyEmail
    delete_account: DeleteAccount
    show_erasure: ShowErasure
    export_account: ExportAccount


@dataclass(frozen=True)
class SignInActions:
    """Signing in, with one factor or two, and what is signed in."""

    sign_in_with_password: SignInWithPassword
    step_up: StepUp
    show_second_factor: ShowSecondFactor
    begin_totp: BeginTotp
    confirm_totp: ConfirmTotp
    remove_totp: RemoveTotp
    renew_recovery_codes: RenewRecoveryCodes
    refresh: Refresh
    sign_out: SignOut
    list_sign_ins: ListSignIns
    end_sign_in: EndSignIn
    repeat_ended_sessions: RepeatEndedSessions


@dataclass(frozen=True)
class TokenActions:
    """Tokens for programs: personal ones, and those of OAuth clients."""

    issue_personal_token: IssuePersonalToken
    list_personal_tokens: ListPersonalTokens
    revoke_personal_token: RevokePersonalToken
    exchange_personal_token: ExchangePersonalToken
    find_return_address: FindReturnAddress
    authorize_client: AuthorizeClient
    carry_first_step: CarryFirstStep
    redeem_code: RedeemCode
    revoke_token: RevokeToken
    describe_server: DescribeServer
    register_client: RegisterClient
    list_clients: ListClients
    disable_client: DisableClient
    publish_signing_keys: PublishSigningKeys


@dataclass(frozen=True)
class OrganisationActions:
    """Organisations, their members, and their seats."""

    create_organisation: CreateOrganisation
    show_organisation: ShowOrganisation
    rename_organisation: RenameOrganisation
    delete_organisation: DeleteOrganisation
    list_members: ListMembers
    look_up_member: LookUpMember
    change_member: ChangeMember
    remove_member: RemoveMember
    invite_member: InviteMember
    list_invitations: ListInvitations
    withdraw_invitation: WithdrawInvitation
    accept_invitation: AcceptInvitation
    accept_invitation_with_password: AcceptInvitationWithPassword
    follow_subscriptions: FollowSubscriptions


@dataclass(frozen=True)
class MailActions:
    """Mails to users."""

    send_mails: SendMails
    mail_limits: MailLimits
    mail_billing_news: MailBillingNews


@dataclass(frozen=True)
class ConsoleActions:
    """What the operator does to accounts."""

    create_operator: CreateOperator
    disable_account: DisableAccount
    enable_account: EnableAccount
    assign_role: AssignRole
    reset_second_factor: ResetSecondFactor
    note_console_act: NoteConsoleAct


@dataclass(frozen=True)
class AuditActions:
    """The audit trail."""

    read_audit: ReadAudit
    link_audit_events: LinkAuditEvents
    verify_audit: VerifyAudit
    watch_audit: WatchAudit


@dataclass(frozen=True)
class ServiceActions:
    """What the other services need, and what the clock starts."""

    note_voices: NoteVoices
    forget_user: ForgetUser
    note_forgotten: NoteForgotten
    remind_services: RemindServices
    forget_expired: ForgetExpired
    check_health: CheckHealth


@dataclass(frozen=True)
class Actions(
    AccountActions,
    SignInActions,
    TokenActions,
    OrganisationActions,
    MailActions,
    ConsoleActions,
    AuditActions,
    ServiceActions,
):
    """Everything that auth can do."""
