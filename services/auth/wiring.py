"""Who gets which part."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial

import argon2
import httpx
import structlog
from redis.asyncio import Redis

from services.auth.actions import (
    AccountActions,
    Actions,
    AuditActions,
    ConsoleActions,
    MailActions,
    OrganisationActions,
    ServiceActions,
    SignInActions,
    TokenActions,
)
from services.auth.actions._limit_guesses import LimitGuesses
from services.auth.actions._prove_identity import ProveIdentity
from services.auth.actions.accept_invitation import AcceptInvitation
from services.auth.actions.accept_invitation_with_password import AcceptInvitationWithPassword
from services.auth.actions.assign_role import AssignRole
from services.auth.actions.authorize_client import AuthorizeClient
from services.auth.actions.begin_sign_in import BeginSignIn
from services.auth.actions.begin_totp import BeginTotp
from services.auth.actions.carry_first_step import CarryFirstStep
from services.auth.actions.change_member import ChangeMember
from services.auth.actions.change_password import ChangePassword
from services.auth.actions.check_health import CheckHealth
from services.auth.actions.check_second_factor import CheckSecondFactor
from services.auth.actions.confirm_password import ConfirmPassword
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
from services.auth.actions.limit_asking import LimitAsking
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
from services.auth.actions.write_letter import WriteLetter
from services.auth.domain.exchanged_tokens import ExchangedTokens
from services.auth.domain.ports import (
    AccountCollector,
    ClonedVoices,
    Mailer,
    NewUnitOfWork,
    PasswordRules,
    Passwords,
    PresentedTokens,
    Probe,
    SessionNews,
)
from services.auth.domain.sign_in import SignInLifetimes
from services.auth.domain.token_pair import TokenIssuer
from services.auth.providers.account_collector import PeerCollector
from services.auth.providers.argon2_passwords import Argon2Passwords
from services.auth.providers.cloned_voices import VoicesAtVoice
from services.auth.providers.mail_folder import MailFolder
from services.auth.providers.password_rules import JudgedPasswords
from services.auth.providers.readiness import OwnReadiness, PeerReadiness
from services.auth.providers.signing_key_file import SigningKeyFile
from services.auth.providers.smtp import SmtpMailer
from services.auth.settings import Settings
from services.auth.storage.personal_tokens import SqlPresentedTokens
from services.auth.storage.unit_of_work import News, SqlWork
from shared.background import repeated, running_beside, until_told
from shared.clock import Clock, SystemClock
from shared.db.database import Database, open_database
from shared.http.readiness import Check
from shared.identity import ServiceIdentity
from shared.limits.current_tiers import CurrentTiers
from shared.news.ended_sessions import EndedSessions
from shared.settings import service_database_url
from shared.valkey import open_cache
from shared.values import dataclass

log = structlog.get_logger(__name__)

# A Valkey that lost its memory keeps sensitive routes waiting for so long at most.
_REPEAT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Wired:
    """The service, ready to work."""

    actions: Actions
    database: Database
    checks: Mapping[str, Check]
    keys: SigningKeyFile
    cache: Redis


@asynccontextmanager
async def wire_web(settings: Settings) -> AsyncIterator[Wired]:
    """A replica that also keeps everybody's knowledge of ended sessions whole, and shows its
    gauges."""
    # Here and not above: a worker opens no doors, and would show gauges that it never sets.
    from services.auth.api.gauges import keep_gauges, watch_signing_key
    from shared.http.saturation import watch_valkey

    async with (
        wire(settings) as wired,
        running_beside(
            # Tried again at once where it failed: until it is done once, nobody can use a key.
            repeated(
                partial(until_told, wired.actions.repeat_ended_sessions),
                pause_seconds=_REPEAT_SECONDS,
            ),
            watch_valkey(wired.cache),
        ),
        keep_gauges(wired.actions),
    ):
        watch_signing_key(wired.keys, SystemClock())
        yield wired


@asynccontextmanager
async def wire(settings: Settings) -> AsyncIterator[Wired]:
    """Open what the service needs and introduce the rooms to each other."""
    url = service_database_url(settings.database_url.get_secret_value(), "auth")
    keys = SigningKeyFile(settings.signing_keys_file)
    rules = JudgedPasswords(settings.breached_passwords_file)
    passwords = _passwords(settings)
    me = ServiceIdentity.of_setting("auth", settings.identity_key_file)
    async with (
        open_database(
            url, connections=settings.database_connections, application="auth"
        ) as database,
        open_cache(settings.cache_url.get_secret_value()) as cache,
        # No proxy of the environment: what services show each other is for nobody else.
        httpx.AsyncClient(trust_env=False) as client,
    ):
        checks: dict[str, Check] = {"database": database.check, "signing_keys": keys.check}
        probes: dict[str, Probe] = {"auth": OwnReadiness(checks)}
        for name, address in settings.peers_health.items():
            probes[name] = PeerReadiness(client, address)
        news = News(EndedSessions(cache), CurrentTiers(cache))
        work = partial(SqlWork, database, news, keys)
        try:
            yield Wired(
                build_actions(
                    settings,
                    work,
                    passwords,
                    rules,
                    keys,
                    probes,
                    news.ended_sessions,
                    SqlPresentedTokens(database),
                    SystemClock(),
                    collector=PeerCollector(client, settings.peers_internal, me),
                    voices=VoicesAtVoice(client, settings.peers_internal["voice"], me),
                ),
                database,
                checks,
                keys,
                cache,
            )
        finally:
            passwords.close()
            rules.close()


@dataclass(frozen=True, slots=True)
class _Parts:
    """What the verbs of more than one topic are made of."""

    work: NewUnitOfWork
    passwords: Passwords
    rules: PasswordRules
    keys: SigningKeyFile
    clock: Clock
    issuer: TokenIssuer
    lifetimes: SignInLifetimes
    second_factor: CheckSecondFactor
    confirm_password: ConfirmPassword
    prove: ProveIdentity
    begin: BeginSignIn


def _parts(
    settings: Settings,
    work: NewUnitOfWork,
    passwords: Passwords,
    rules: PasswordRules,
    keys: SigningKeyFile,
    clock: Clock,
) -> _Parts:
    issuer = TokenIssuer(
        keys, settings.token_issuer, settings.token_audience, settings.access_lifetime
    )
    limit = settings.guess_limits.account
    lifetimes = SignInLifetimes(
        idle=timedelta(days=settings.refresh_idle_days),
        absolute=timedelta(days=settings.refresh_absolute_days),
        grace=timedelta(seconds=settings.refresh_grace_seconds),
    )
    guesses = LimitGuesses(work, settings.guess_limits, clock)
    second_factor = CheckSecondFactor(limit, clock)
    return _Parts(
        work=work,
        passwords=passwords,
        rules=rules,
        keys=keys,
        clock=clock,
        issuer=issuer,
        lifetimes=lifetimes,
        second_factor=second_factor,
        confirm_password=ConfirmPassword(work, passwords, limit, clock),
        prove=ProveIdentity(
            work, passwords, guesses, second_factor, clock, settings.require_verified_email
        ),
        begin=BeginSignIn(issuer, lifetimes, clock),
    )


def build_actions(
    settings: Settings,
    work: NewUnitOfWork,
    passwords: Passwords,
    rules: PasswordRules,
    keys: SigningKeyFile,
    probes: Mapping[str, Probe],
    session_news: SessionNews,
    presented: PresentedTokens,
    clock: Clock,
    *,
    collector: AccountCollector,
    voices: ClonedVoices,
) -> Actions:
    """Every verb with its parts."""
    parts = _parts(settings, work, passwords, rules, keys, clock)
    sign_ins = _sign_in_actions(settings, parts, session_news)
    tokens = _token_actions(settings, parts, presented)
    audit = _audit_actions(parts)
    export = ExportAccount(work, collector, audit.read_audit, clock)
    accounts = _account_actions(settings, parts, voices, export)
    return Actions(
        **vars(accounts),
        **vars(sign_ins),
        **vars(tokens),
        **vars(_organisation_actions(parts)),
        **vars(_mail_actions(settings, parts)),
        **vars(_console_actions(parts, accounts.register)),
        **vars(audit),
        **vars(_service_actions(parts, probes)),
    )


def _account_actions(
    settings: Settings, parts: _Parts, voices: ClonedVoices, export_account: ExportAccount
) -> AccountActions:
    work, clock, passwords, rules = parts.work, parts.clock, parts.passwords, parts.rules
    return AccountActions(
        register=Register(
            work,
            passwords,
            rules,
            tries=LimitAsking("register-try", settings.most_registration_tries, clock),
            accounts=LimitAsking("register", settings.most_registrations, clock),
            clock=clock,
        ),
        show_account=ShowAccount(work),
        rename_account=RenameAccount(work, clock),
        change_password=ChangePassword(work, parts.confirm_password, rules),
        request_email_change=RequestEmailChange(work, parts.confirm_password),
        request_password_reset=RequestPasswordReset(
            work, LimitAsking("forgot", settings.most_resets, clock), clock
        ),
        resend_verification=ResendVerification(work, clock),
        reset_password=ResetPassword(work, passwords, rules, clock),
        verify_email=VerifyEmail(work, clock),
        delete_account=DeleteAccount(work, clock, voices),
        show_erasure=ShowErasure(work),
        export_account=export_account,
    )


def _sign_in_actions(settings: Settings, parts: _Parts, session_news: SessionNews) -> SignInActions:
    work, clock = parts.work, parts.clock
    limit = settings.guess_limits.account
    return SignInActions(
        sign_in_with_password=SignInWithPassword(work, parts.prove, parts.begin),
        step_up=StepUp(work, parts.confirm_password, parts.second_factor, parts.issuer),
        show_second_factor=ShowSecondFactor(work),
        begin_totp=BeginTotp(work, settings.totp_issuer, clock),
        confirm_totp=ConfirmTotp(work, limit, clock),
        remove_totp=RemoveTotp(work, clock),
        renew_recovery_codes=RenewRecoveryCodes(work, clock),
        refresh=Refresh(work, parts.issuer, parts.lifetimes, clock),
        sign_out=SignOut(work, clock),
        list_sign_ins=ListSignIns(work, clock),
        end_sign_in=EndSignIn(work, clock),
        repeat_ended_sessions=RepeatEndedSessions(work, session_news, clock),
    )


def _token_actions(settings: Settings, parts: _Parts, presented: PresentedTokens) -> TokenActions:
    work, clock, keys = parts.work, parts.clock, parts.keys
    return TokenActions(
        issue_personal_token=IssuePersonalToken(work, clock),
        list_personal_tokens=ListPersonalTokens(work, clock),
        revoke_personal_token=RevokePersonalToken(work, clock),
        exchange_personal_token=ExchangePersonalToken(
            presented, parts.issuer, ExchangedTokens(), clock
        ),
        find_return_address=FindReturnAddress(work, settings.token_issuer),
        authorize_client=AuthorizeClient(work, parts.prove, clock),
        carry_first_step=CarryFirstStep(keys, clock),
        redeem_code=RedeemCode(work, parts.begin, clock),
        revoke_token=RevokeToken(work, keys, clock),
        describe_server=DescribeServer(settings.token_issuer, settings.public_url),
        register_client=RegisterClient(work, clock),
        list_clients=ListClients(work),
        disable_client=DisableClient(work, clock),
        publish_signing_keys=PublishSigningKeys(keys, settings.rotation_pace.kept, clock),
    )


def _organisation_actions(parts: _Parts) -> OrganisationActions:
    work, clock = parts.work, parts.clock
    accept_invitation = AcceptInvitation(work, clock)
    return OrganisationActions(
        create_organisation=CreateOrganisation(work, clock),
        show_organisation=ShowOrganisation(work),
        rename_organisation=RenameOrganisation(work, clock),
        delete_organisation=DeleteOrganisation(work, clock),
        list_members=ListMembers(work),
        look_up_member=LookUpMember(work),
        change_member=ChangeMember(work, clock),
        remove_member=RemoveMember(work, clock),
        invite_member=InviteMember(work, clock),
        list_invitations=ListInvitations(work, clock),
        withdraw_invitation=WithdrawInvitation(work, clock),
        accept_invitation=accept_invitation,
        accept_invitation_with_password=AcceptInvitationWithPassword(
            work, parts.prove, accept_invitation
        ),
        follow_subscriptions=FollowSubscriptions(work, clock),
    )


def _mail_actions(settings: Settings, parts: _Parts) -> MailActions:
    work, clock = parts.work, parts.clock
    letters = WriteLetter(settings.public_url, settings.mails_per_hour, clock)
    return MailActions(
        send_mails=SendMails(work, _mailer(settings, clock), letters, clock),
        mail_limits=MailLimits(work, clock),
        mail_billing_news=MailBillingNews(work, clock),
    )


def _console_actions(parts: _Parts, register: Register) -> ConsoleActions:
    work, clock = parts.work, parts.clock
    return ConsoleActions(
        create_operator=CreateOperator(register),
        disable_account=DisableAccount(work, clock),
        enable_account=EnableAccount(work, clock),
        assign_role=AssignRole(work, clock),
        reset_second_factor=ResetSecondFactor(work, clock),
        note_console_act=NoteConsoleAct(work, clock),
    )


def _audit_actions(parts: _Parts) -> AuditActions:
    work, clock, keys = parts.work, parts.clock, parts.keys
    return AuditActions(
        read_audit=ReadAudit(work),
        link_audit_events=LinkAuditEvents(work, keys),
        verify_audit=VerifyAudit(work, keys),
        watch_audit=WatchAudit(work, clock),
    )


def _service_actions(parts: _Parts, probes: Mapping[str, Probe]) -> ServiceActions:
    work, clock = parts.work, parts.clock
    note_forgotten = NoteForgotten(work)
    return ServiceActions(
        note_voices=NoteVoices(work),
        forget_user=ForgetUser(work, note_forgotten, clock),
        note_forgotten=note_forgotten,
        remind_services=RemindServices(work, clock),
        forget_expired=ForgetExpired(work, clock),
        check_health=CheckHealth(probes, clock),
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


def _mailer(settings: Settings, clock: Clock) -> Mailer | None:
    server = settings.mail_server
    if server is not None:
        return SmtpMailer(server, sender=settings.mail_from, clock=clock)
    if settings.mail_folder is not None:
        return MailFolder(settings.mail_folder, sender=settings.mail_from, clock=clock)
    log.warning("mails_wait", reason="set AUTH_SMTP_URL or AUTH_MAIL_FOLDER")
    return None
