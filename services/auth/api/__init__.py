"""The door for HTTP. `ROUTERS` are reached through the gateway, `INTERNAL_ROUTERS` never."""

from __future__ import annotations

from services.auth.api import accounts, health, passwords, peers, sign_ins, tokens, well_known

ROUTERS = (
    accounts.router,
    tokens.router,
    sign_ins.router,
    passwords.router,
    well_known.router,
    health.router,
)
INTERNAL_ROUTERS = (peers.router,)
