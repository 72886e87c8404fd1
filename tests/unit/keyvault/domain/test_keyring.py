"""Which keyrings are taken, and which are refused without being quoted."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

import pytest

from services.keyvault.domain.keyring import (
    KeyringRefused,
    KeyState,
    is_example,
    new_keyring_document,
    read_keyring,
)
from tests.support.keyvault import a_document, encoded, example_key


def an_entry(version: int, state: str = "retired", key: bytes | None = None) -> dict[str, Any]:
    return {
        "version": version,
        "key": encoded(key or secrets.token_bytes(32)),
        "state": state,
    }


def test_a_new_keyring_is_one_that_we_take() -> None:
    keyring = read_keyring(new_keyring_document())

    assert keyring.active == 1
    assert keyring.states == {1: KeyState.ACTIVE}
    assert len(keyring.keys[1]) == 32


def test_every_new_keyring_is_another_one() -> None:
    one, other = read_keyring(new_keyring_document()), read_keyring(new_keyring_document())

    assert one.environment != other.environment
    assert one.keys[1] != other.keys[1]
    assert one.keys[1] != one.fingerprint_keys[1]


def test_the_order_of_the_entries_means_nothing() -> None:
    entries = [an_entry(1), an_entry(2, "active"), an_entry(3, "standby")]
    document = new_keyring_document()

    straight = read_keyring(a_document(document, active=2, keys=entries))
    reversed_ = read_keyring(a_document(document, active=2, keys=entries[::-1]))

    assert straight == reversed_


def test_a_keyring_hides_its_keys_in_every_text_form() -> None:
    document = new_keyring_document()
    keyring = read_keyring(document)

    for text in (repr(keyring), str(keyring), f"{keyring}"):
        assert document["keys"][0]["key"] not in text
        assert repr(keyring.keys[1]) not in text
        assert keyring.keys[1].hex() not in text


@pytest.mark.parametrize(
    "key",
    [
        bytes(32),
        b"\xff" * 32,
        bytes(range(32)),
        bytes(range(1, 33)),
        bytes(range(255, 223, -1)),
        bytes(range(0, 64, 2)),
        b"\x01\x02\x03\x04" * 8,
        hashlib.sha256(b"half").digest()[:16] * 2,
        b"changeme-changeme-changeme-12345",
        b"0123456789abcdef0123456789abcdeF",
        hashlib.sha256(b"").digest(),
        bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4"),
    ],
    ids=lambda key: key.hex()[:8],
)
def test_a_key_that_everybody_knows_is_refused(key: bytes) -> None:
    document = a_document(new_keyring_document(), keys=[an_entry(1, "active", key)])
    with pytest.raises(KeyringRefused, match="key_is_an_example"):
        read_keyring(document)


def test_random_keys_are_never_taken_for_examples() -> None:
    assert not any(is_example(secrets.token_bytes(32)) for _ in range(2000))


@pytest.mark.parametrize("length", [0, 16, 31, 33, 64])
def test_a_key_has_32_bytes(length: int) -> None:
    entry = {"version": 1, "key": encoded(secrets.token_bytes(length)), "state": "active"}
    with pytest.raises(KeyringRefused, match="key_of_wrong_length"):
        read_keyring(a_document(new_keyring_document(), keys=[entry]))


def test_a_fingerprint_key_is_held_to_the_same_rules() -> None:
    for key in (bytes(32), secrets.token_bytes(31)):
        entry = {"version": 1, "key": encoded(key)}
        with pytest.raises(KeyringRefused, match=r"key_"):
            read_keyring(a_document(new_keyring_document(), fingerprint_keys=[entry]))


def test_one_key_serves_one_purpose() -> None:
    key = secrets.token_bytes(32)
    for parts in (
        {"keys": [an_entry(1, "active", key), an_entry(2, "retired", key)]},
        {
            "keys": [an_entry(1, "active", key)],
            "fingerprint_keys": [{"version": 1, "key": encoded(key)}],
        },
    ):
        with pytest.raises(KeyringRefused, match="key_used_twice"):
            read_keyring(a_document(new_keyring_document(), **parts))


@pytest.mark.parametrize(
    "parts",
    [
        {"active": 2},
        {"keys": []},
        {"keys": [an_entry(1, "retired")]},
        {"fingerprint_keys": []},
    ],
    ids=["another", "none", "retired", "no fingerprint"],
)
def test_a_keyring_without_an_active_key_is_refused(parts: dict[str, Any]) -> None:
    with pytest.raises(KeyringRefused, match="keyring_without_active_key"):
        read_keyring(a_document(new_keyring_document(), **parts))


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        "keyring",
        {},
        {"environment": "x", "active": 1, "keys": [None], "fingerprint_keys": []},
        a_document(new_keyring_document(), environment=""),
        a_document(new_keyring_document(), environment="a\ud800"),
        a_document(new_keyring_document(), environment=7),
        a_document(new_keyring_document(), active=[1]),
        a_document(new_keyring_document(), active=True),
        a_document(new_keyring_document(), active="1"),
        a_document(new_keyring_document(), keys={"1": "x"}),
        a_document(new_keyring_document(), keys=[an_entry(0, "active")]),
        a_document(new_keyring_document(), keys=[an_entry(2**31, "active")]),
        a_document(new_keyring_document(), keys=[an_entry(1, "active"), an_entry(1)]),
        a_document(new_keyring_document(), keys=[an_entry(1, "active"), an_entry(2, "active")]),
        a_document(new_keyring_document(), keys=[an_entry(1, "lost")]),
        a_document(new_keyring_document(), keys=[{**an_entry(True, "active")}]),
        a_document(new_keyring_document(), keys=[{**an_entry(1, "active"), "key": 5}]),
        a_document(new_keyring_document(), keys=[{**an_entry(1, "active"), "key": "no base64!"}]),
    ],
)
def test_a_malformed_keyring_is_refused(document: Any) -> None:
    with pytest.raises(KeyringRefused, match="keyring_malformed"):
        read_keyring(document)


def test_a_refusal_quotes_nothing() -> None:
    document = a_document(new_keyring_document(), active=9)
    with pytest.raises(KeyringRefused) as refused:
        read_keyring(document)
    assert document["keys"][0]["key"] not in repr(refused.value)


def test_examples_of_tests_are_no_keys_for_a_file() -> None:
    assert is_example(example_key(1))
