"""A relay that dies as if by `kill -9`: `python -m … POINT DATABASE_URL BROKER_URL`.

POINT: `claimed` (before anything is sent) or `published` (before that is written down).
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any, NoReturn

from shared.db import outbox
from shared.db.engine import sync_engine
from shared.messaging.publisher import Publisher
from shared.messaging.relay import Relay


def _die(*_arguments: Any, **_options: Any) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


class _DyingPublisher(Publisher):
    send = _die


def main(point: str, database_url: str, broker_url: str) -> None:
    """Relay once, up to the point."""
    publisher = Publisher(broker_url)
    if point == "claimed":
        publisher = _DyingPublisher(broker_url)
    else:
        outbox.mark_sent = _die
    Relay("herald", sync_engine(database_url), publisher).run_once()


if __name__ == "__main__":
    main(*sys.argv[1:])
