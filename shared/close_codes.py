"""Why a WebSocket is closed: a promise to clients, the same at every socket of the suite."""

from __future__ import annotations

from enum import IntEnum


class CloseCode(IntEnum):
    """Those of RFC 6455, and ours from 4400 on, by the HTTP status that they are like."""

    POLICY = 1008  # ten messages in a row were none
    TOO_BIG = 1009
    FAILED = 1011
    RECONNECT = 1012  # this replica goes away; others are there
    TOO_SLOW = 1013
    UNAUTHENTICATED = 4401  # no token, an expired one, or its session has ended
    FORBIDDEN = 4403  # the token is not good for this service
    IDLE = 4408
    TOO_MANY = 4429
