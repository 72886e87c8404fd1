"""SQLAlchemy's synchronous engine, apart so that web processes need not import it."""

from __future__ import annotations

from typing import Any

import orjson
from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import make_url

# A server that is gone without a word, with its machine or behind a cable, is found out within half
# a minute. The system's own limits are two hours for who waits, and a quarter for who sends.
KEEP_ALIVE: dict[str, Any] = {
    "keepalives_idle": 10,  # seconds
    "keepalives_interval": 5,  # seconds
    "keepalives_count": 2,
    "tcp_user_timeout": 20_000,  # milliseconds
}


def sync_engine(
    database_url: str,
    *,
    connections: int = 1,
    ask_first: bool = True,
    single_statements: bool = False,
) -> Engine:
    """A psycopg2 engine for what is not on a request's path: migrations, the relay, tools.

    `ask_first` finds a connection that has died before it is used, for a round trip each time.
    `single_statements`: each is a transaction of its own, which spares two.
    """
    url = make_url(database_url).set(drivername="postgresql+psycopg2")
    return create_engine(
        url,
        pool_size=connections,
        max_overflow=0,
        pool_pre_ping=ask_first,
        **({"isolation_level": "AUTOCOMMIT"} if single_statements else {}),
        json_deserializer=orjson.loads,
        connect_args={"connect_timeout": 3, "options": "-c timezone=UTC", **KEEP_ALIVE},
    )
