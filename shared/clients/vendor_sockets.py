"""Opening a socket to a vendor through the egress."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus
from websockets.http11 import Response

from shared.clients.egress_refusals import DETAIL_HEADER, FROM_VENDOR, refuse
from shared.clients.vendor_calls import VendorConnectionLost
from shared.errors import DependencyUnavailable
from shared.revocation import KEY_HEADER

_LARGEST_MESSAGE = 4 << 20
_MOST_MESSAGES_WAITING = 4  # a vendor that speaks faster than it is heard waits
_CLOSE_SECONDS = 0.05  # who is interrupted need not agree, and the next utterance waits for it


class VendorSocketRefused(Exception):
    """The vendor did not open a socket, and says why as it does to any request."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        super().__init__(f"status {status}")
        self.status = status
        self.headers = headers
        self.body = body


class _Connection(ClientConnection):
    """Hangs up as soon as both sides have said goodbye. A server does that by rights, but between
    it and us is a proxy that passes it on late, and whoever closes or reads would wait."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.protocol.close_rcvd is not None and self.protocol.close_sent is not None:
            self.transport.close()


class _Opening(connect):
    """A vendor's redirect is a refusal: what we show the egress is for nobody else."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


async def open_socket(
    url: str, headers: Mapping[str, str], *, within: timedelta
) -> ClientConnection:
    """An open socket. Raises VendorSocketRefused, and what `Egress.socket` does."""
    opening = _Opening(
        url,
        additional_headers=headers,
        user_agent_header=None,
        proxy=None,
        compression=None,
        max_size=_LARGEST_MESSAGE,
        max_queue=_MOST_MESSAGES_WAITING,
        # An answer to a ping may wait behind audio that nobody reads yet.
        ping_interval=None,
        open_timeout=within.total_seconds(),
        close_timeout=_CLOSE_SECONDS,
        create_connection=_Connection,
    )
    try:
        return await opening
    except InvalidStatus as refused:
        response = refused.response
        told, body = headers_of(response), bytes(response.body)
        if told.get(DETAIL_HEADER) != FROM_VENDOR:
            await refuse(response.status_code, told, _Read(body))
        raise VendorSocketRefused(response.status_code, told, body) from refused
    except TimeoutError as error:
        raise VendorConnectionLost("no socket in time", sent=False) from error
    except ConnectionRefusedError as error:
        raise DependencyUnavailable("egress") from error
    except (InvalidHandshake, OSError, EOFError) as error:
        raise VendorConnectionLost(type(error).__name__, sent=False) from error


def key_of(connection: ClientConnection) -> str:
    """Which key it runs on, as keyvault tells it; empty where it does not."""
    return "" if connection.response is None else connection.response.headers.get(KEY_HEADER, "")


def headers_of(response: Response) -> Mapping[str, str]:
    """A socket's, by name in small letters; repeated ones are joined by commas."""
    joined: dict[str, str] = {}
    for name, value in response.headers.raw_items():
        before = joined.get(name.lower())
        joined[name.lower()] = value if before is None else f"{before}, {value}"
    return joined


class _Read:
    """A body that is here already."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def read(self) -> bytes:
        return self._body
