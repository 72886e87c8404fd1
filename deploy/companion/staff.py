"""What is done on accounts from the console, in auth's database directly."""

from __future__ import annotations

import os

from deploy.companion.errors import CompanionError
from deploy.companion.installation import Installation
from deploy.companion.service_settings import read_settings
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


async def reset_second_factor(login: str) -> None:
    """Let somebody in by their password alone again. Raises ExpectedFailure."""
    async with wire(auth_settings()) as wired:
        await wired.actions.reset_second_factor(login)


def auth_settings() -> Settings:
    """auth's settings, wherever this console runs."""
    # Inside auth's own container the environment says it all; beside `make run` we work it out.
    if "AUTH_SIGNING_KEYS_FILE" in os.environ:
        return read_settings(Settings)
    installation = Installation.open()
    before = dict(os.environ)
    os.environ.update(installation.environment(installation.role("auth")))
    try:
        return read_settings(Settings)
    finally:
        # What is auth's own is not for whatever else this process does.
        os.environ.clear()
        os.environ.update(before)
