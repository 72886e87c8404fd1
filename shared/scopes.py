"""What a token may be used for. Each service's routes need one of these; a token lists its own."""

from __future__ import annotations

ACCOUNT = "account"
KEYS = "keys"
CHAT = "chat"
VOICE = "voice"
BILLING = "billing"
BILLING_READ = "billing:read"
USAGE_WRITE = "usage:write"

# Roles whose holders report usage on behalf of services outside the suite.
_STAFF = frozenset({"operator", "billing"})

SIGN_IN_SCOPES = frozenset({ACCOUNT, KEYS, CHAT, VOICE, BILLING, BILLING_READ})
PERSONAL_TOKEN_SCOPES = frozenset({CHAT, VOICE, BILLING_READ})
"""What anybody may give to a personal token: never the account, the keys or administration."""


def of_sign_in(role: str) -> frozenset[str]:
    """What a person of this role may do while signed in."""
    return SIGN_IN_SCOPES | ({USAGE_WRITE} if role in _STAFF else frozenset())


def grantable(role: str) -> frozenset[str]:
    """What a person of this role may give to a personal token."""
    return PERSONAL_TOKEN_SCOPES | ({USAGE_WRITE} if role in _STAFF else frozenset())
