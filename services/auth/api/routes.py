"""The door for HTTP. `ROUTERS` are reached through the gateway, `INTERNAL_ROUTERS` never."""

from __future__ import annotations

from services.auth.api import (
    account_export,
    accounts,
    audit,
    authorize,
    emails,
    erasures,
    health,
    invitation_page,
    invitations,
    mail_pages,
    mfa,
    oauth_tokens,
    organisations,
    passwords,
    peers,
    personal_tokens,
    register_page,
    sign_ins,
    token_exchange,
    tokens,
    well_known,
)

ROUTERS = (
    accounts.router,
    account_export.router,
    erasures.router,
    audit.router,
    tokens.router,
    authorize.router,
    oauth_tokens.router,
    register_page.router,
    mail_pages.router,
    invitation_page.router,
    mfa.router,
    sign_ins.router,
    personal_tokens.router,
    organisations.router,
    invitations.router,
    passwords.router,
    emails.router,
    well_known.router,
    health.router,
)
INTERNAL_ROUTERS = (peers.router, token_exchange.router)
