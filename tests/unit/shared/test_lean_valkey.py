"""What goes through Valkey: whatever kombu writes we read, and it reads what we write."""

from __future__ import annotations

import base64
import fcntl
import json
import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from celery.concurrency import prefork
from hypothesis import given
from hypothesis import strategies as st
from kombu import Connection
from kombu.transport import redis as kombus_transport
from kombu.utils import json as kombus
from kombu.utils.json import loads as kombus_loads

from shared.messaging import batch as batches
from shared.messaging import broker, lean_valkey, pool
from shared.messaging.publisher import _written

redis: Any = kombus_transport  # it has more than its types tell
NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
# Half a character is no text of JSON's, but Python's own reader and writer let it pass.
TEXTS = st.text(st.characters() | st.characters(categories=["Cs"]), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def channel() -> Any:
    """One that is connected to nothing."""
    return object.__new__(lean_valkey.Channel)


@given(VALUES)
def test_both_read_what_the_other_writes(value: Any) -> None:
    assert kombus_loads(redis.dumps(value)) == value
    assert redis.loads(kombus.dumps(value)) == value


@pytest.mark.parametrize(
    "value", [2**70 + 1, [Decimal("1.5")], {"at": datetime(2026, 11, 28, tzinfo=UTC)}]
)
def test_what_only_kombu_can_write_and_read_is_left_to_it(value: Any) -> None:
    assert redis.loads(_text(redis.dumps({"headers": {"x": value}}))) == {"headers": {"x": value}}
    assert redis.loads(kombus.dumps([value])) == [value]


def test_no_number_that_only_python_knows_is_refused() -> None:
    assert math.isnan(redis.loads('{"x": NaN}')["x"])


@given(VALUES, st.dictionaries(TEXTS, VALUES, max_size=3), TEXTS)
def test_what_came_is_noted_as_the_text_that_it_was(
    body: Any, headers: dict[str, Any], place: str
) -> None:
    message = {"body": body, "headers": headers, "properties": {"delivery_tag": "a"}}
    came = redis.loads(kombus.dumps(message))
    noted = _text(redis.dumps([came, place, "usage.recorded.free"]))
    assert kombus_loads(noted) == [message, place, "usage.recorded.free"]
    # To be sent again it is changed, and written with that.
    again = redis.loads(noted)[0]
    again["headers"]["redelivered"] = True
    assert kombus_loads(_text(redis.dumps(again)))["headers"]["redelivered"] is True


@pytest.mark.parametrize("body", [b'{"a": "\\u00e9 \xc3\xa9"}', b"", b"null"])
def test_a_body_of_text_stays_text_and_comes_back_as_it_was(channel: Any, body: bytes) -> None:
    written, encoding = channel.encode_body(body, channel.body_encoding)
    assert (written, encoding) == (body.decode(), None)
    assert channel.decode_body(written, encoding) == body


def test_any_other_body_is_written_as_kombu_does(channel: Any) -> None:
    written, encoding = channel.encode_body(b"\xff\x00", channel.body_encoding)
    assert encoding == "base64"
    assert base64.b64decode(written) == channel.decode_body(written, encoding) == b"\xff\x00"


def test_a_body_of_an_older_version_is_read(channel: Any) -> None:
    assert (
        channel.decode_body(base64.b64encode(b"[[], {}, {}]").decode(), "base64") == b"[[], {}, {}]"
    )


def test_half_a_character_is_handed_on_to_who_refuses_it(channel: Any) -> None:
    wrapper = '{"events": ["\ud800"], "count": 1, "sha256": ""}'
    body = channel.decode_body(f'[[], {{"batch": {wrapper}}}, {{}}]', None)
    with pytest.raises(batches.UnreadableBatch):
        batches.envelopes_of(batches.read_body(body))


def test_every_connection_to_valkey_is_of_this_kind() -> None:
    broker.transport_options("redis://nowhere")
    for scheme in ("redis", "rediss"):
        assert Connection(f"{scheme}://nowhere").get_transport_cls() is lean_valkey.Transport


@given(VALUES)
def test_a_batch_is_written_as_json_whatever_it_holds(value: Any) -> None:
    assert json.loads(_written([value])) == [value]


def test_a_whole_batch_fits_into_a_childs_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefork.TaskPool, "Pool", prefork.TaskPool.Pool)
    pool.widen_pipes()
    of_children: Any = object.__new__(prefork.TaskPool.Pool)
    of_children.synack = False
    given, taken, _ = of_children.create_process_queues()
    try:
        assert fcntl.fcntl(given._writer.fileno(), fcntl.F_GETPIPE_SZ) == 1024 * 1024
    finally:
        given.close()
        taken.close()


def _text(written: bytes | str) -> str:
    return written.decode() if isinstance(written, bytes) else written
