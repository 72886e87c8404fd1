"""Clients of Valkey, and what they may raise."""

from __future__ import annotations

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

# uvloop raises RuntimeError for a write to a connection that is closed already.
FAILURES = (RedisError, OSError, TimeoutError, RuntimeError)
"""What a Valkey that is away, or that goes away, shows itself by."""

TIMEOUT_SECONDS = 0.1
_CONNECTIONS = 32


def open_cache(url: str) -> Redis:
    """A Valkey client with hard timeouts and no retries of its own: one owner retries, not two."""
    pool = BlockingConnectionPool.from_url(
        url,
        socket_timeout=TIMEOUT_SECONDS,
        socket_connect_timeout=TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
        # A new connection is at work ten times sooner without the talk of a RESP3 handshake.
        protocol=2,
        driver_info=None,
        # A burst waits for its turn; with the plain pool it would fail as if Valkey were gone.
        max_connections=_CONNECTIONS,
        timeout=0.3,
        decode_responses=False,
    )
    return Redis.from_pool(pool)


def open_listener(url: str) -> Redis:
    """A Valkey client for a subscription: no time limit on silence, but one that notices death."""
    return Redis.from_url(
        url,
        socket_timeout=None,
        socket_connect_timeout=1,
        socket_keepalive=True,
        health_check_interval=15,
    )
