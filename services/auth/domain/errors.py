"""The failures that auth expects."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import ClassVar
from uuid import UUID

from shared.errors import (
    Conflict,
    Forbidden,
    Invalid,
    LimitReached,
    NotFound,
    Unauthenticated,
    Unavailable,
)


class InvalidEmail(Invalid):
    """The text is no e-mail address."""

    code = "invalid_email"

    def __init__(self) -> None:
        super().__init__("This is no e-mail address.", field="email")


class InvalidUsername(Invalid):
    """The text breaks the rules for usernames, all of which the message tells."""

    code = "invalid_username"

    def __init__(self) -> None:
        super().__init__(
            "A username has 1 to 80 printable characters, no @, and no space at its ends.",
            field="username",
        )


class PasswordRefused(Invalid):
    """The password is too easily guessed; `reason` is a stable word, `message` a sentence."""

    code = "password_refused"

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message, reason=reason)


class ProofRefused(Invalid):
    """The token of a mail is none of ours, or was used, replaced by a newer one or too late."""

    code = "proof_refused"

    def __init__(self) -> None:
        super().__init__("This link is not good any more. Ask for a new mail.")


class AddressTaken(Conflict):
    """Another account has proven this address. Told only to who can read its mail."""

    code = "address_taken"

    def __init__(self) -> None:
        super().__init__("Another account has this e-mail address.")


class UsernameTaken(Conflict):
    """Somebody else has this username. No secret: a username is what others see of a user."""

    code = "username_taken"

    def __init__(self) -> None:
        super().__init__("This username is taken.")


class WrongCredentials(Unauthenticated):
    """Unknown user, wrong password, or an address that is not confirmed where that is needed: the
    same answer for all, so that accounts can't be probed."""

    code = "wrong_credentials"

    def __init__(self) -> None:
        super().__init__(
            "The login or the password is wrong, or the e-mail address is not confirmed yet."
        )


class WrongPassword(Forbidden):
    """A signed-in user gave a wrong current password. No 401: their sign-in is still good."""

    code = "wrong_password"

    def __init__(self) -> None:
        super().__init__("The current password is wrong.")


class TooManyAttempts(LimitReached):
    """Too many wrong guesses; for as long as it says, even a right one is not looked at."""

    code = "too_many_attempts"

    def __init__(self, retry_after: timedelta) -> None:
        super().__init__("Too many wrong attempts. Try again later.", retry_after=retry_after)


class UnknownClientAddress(Invalid):
    """From whom a sign-in comes can't be told, so that its failures would count for nobody."""

    code = "unknown_client_address"

    def __init__(self) -> None:
        super().__init__("The address that this request comes from can't be determined.")


class OtpRequired(Forbidden):
    """The password is right, and the account has a second factor. Told only to who knows the
    password, and only while they don't have to wait for having guessed."""

    code = "otp_required"

    def __init__(self) -> None:
        super().__init__("Send a code of your authenticator, or a recovery code, as `otp`.")


class OtpRefused(Unauthenticated):
    """The password is right, the code is not: mistyped, too old, or used before."""

    code = "otp_refused"

    def __init__(self) -> None:
        super().__init__("The code is wrong, too old, or was used before.")


class WrongOtp(Forbidden):
    """A signed-in user gave a wrong code. No 401: their sign-in is still good."""

    code = "wrong_otp"

    def __init__(self) -> None:
        super().__init__("The code is wrong, too old, or was used before.")


class TotpActive(Conflict):
    """There is an authenticator already; remove it before setting up another."""

    code = "totp_active"

    def __init__(self) -> None:
        super().__init__("An authenticator is active already. Remove it first.")


class TotpNotBegun(Conflict):
    """There is no authenticator to be confirmed, or it was begun too long ago."""

    code = "totp_not_begun"

    def __init__(self) -> None:
        super().__init__("Begin with POST /auth/mfa/totp, then confirm within 15 minutes.")


class TotpNotActive(Conflict):
    """The account has no second factor."""

    code = "totp_not_active"

    def __init__(self) -> None:
        super().__init__("No authenticator is active.")


class SecondFactorUnreadable(Unavailable):
    """The sealing key of an authenticator's secret is gone; an operator has to restore it."""

    code = "second_factor_unreadable"

    def __init__(self) -> None:
        super().__init__(
            "Codes can't be checked at the moment; a recovery code works.",
            retry_after=timedelta(seconds=30),
        )


class AccountInactive(Forbidden):
    """The account was switched off. Told only to those who know its password."""

    code = "account_inactive"

    def __init__(self) -> None:
        super().__init__("This account is not active.")


class AccountGone(Unauthenticated):
    """The access token is genuine, but its user does not exist any more."""

    code = "account_gone"

    def __init__(self) -> None:
        super().__init__("This account does not exist any more.")


class RefreshRefused(Unauthenticated):
    """The refresh token is none of ours, or its sign-in has ended or expired."""

    code = "refresh_refused"

    def __init__(self) -> None:
        super().__init__("The refresh token is not valid. Sign in again.")


class RefreshReused(Unauthenticated):
    """A refresh token came a second time: one of two holders is a thief, so the sign-in ends."""

    code = "refresh_reused"

    def __init__(self) -> None:
        super().__init__(
            "The refresh token was used before. This sign-in has ended; sign in again."
        )


class SignInNotFound(NotFound):
    """Also raised for another user's sign-in, so that ids can't be probed."""

    code = "sign_in_not_found"

    def __init__(self, sign_in_id: UUID) -> None:
        super().__init__("No such sign-in.", sign_in_id=str(sign_in_id))


class UserNotFound(NotFound):
    """Another service asked about a user that does not exist."""

    code = "user_not_found"

    def __init__(self, user_id: UUID) -> None:
        super().__init__("No such user.", user_id=str(user_id))


class PersonalTokenRefused(Unauthenticated):
    """Unknown, mistyped, expired or revoked, or its owner is locked out: one answer for all."""

    code = "personal_token_refused"

    def __init__(self) -> None:
        super().__init__("The personal access token is not valid.")


class PersonalTokenNotFound(NotFound):
    """Also raised for another user's token, so that ids can't be probed."""

    code = "personal_token_not_found"

    def __init__(self, token_id: UUID) -> None:
        super().__init__("No such personal access token.", token_id=str(token_id))


class TooManyPersonalTokens(Conflict):
    """A user has so many live tokens that nobody can know what each is for."""

    code = "too_many_personal_tokens"

    def __init__(self, most: int) -> None:
        super().__init__(f"You have {most} personal access tokens; revoke one first.", most=most)


class InvalidTokenName(Invalid):
    """The name would not tell its owner what the token is for."""

    code = "invalid_token_name"

    def __init__(self) -> None:
        super().__init__("A token's name has 1 to 100 printable characters.", field="name")


class InvalidTokenLifetime(Invalid):
    """A token that is good for nothing, or for too long."""

    code = "invalid_token_lifetime"

    def __init__(self) -> None:
        super().__init__(
            "A personal access token is good for 1 to 365 days.", field="expires_in_days"
        )


class ScopeNotGrantable(Invalid):
    """A personal token may never be used for this, or not by this user."""

    code = "scope_not_grantable"

    def __init__(self, grantable: Sequence[str]) -> None:
        super().__init__(
            "A personal access token has at least one scope, and only these: "
            f"{', '.join(grantable)}.",
            field="scopes",
            grantable=list(grantable),
        )


class NoSuchAccount(NotFound):
    """Nobody has this login. Told on the console alone."""

    code = "no_such_account"

    def __init__(self) -> None:
        super().__init__("There is no account with this address or username.")


class SigningKeysUnavailable(Unavailable):
    """The file of signing keys is missing or unusable; an operator has to restore it."""

    code = "signing_keys_unavailable"

    def __init__(self) -> None:
        super().__init__(
            "Nobody can sign in at the moment: the signing keys are not available.",
            retry_after=timedelta(seconds=30),
        )


class PasswordsBusy(Unavailable):
    """So many passwords wait to be checked that one more would wait too long."""

    code = "passwords_busy"

    def __init__(self) -> None:
        super().__init__("Too many sign-ins at once. Try again in a moment.")


class InvalidOrganisationName(Invalid):
    """The text breaks the rules for names of organisations, all of which the message tells."""

    code = "invalid_organisation_name"

    def __init__(self) -> None:
        super().__init__(
            "A name has 1 to 100 printable characters and no space at its ends.", field="name"
        )


class OrganisationNotFound(NotFound):
    """Also raised for one that the caller does not belong to, so that ids can't be probed."""

    code = "organisation_not_found"

    def __init__(self, organisation_id: UUID) -> None:
        super().__init__("No such organisation.", organisation_id=str(organisation_id))


class MemberNotFound(NotFound):
    """The user does not belong to this organisation, or does not exist at all."""

    code = "member_not_found"

    def __init__(self, user_id: UUID) -> None:
        super().__init__("No such member.", user_id=str(user_id))


class InvitationNotFound(NotFound):
    """Never sent, accepted, withdrawn, replaced or expired: all the same to who holds it."""

    code = "invitation_not_found"

    def __init__(self) -> None:
        super().__init__("There is no such invitation, or it is not good any more.")


class OrganisationRoleRequired(Forbidden):
    """The caller belongs to the organisation, but their role there is too small for this."""

    code = "organisation_role_required"

    def __init__(self, act: str, roles: Sequence[str]) -> None:
        super().__init__(f"Your role in the organisation may not {act}.", roles=list(roles))


class InAnOrganisation(Conflict):
    """A user belongs to one organisation at a time."""

    code = "in_an_organisation"

    def __init__(self) -> None:
        super().__init__("You belong to an organisation already. Leave it first.")


class LastOwner(Conflict):
    """An organisation is never without an owner."""

    code = "last_owner"

    def __init__(self) -> None:
        super().__init__(
            "An organisation needs an owner: make somebody else one first, or delete it."
        )


class NoSeatLeft(Conflict):
    """Every seat that was paid for is taken."""

    code = "no_seat_left"

    def __init__(self, seats: int) -> None:
        super().__init__("The organisation has no free seat.", seats=seats)


class AlreadyAMember(Conflict):
    """Who is invited belongs to the organisation already."""

    code = "already_a_member"

    def __init__(self) -> None:
        super().__init__("This address belongs to a member.")


class TooManyInvitations(Conflict):
    """So many invitations are open that somebody should look at them first."""

    code = "too_many_open_invitations"

    def __init__(self, most: int) -> None:
        super().__init__(f"An organisation has at most {most} open invitations.", most=most)


class InvitedTooOften(LimitReached):
    """The address has had several mails from this organisation lately."""

    code = "invited_too_often"

    def __init__(self, retry_after: timedelta) -> None:
        super().__init__("This address was invited several times today.", retry_after=retry_after)


class InvitationForAnotherAddress(Forbidden):
    """Whoever shows the invitation has another address than the one it was sent to."""

    code = "invitation_for_another_address"

    def __init__(self) -> None:
        super().__init__("This invitation was sent to another e-mail address.")


class EmailNotVerified(Forbidden):
    """What is asked for belongs to whoever reads this address's mail; that is not proven yet."""

    code = "email_not_verified"

    def __init__(self) -> None:
        super().__init__("Confirm your e-mail address first.")


class OAuthRefused(Invalid):
    """A client's request is refused; `error` is the protocol's word for it (RFC 6749)."""

    code = "oauth_refused"
    error: ClassVar[str] = "invalid_request"


class InvalidOAuthRequest(OAuthRefused):
    """A parameter is missing, repeated or malformed."""

    code = "invalid_oauth_request"


class UnknownClient(OAuthRefused):
    """No such client, or it was disabled."""

    code = "unknown_client"
    error = "invalid_client"

    def __init__(self) -> None:
        super().__init__("This client is not registered here.")


class RedirectNotRegistered(OAuthRefused):
    """An answer must never go to an address that the client has not registered."""

    code = "redirect_not_registered"

    def __init__(self) -> None:
        super().__init__("The client has not registered this redirect_uri.")


class AccessDenied(OAuthRefused):
    """Somebody was asked to sign in for a client and did not want to."""

    code = "access_denied"
    error = "access_denied"

    def __init__(self) -> None:
        super().__init__("The sign-in was cancelled.")


class UnsupportedResponseType(OAuthRefused):
    """There is the code flow and nothing else."""

    code = "unsupported_response_type"
    error = "unsupported_response_type"

    def __init__(self) -> None:
        super().__init__("response_type must be code.")


class UnsupportedGrantType(OAuthRefused):
    """There are codes and refresh tokens; a client never gets to see a password."""

    code = "unsupported_grant_type"
    error = "unsupported_grant_type"

    def __init__(self) -> None:
        super().__init__("grant_type must be authorization_code or refresh_token.")


class UnknownScope(OAuthRefused):
    """The client asks for something that there is not."""

    code = "unknown_scope"
    error = "invalid_scope"

    def __init__(self, known: Sequence[str]) -> None:
        super().__init__(f"There are these scopes: {' '.join(known)}.")


class CodeRefused(OAuthRefused):
    """Unknown, expired or used, or shown with something else than what it was given for: which of
    these it is helps only whoever found a code."""

    code = "code_refused"
    error = "invalid_grant"

    def __init__(self) -> None:
        super().__init__("The code is not valid. Begin again at the authorization endpoint.")


class FirstStepOver(Invalid):
    """The second step of a sign-in came too late, or from another browser."""

    code = "first_step_over"

    def __init__(self) -> None:
        super().__init__("That took too long. Sign in again.")


class FormExpired(Forbidden):
    """A form was sent from elsewhere than from our page in this browser (cross-site request)."""

    code = "form_expired"

    def __init__(self) -> None:
        super().__init__("This page was open for too long. Please try again.")


class InvalidClientName(Invalid):
    """The name of a client is shown to people who are about to type their password."""

    code = "invalid_client_name"

    def __init__(self) -> None:
        super().__init__("A client's name has 1 to 100 printable characters.", field="name")


class InvalidRedirectUri(Invalid):
    """The address can't be registered; the message says why."""

    code = "invalid_redirect_uri"

    def __init__(self, reason: str) -> None:
        super().__init__(reason, field="redirect_uri")


class ClientNotFound(NotFound):
    """An operator named a client that is not registered."""

    code = "client_not_found"

    def __init__(self) -> None:
        super().__init__("No such client.")


class AccountBusy(Conflict):
    """The account changed in the same moment in which it was to be deleted."""

    code = "account_busy"

    def __init__(self) -> None:
        super().__init__("Something about this account changed at the same moment. Try again.")


class ErasureNotFound(NotFound):
    """No account was deleted under this receipt."""

    code = "erasure_not_found"

    def __init__(self) -> None:
        super().__init__("No account was deleted with this receipt.")


class ExportUnavailable(Unavailable):
    """A service can't tell what it keeps about the user; an export is whole or not at all."""

    code = "export_unavailable"

    def __init__(self, service: str) -> None:
        super().__init__(
            f"The export can't be made at the moment: {service} does not answer.",
            retry_after=timedelta(seconds=30),
            service=service,
        )
