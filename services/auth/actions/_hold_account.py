"""Find the account that somebody at the console means."""

from __future__ import annotations

from services.auth.domain.errors import AddressClaimed, NoSuchAccount
from services.auth.domain.ports import UnitOfWork
from services.auth.domain.user import LoginName, User

_MOST_NAMED = 10


async def hold_account(work: UnitOfWork, login: str) -> User:
    """The account with this address or username, held.

    Raises NoSuchAccount; AddressClaimed where an address that nobody has proven leads to several,
    of whom only a person can know the one that is meant.
    """
    name = LoginName.parse(login)
    found = await work.users.named(name)
    user = await work.users.hold(found.id) if found else None
    if user is None:
        raise NoSuchAccount
    if name.email is not None and not user.email_verified:
        claims = await work.users.claiming(name.email, most=_MOST_NAMED)
        if len(claims) > 1:
            raise AddressClaimed([claim.username.text for claim in claims])
    return user
