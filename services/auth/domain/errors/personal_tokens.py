"""Failures about personal access tokens."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from shared.errors import Conflict, Forbidden, Invalid, NotFound, Unauthenticated


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


class ScopeNotHeld(Forbidden):
    """The sign-in may not do this itself, so it can't let a tool do it."""

    code = "scope_not_held"

    def __init__(self, lacking: Sequence[str]) -> None:
        super().__init__(
            "A personal access token may do no more than the sign-in in which it is made, which "
            f"lacks {', '.join(lacking)}.",
            field="scopes",
            lacking=list(lacking),
        )
