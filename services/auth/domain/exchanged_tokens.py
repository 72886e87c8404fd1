"""Access tokens that stand for personal tokens, given again while they are good."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import field
from datetime import datetime, timedelta

from services.auth.domain.personal_token import EXCHANGED_LIFETIME, PersonalTokenId
from services.auth.domain.user import User
from shared.values import dataclass

_LEFT_AT_LEAST = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Basis:
    """All that went into an access token. Of another basis it would say something else."""

    owner: User
    scopes: frozenset[str]
    key_id: str


@dataclass(frozen=True, slots=True)
class ExchangedToken:
    """An access token and until when it is good."""

    basis: Basis
    access_token: str = field(repr=False)
    expires_at: datetime


class ExchangedTokens:
    """The latest access token for each personal token of late, in this process.

    It spares a signature for each request, and the services a verification: they remember tokens
    that they have seen. It grants nothing: whoever asks has looked up that the personal token is
    still good.
    """

    def __init__(self, most: int = 10_000) -> None:
        self._most = most
        self._kept: OrderedDict[PersonalTokenId, ExchangedToken] = OrderedDict()

    def token_for(
        self,
        token_id: PersonalTokenId,
        basis: Basis,
        at: datetime,
        sign: Callable[[], ExchangedToken],
    ) -> str:
        """The known one, or a new one once it is about to expire or its basis has changed; and
        where the clock was set back since, by which it is not good yet."""
        known = self._kept.get(token_id)
        left = known.expires_at - at if known is not None else timedelta()
        if (
            known is None
            or known.basis != basis
            or not _LEFT_AT_LEAST <= left <= EXCHANGED_LIFETIME
        ):
            known = self._kept[token_id] = sign()
        self._kept.move_to_end(token_id)
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return known.access_token
