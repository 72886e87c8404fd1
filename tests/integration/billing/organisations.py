"""What auth tells billing about the members of organisations."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from shared.identity import Peers

Place = tuple[UUID, UUID]  # an organisation and a user


@dataclass
class StandInAuth:
    """What auth's internal port says about members."""

    peers: Peers
    members: dict[Place, str] = field(default_factory=dict)
    failing: int | None = None

    async def __call__(self, scope: Any, _receive: Any, send: Any) -> None:
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        caller = self.peers.service_of(headers["authorization"].removeprefix("Bearer "))
        assert caller == "billing"
        _, _, _, organisation, _, user = scope["path"].split("/")
        role = self.members.get((UUID(organisation), UUID(user)))
        status: int = 404
        body: dict[str, Any] = {"code": "member_not_found"}
        if self.failing is not None:
            status, body = self.failing, {"code": "route_not_found"}
        elif role is not None:
            may_manage = role in ("owner", "admin")
            status, body = 200, {"role": role, "may_buy": role != "member"}
            body["may_manage_keys"] = may_manage
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(body).encode()})
