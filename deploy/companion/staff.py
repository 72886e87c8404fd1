"""What is done on accounts from the console, in auth's database directly."""

from __future__ import annotations

from deploy.companion.console_settings import settings_of
from deploy.companion.errors import CompanionError
from services.auth.domain.password import Password
from services.auth.domain.user import Role
from services.auth.settings import Settings
from services.auth.wiring import wire

_ROLES = {"operator": Role.OPERATOR, "billing": Role.BILLING}


async def create_account(email: str, username: str, password: str, role: str) -> None:
    """Open an account with a role.

    Raises CompanionError for an unknown role, ExpectedFailure for what auth does not accept.
    """
    if role not in _ROLES:
        raise CompanionError(f"There is no role {role}.", f"There are: {', '.join(_ROLES)}.")
    async with wire(auth_settings()) as wired:
        await wired.actions.create_operator(
            email=email, username=username, password=Password(password), role=_ROLES[role]
        )


async def disable_account(login: str) -> None:
    """Let nobody in with this account. Raises ExpectedFailure."""
    async with wire(auth_settings()) as wired:
        await wired.actions.disable_account(login)


async def enable_account(login: str) -> None:
    """Let its owner in again. Raises ExpectedFailure."""
    async with wire(auth_settings()) as wired:
        await wired.actions.enable_account(login)


async def assign_role(login: str, role: str) -> None:
    """Make somebody what they are to this installation from now on.

    Raises CompanionError for an unknown role, or ExpectedFailure.
    """
    if role not in list(Role):
        raise CompanionError(f"There is no role {role}.", f"There are: {', '.join(Role)}.")
    async with wire(auth_settings()) as wired:
        await wired.actions.assign_role(login, Role(role))


async def reset_second_factor(login: str) -> None:
    """Let somebody in by their password alone again. Raises ExpectedFailure."""
    async with wire(auth_settings()) as wired:
        await wired.actions.reset_second_factor(login)


def auth_settings() -> Settings:
    """auth's settings, wherever this console runs."""
    return settings_of("auth", Settings, known_by={"AUTH_SIGNING_KEYS_FILE"})
