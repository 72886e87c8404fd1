"""Nothing key-shaped leaves a process."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from shared.telemetry.redaction import REDACTED, redact, redact_text

LETTERS = "aB3dE5fG7hJ9kL1mN2pQ4rS6tU8vW0xYzA-_bC"
# Put together here, so that no file of ours holds anything key-shaped.
KEYS = {
    "openai project": "sk-" + "proj-" + LETTERS,
    "openai service account": "sk-" + "svcacct-" + LETTERS,
    "openai admin": "sk-" + "admin-" + LETTERS,
    "openai legacy": "sk-" + "a" * 20 + "T3BlbkFJ" + "b" * 20,
    "anthropic": "sk-" + "ant-api03-" + LETTERS * 2 + "AA",
    "anthropic admin": "sk-" + "ant-admin01-" + LETTERS,
    "anthropic access": "sk-" + "ant-oat01-" + LETTERS,
    "anthropic refresh": "sk-" + "ant-ort01-" + LETTERS,
    "google": "AI" + "za" + LETTERS[:35],
    "google auth": "AQ" + ".Ab" + LETTERS,
    "google oauth": "ya" + "29." + LETTERS,
    "elevenlabs": "sk" + "_" + "0123456789abcdef" * 3,
    "our own": "tt" + "c_" + LETTERS,
    "token": "ey" + "JhbGciOiJFUzI1NiJ9." + LETTERS + "." + LETTERS,
}


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize(
    "around", ["{}", "key {} is bad", "'{}'", '{{"k": "{}"}}', "https://x/?a={}&b=1", "{}.", "({})"]
)
def test_every_known_shape_is_taken_out_of_text(kind: str, around: str) -> None:
    secret = KEYS[kind]
    clean = redact_text(around.format(secret))
    assert secret not in clean
    assert REDACTED in clean
    # Not even most of it is left.
    assert secret[8:20] not in clean


@pytest.mark.parametrize(
    "text",
    [
        "xi-api-key: 0123456789abcdef0123456789abcdef",
        'x-api-key="0123456789abcdef"',
        "{'x-goog-api-key': '0123456789abcdef'}",
        "Authorization: Bearer 0123456789abcdef",
        "authorization: Basic 0123456789abcdef==",
        "authorization=token 0123456789abcdef",
        "https://host/path?key=0123456789abcdef&x=1",
        "https://host/path?x=1&api_key=0123456789abcdef",
        "https://host/path?access_token=0123456789abcdef",
        "password=0123456789abcdef",
        "client_secret: 0123456789abcdef",
    ],
)
def test_what_a_secrets_name_precedes_is_taken_out(text: str) -> None:
    assert "0123456789abcdef" not in redact_text(text)


@pytest.mark.parametrize(
    "text",
    [
        "task-based risk-free asking for a desk",
        "the key of the house",
        "GET /keys/0193b3f2-7c1e-7aaa-8bbb-123456789abc",
        "idempotency_key=order-77",
        "",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    assert redact_text(text) == text


@pytest.mark.parametrize(
    "name",
    [
        "key",
        "api_key",
        "apikey",
        "openai_api_key",
        "X-Api-Key",
        "authorization",
        "password",
        "refresh_token",
        "tokens",
        "secret",
        "set-cookie",
        "credential",
        "Secrets",
    ],
)
def test_a_field_that_names_a_secret_is_emptied_at_any_depth(name: str) -> None:
    assert redact({"a": [{"b": {name: "plain words"}}]}) == {"a": [{"b": {name: REDACTED}}]}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("idempotency_key", "order-77"),
        ("Idempotency-Key", "order-77"),
        ("routing_key", "usage.recorded.free"),
        ("max_tokens", 100),
        ("input_tokens", 5),
        ("key_id", "0193"),
        ("monkey", "banana"),
        ("token", None),
    ],
)
def test_a_harmless_field_is_kept(name: str, value: Any) -> None:
    assert redact({name: value}) == {name: value}


def test_a_secret_in_a_harmless_field_is_taken_out_all_the_same() -> None:
    assert redact({"idempotency_key": KEYS["openai project"]}) == {"idempotency_key": REDACTED}


def test_secrets_hide_in_no_kind_of_value() -> None:
    secret = KEYS["anthropic"]
    hidden = [
        secret.encode(),
        ValueError(f"refused {secret}"),
        (secret,),
        {secret},
        frozenset({secret}),
        {"deep": [{"deeper": ({"note": secret},)}]},
        {secret: 1},
        {("a", secret): 1},
        type("Holder", (), {"__str__": lambda _self: secret})(),
    ]
    for value in hidden:
        assert secret not in str(redact({"value": value}))


def test_values_that_hold_no_secret_keep_their_type() -> None:
    at, id_ = datetime.now(UTC), uuid4()
    value = {"at": at, "id": id_, "n": 5, "f": 1.5, "yes": True, "no": None, "d": at.date()}
    assert redact(value) == value
    assert redact({"took": timedelta(seconds=1)}) == {"took": timedelta(seconds=1)}
    assert "hidden" not in str(redact({"x": SecretStr("hidden")}))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)


@given(value=JSON, secret=st.sampled_from(sorted(KEYS.values())), name=st.text(max_size=10))
def test_no_shape_survives_any_structure(value: Any, secret: str, name: str) -> None:
    clean = redact({"outer": [value, {name: [f" {secret} "]}]})
    assert secret not in json.dumps(clean)
    assert redact(clean) == clean
