"""From where a request comes."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from services.auth.domain.origin import Origin

# Set by the gateway, which strips it from what clients send (and everything else that names them).
_CLIENT_ADDRESS = "x-envoy-external-address"


async def _from_where(request: Request) -> Origin:
    peer = request.client.host if request.client else ""
    told = request.headers.getlist(_CLIENT_ADDRESS) or [peer]
    # Two are not what our gateway says, so neither is believed.
    return Origin.of(request.headers.get("user-agent", ""), told[0] if len(told) == 1 else "")


FromWhere = Annotated[Origin, Depends(_from_where)]
