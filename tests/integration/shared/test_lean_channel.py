"""kombu's channel on the real Valkey is ours, and what it does in another way is really in use."""

from __future__ import annotations

from typing import Any

from kombu import Connection

from shared.messaging import broker, lean_valkey
from tests.support.engines import ValkeyServer


def test_short_questions_share_a_client_and_messages_come_in_large_reads(
    valkey_server: ValkeyServer,
) -> None:
    assert broker.is_rabbitmq(valkey_server.url) is False  # the module that puts ours in its place
    with Connection(valkey_server.url) as connection:
        channel: Any = connection.default_channel
        assert isinstance(channel, lean_valkey.Channel)
        client = channel._create_client()
        assert client.ping()
        assert channel._create_client() is client
        assert channel.async_pool.connection_kwargs["socket_read_size"] == lean_valkey._READ_BYTES
        assert "socket_read_size" not in channel.pool.connection_kwargs

        channel._disconnect_pools()
        again = channel._create_client()
        assert again is not client
        assert again.ping()
