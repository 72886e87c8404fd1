"""Failures of the OAuth authorization server and of its clients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from shared.errors import Forbidden, Invalid, NotFound


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
