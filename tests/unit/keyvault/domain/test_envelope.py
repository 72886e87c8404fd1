"""What the envelope promises: it opens here and nowhere else, and for ever."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, fields, replace
from itertools import combinations
from uuid import UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as some

from services.keyvault.domain.envelope import (
    CanaryPlace,
    DataKeyPlace,
    NotAuthentic,
    Place,
    RootPlace,
    SecretPlace,
    seal,
    unseal,
)
from services.keyvault.domain.fields import encode_fields
from tests.support.keyvault import example_key

KEY = example_key(1)
OWNER = UUID("11111111-1111-7111-8111-111111111111")
DATA_KEY_ID = UUID("22222222-2222-7222-8222-222222222222")
SECRET_ID = UUID("33333333-3333-7333-8333-333333333333")
SECRET = SecretPlace("prod", OWNER, DATA_KEY_ID, SECRET_ID, "openai", 7)
DATA_KEY = DataKeyPlace("prod", "user", OWNER, DATA_KEY_ID, 3)
ROOT = RootPlace("prod", "fingerprint", 2, 4)

texts = some.text(some.characters(codec="utf-8"), max_size=12)
secrets = some.builds(
    SecretPlace,
    environment=some.sampled_from(["prod", "test"]),
    owner_id=some.sampled_from([OWNER, SECRET_ID]),
    data_key_id=some.sampled_from([DATA_KEY_ID, OWNER]),
    secret_id=some.sampled_from([SECRET_ID, OWNER]),
    provider=some.sampled_from(["openai", "0openai", "gemini"]),
    secret_version=some.integers(1, 3),
)
data_keys = some.builds(
    DataKeyPlace,
    environment=some.sampled_from(["prod", "test"]),
    owner_type=some.sampled_from(["user", "organisation"]),
    owner_id=some.sampled_from([OWNER, SECRET_ID]),
    data_key_id=some.sampled_from([DATA_KEY_ID, OWNER]),
    kek_version=some.integers(1, 3),
)
canaries = some.builds(
    CanaryPlace, environment=some.sampled_from(["prod", "test"]), kek_version=some.integers(1, 3)
)
roots = some.builds(
    RootPlace,
    environment=some.sampled_from(["prod", "test"]),
    purpose=some.sampled_from(["fingerprint", "audit"]),
    version=some.integers(1, 3),
    kek_version=some.integers(1, 3),
)
places = secrets | data_keys | canaries | roots


# Sealed once, by the first version of this code. They must open for ever.
VECTORS: list[tuple[bytes, Place, str, bytes]] = [
    (
        example_key(1),
        SECRET,
        "6b76310122222222222272228222222222222222ba5471a987259b18be973e50efc51474056402f5"
        "b71f4d9778468642f5ab285f15d6d9b25e10cf6b738ecb6bca65c998f5392f3eaa82549533f97e2a",
        b"sk-an-example-that-opens-nothing",
    ),
    (
        example_key(3),
        DATA_KEY,
        "6b763101000000035b8d38da8667e5f6c770098ac50642485f1d23fbcbc785f5be7295d0f56f6fd8"
        "5c5a6ad07593bfab6db4b178e69c782a336c8c4beb739bfcdf90ccd5",
        example_key(9),
    ),
    (
        example_key(3),
        DataKeyPlace("prod", "organisation", OWNER, DATA_KEY_ID, 2**31 - 1),
        "6b7631017fffffff39b46008c655d14e57c9d9b5432bb065f8d1781f5267547776807f4b9376e8d7"
        "7015bf1180f4366d957b9e73f95ad4515ce56369d34c769a7571b7a4",
        example_key(9),
    ),
    (
        example_key(5),
        ROOT,
        "6b7631010000000420346e2b42d73b2f977b6479d5308ea12c6c3c05fadfb518d9a3bc057618b6f6"
        "4ab85bbcc62267824bb75058f30fb0ede56586a442829d363bba01c3",
        example_key(10),
    ),
    (
        example_key(200),
        CanaryPlace("prod", 1),
        "6b76310100000001370be70f35a0894e5510024cbbff45aaeb6b165b6087dacc879014bcfd2a575c"
        "586a0814eee36c6835da0936de98d8f0ea312bb5787388bac7",
        b"the keyvault of this database",
    ),
]


@pytest.mark.parametrize(("key", "place", "envelope", "content"), VECTORS)
def test_what_was_sealed_once_opens_for_ever(
    key: bytes, place: Place, envelope: str, content: bytes
) -> None:
    assert unseal(key, place, bytes.fromhex(envelope)) == content


@pytest.mark.parametrize(
    ("place", "context"),
    [
        (
            DATA_KEY,
            {
                "purpose": "kv1.dek",
                "environment": "prod",
                "owner_type": "user",
                "owner_id": str(OWNER),
                "data_key_id": str(DATA_KEY_ID),
                "kek_version": "3",
            },
        ),
        (
            ROOT,
            {
                "purpose": "kv1.root",
                "environment": "prod",
                "root": "fingerprint",
                "root_version": "2",
                "kek_version": "4",
            },
        ),
        (
            CanaryPlace("prod", 1),
            {"purpose": "kv1.canary", "environment": "prod", "kek_version": "1"},
        ),
    ],
    ids=lambda given: type(given).__name__,
)
def test_a_key_service_is_told_a_place_in_the_same_words_for_ever(
    place: DataKeyPlace | RootPlace | CanaryPlace, context: dict[str, str]
) -> None:
    """It opens what it has wrapped for the very same names and values only."""
    assert place.context == context


@dataclass(frozen=True)
class Anywhere:
    """A place without a key's name, bound to given bytes."""

    bound_to: bytes
    key_name: bytes = b""


# Cases 13 to 16 of "The Galois/Counter Mode of Operation" (McGrew, Viega): what lies in our
# envelopes is AES-256-GCM as everybody else speaks it.
PUBLISHED = [
    ("00" * 32, "00" * 12, "", "", "", "530f8afbc74536b9a963b4f1c4cb738b"),
    (
        "00" * 32,
        "00" * 12,
        "",
        "00" * 16,
        "cea7403d4d606b6e074ec5d3baf39d18",
        "d0d1c8a799996bf0265b98b5d48ab919",
    ),
    (
        "feffe9928665731c6d6a8f9467308308" * 2,
        "cafebabefacedbaddecaf888",
        "feedfacedeadbeeffeedfacedeadbeefabaddad2",
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
        "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
        "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662",
        "76fc6ece0f4e1768cddf8853bb2d551b",
    ),
]


@pytest.mark.parametrize(("key", "nonce", "bound_to", "content", "ciphertext", "tag"), PUBLISHED)
def test_published_cases_of_the_cipher_open(
    key: str, nonce: str, bound_to: str, content: str, ciphertext: str, tag: str
) -> None:
    envelope = b"kv1\x01" + bytes.fromhex(nonce + ciphertext + tag)
    opened = unseal(bytes.fromhex(key), Anywhere(bytes.fromhex(bound_to)), envelope)
    assert opened.hex() == content


def test_the_additional_data_is_the_published_list() -> None:
    assert DATA_KEY.bound_to == encode_fields(
        "kv1.dek", "prod", "user", str(OWNER), str(DATA_KEY_ID), "3"
    )
    assert SECRET.bound_to == encode_fields(
        "kv1.sec", "prod", str(OWNER), str(DATA_KEY_ID), str(SECRET_ID), "openai", "7"
    )


def test_an_envelope_begins_with_its_format_and_its_key() -> None:
    assert seal(KEY, SECRET, b"x").startswith(b"kv1\x01" + DATA_KEY_ID.bytes)
    assert seal(KEY, DATA_KEY, b"x").startswith(b"kv1\x01\x00\x00\x00\x03")


@given(place=places, content=some.binary(max_size=64))
def test_what_goes_in_comes_out(place: Place, content: bytes) -> None:
    assert unseal(KEY, place, seal(KEY, place, content)) == content


@given(place=places, bit=some.integers(min_value=0), content=some.binary(max_size=40))
def test_any_flipped_bit_is_noticed(place: Place, bit: int, content: bytes) -> None:
    envelope = bytearray(seal(KEY, place, content))
    bit %= len(envelope) * 8
    envelope[bit // 8] ^= 1 << bit % 8

    with pytest.raises(NotAuthentic):
        unseal(KEY, place, bytes(envelope))


def test_every_single_bit_counts() -> None:
    envelope = seal(KEY, SECRET, b"a secret")
    for bit in range(len(envelope) * 8):
        changed = bytearray(envelope)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(NotAuthentic):
            unseal(KEY, SECRET, bytes(changed))


@given(sealed_for=places, opened_as=places)
def test_an_envelope_opens_at_its_place_alone(sealed_for: Place, opened_as: Place) -> None:
    assume(sealed_for != opened_as)

    with pytest.raises(NotAuthentic):
        unseal(KEY, opened_as, seal(KEY, sealed_for, b"a secret"))


def test_what_does_not_fit_its_place_is_wiped() -> None:
    # The cipher writes the content before it looks at the tag.
    elsewhere = replace(SECRET, provider="gemini")
    with pytest.raises(NotAuthentic) as refused:
        unseal(KEY, elsewhere, seal(KEY, SECRET, b"a secret"))
    (content,) = [
        frame.f_locals["content"]
        for frame, _ in traceback.walk_tb(refused.tb)
        if frame.f_code is unseal.__code__
    ]
    assert content == bytes(8)


@pytest.mark.parametrize(
    "place",
    [SECRET, DATA_KEY, ROOT, CanaryPlace("prod", 4)],
    ids=["secret", "data key", "root", "canary"],
)
def test_each_part_of_a_place_is_bound(
    place: SecretPlace | DataKeyPlace | RootPlace | CanaryPlace,
) -> None:
    envelope = seal(KEY, place, b"a secret")
    for part in fields(place):
        value = getattr(place, part.name)
        other = UUID(int=value.int ^ 1) if isinstance(value, UUID) else type(value)(f"{value}0")
        elsewhere = replace(place, **{part.name: other})  # type: ignore[arg-type]
        # The head names the key in clear; with a forged head the tag must still say no.
        forged = envelope.replace(place.key_name, elsewhere.key_name, 1)
        for attempt in (envelope, forged):
            with pytest.raises(NotAuthentic):
                unseal(KEY, elsewhere, attempt)


@given(some.lists(texts, max_size=5), some.lists(texts, max_size=5))
def test_no_two_lists_of_fields_are_encoded_alike(one: list[str], other: list[str]) -> None:
    assert (encode_fields(*one) == encode_fields(*other)) == (one == other)


def test_neighbouring_fields_can_not_trade_letters() -> None:
    assert encode_fields("user1", "0openai") != encode_fields("user10", "openai")


@pytest.mark.parametrize("length", [0, 1, 254, 255, 256, 257, 70_000])
def test_before_each_field_stands_its_length_in_four_bytes(length: int) -> None:
    text = "x" * length
    assert encode_fields(text, 7) == length.to_bytes(4, "big") + text.encode() + b"\0\0\0\x017"


@given(places, places)
def test_no_two_places_are_bound_alike(one: Place, other: Place) -> None:
    assert (one.bound_to == other.bound_to) == (one == other)


def test_every_kind_of_place_has_a_vector() -> None:
    kinds = {type(place) for _, place, _, _ in VECTORS}
    assert kinds == {SecretPlace, DataKeyPlace, CanaryPlace, RootPlace}


def test_another_key_opens_nothing() -> None:
    with pytest.raises(NotAuthentic):
        unseal(example_key(2), SECRET, seal(KEY, SECRET, b"a secret"))


@pytest.mark.parametrize("length", range(60))
def test_a_cut_envelope_is_refused(length: int) -> None:
    with pytest.raises(NotAuthentic):
        unseal(KEY, SECRET, seal(KEY, SECRET, b"a secret" * 3)[:length])


def test_nonces_do_not_repeat() -> None:
    nonces = {seal(KEY, DATA_KEY, b"")[8:20] for _ in range(50_000)}
    assert len(nonces) == 50_000


def test_all_examples_of_places_differ() -> None:
    places: list[Place] = [SECRET, DATA_KEY, CanaryPlace("prod", 3), CanaryPlace("prod", 4)]
    assert all(a.bound_to != b.bound_to for a, b in combinations(places, 2))
