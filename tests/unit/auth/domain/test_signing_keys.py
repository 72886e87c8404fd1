"""The file of signing keys: what is read, what is refused, what becomes public."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from joserfc.jwk import ECKey, OKPKey, RSAKey

from services.auth.domain.errors import RefreshRefused
from services.auth.domain.key_rotation import KeyLine
from services.auth.domain.signing_key import SigningKey, UnusableSigningKeys
from services.auth.domain.signing_keys import (
    new_signing_keys,
    parse_signing_keys,
    with_other_keys,
)

Document = dict[str, Any]


def a_key(state: str, kid: str) -> Document:
    key = ECKey.generate_key("P-256", {"use": "sig", "alg": "ES256"})
    return {**key.as_dict(private=True), "kid": kid, "state": state}


NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
KEPT = timedelta(minutes=20)


def test_a_new_file_can_be_read_and_has_a_key_that_signs_one_that_waits_and_one_pepper() -> None:
    document = new_signing_keys(NOON)
    entry, waiting = document["keys"]
    for key in (entry, waiting):
        assert {"kid", "use", "alg", "state", "d"} <= set(key)
        assert key["kid"] == ECKey.import_key(key).thumbprint()
        assert key["published_at"] == int(NOON.timestamp())
    assert (entry["state"], waiting["state"]) == ("active", "standby")
    assert (entry["activated_at"], "activated_at" in waiting) == (int(NOON.timestamp()), False)
    keys = parse_signing_keys(json.dumps(document))
    assert keys.active.kid == entry["kid"]
    assert (keys.newest_pepper, len(keys.pepper(1))) == (1, 32)


def test_no_two_new_files_are_alike() -> None:
    one, two = new_signing_keys(), new_signing_keys()
    assert one["keys"][0]["d"] != two["keys"][0]["d"]
    assert one["refresh_peppers"] != two["refresh_peppers"]


def test_all_keys_but_removed_ones_are_published_without_their_private_half() -> None:
    document = new_signing_keys()
    states = ("standby", "retiring", "removed")
    document["keys"] += [a_key(state, f"key-{state}") for state in states]
    public = parse_signing_keys(json.dumps(document)).public(NOON, kept=KEPT)
    assert [key["kid"] for key in public["keys"]] == [
        document["keys"][0]["kid"],
        document["keys"][1]["kid"],
        "key-standby",
        "key-retiring",
    ]
    for key in public["keys"]:
        assert set(key) == {"kty", "crv", "x", "y", "kid", "use", "alg"}


def test_new_sign_ins_use_the_newest_pepper_and_old_ones_keep_theirs() -> None:
    document = new_signing_keys()
    second = new_signing_keys()["refresh_peppers"][0]["pepper"]
    document["refresh_peppers"].insert(0, {"version": 2, "pepper": second})
    keys = parse_signing_keys(json.dumps(document))
    assert keys.newest_pepper == 2
    assert keys.pepper(1) != keys.pepper(2)
    with pytest.raises(RefreshRefused):
        keys.pepper(3)


def test_a_retiring_key_leaves_by_time_alone() -> None:
    document = new_signing_keys(NOON)
    document["keys"] += [
        {**a_key("retiring", "old"), "retired_at": int(NOON.timestamp())},
        # Retired by hand, so nobody knows when: it stays until a command notes that.
        a_key("retiring", "older"),
    ]
    keys = parse_signing_keys(json.dumps(document))

    def shown(after: timedelta) -> set[str]:
        return {key["kid"] for key in keys.public(NOON + after, kept=KEPT)["keys"][2:]}

    assert shown(KEPT - timedelta(seconds=1)) == {"old", "older"}
    assert shown(KEPT) == {"older"}


def test_another_set_of_keys_leaves_all_else_in_the_file_as_it_is() -> None:
    document = {**new_signing_keys(NOON), "of_a_later_version": [1]}
    text, line = with_other_keys(
        json.dumps(document), lambda line: KeyLine((*line.keys, SigningKey.made(NOON)))
    )
    after = json.loads(text)
    assert after["keys"][:2] == document["keys"]
    assert [key["kid"] for key in after["keys"]] == [key.kid for key in line.keys]
    assert {**after, "keys": document["keys"]} == document


def without_d(document: Document) -> None:
    del document["keys"][0]["d"]


def with_another_d(document: Document) -> None:
    document["keys"][0]["d"] = a_key("active", "x")["d"]


def with_a_point_off_the_curve(document: Document) -> None:
    document["keys"][0]["x"] = document["keys"][0]["y"]


def with_two_active(document: Document) -> None:
    document["keys"].append(a_key("active", "another"))


def with_none_active(document: Document) -> None:
    document["keys"][0]["state"] = "standby"


def with_an_unknown_state(document: Document) -> None:
    document["keys"][0]["state"] = "asleep"


def with_one_kid_twice(document: Document) -> None:
    document["keys"].append(a_key("standby", document["keys"][0]["kid"]))


def with_no_kid(document: Document) -> None:
    document["keys"][0]["kid"] = ""


def with_an_encryption_key(document: Document) -> None:
    document["keys"][0]["use"] = "enc"


def with_an_rsa_key(document: Document) -> None:
    key = RSAKey.generate_key(2048).as_dict(private=True)
    document["keys"][0] = {**key, "kid": "rsa", "state": "active"}


def with_an_ed25519_key(document: Document) -> None:
    key = OKPKey.generate_key("Ed25519").as_dict(private=True)
    document["keys"][0] = {**key, "kid": "okp", "y": "", "state": "active"}


def without_peppers(document: Document) -> None:
    document["refresh_peppers"] = []


def without_the_peppers_field(document: Document) -> None:
    del document["refresh_peppers"]


def with_a_short_pepper(document: Document) -> None:
    document["refresh_peppers"][0]["pepper"] = "c2hvcnQ="


def with_a_garbled_pepper(document: Document) -> None:
    document["refresh_peppers"][0]["pepper"] = "%%%%"


def with_a_pepper_that_is_no_text(document: Document) -> None:
    document["refresh_peppers"][0]["pepper"] = 7


def with_a_pepper_twice(document: Document) -> None:
    document["refresh_peppers"] *= 2


def with_a_pepper_of_no_version(document: Document) -> None:
    document["refresh_peppers"][0]["version"] = "1"


def with_a_pepper_of_version_zero(document: Document) -> None:
    document["refresh_peppers"][0]["version"] = 0


def with_a_moment_that_is_text(document: Document) -> None:
    document["keys"][0]["published_at"] = "2026-11-24"


def with_a_moment_beyond_time(document: Document) -> None:
    document["keys"][0]["retired_at"] = 10**20


def with_a_moment_that_is_a_truth(document: Document) -> None:
    document["keys"][0]["removed_at"] = True


def with_keys_that_are_none(document: Document) -> None:
    document["keys"] = ["key"]


@pytest.mark.parametrize(
    "spoil",
    [
        without_d,
        with_another_d,
        with_a_point_off_the_curve,
        with_two_active,
        with_none_active,
        with_an_unknown_state,
        with_one_kid_twice,
        with_no_kid,
        with_an_encryption_key,
        with_an_rsa_key,
        with_an_ed25519_key,
        without_peppers,
        without_the_peppers_field,
        with_a_short_pepper,
        with_a_garbled_pepper,
        with_a_pepper_that_is_no_text,
        with_a_pepper_twice,
        with_a_pepper_of_no_version,
        with_a_pepper_of_version_zero,
        with_a_moment_that_is_text,
        with_a_moment_beyond_time,
        with_a_moment_that_is_a_truth,
        with_keys_that_are_none,
    ],
)
def test_a_spoiled_file_is_refused_without_quoting_it(spoil: Callable[[Document], None]) -> None:
    document = new_signing_keys()
    secrets = [document["keys"][0]["d"], document["refresh_peppers"][0]["pepper"]]
    spoil(document)
    with pytest.raises(UnusableSigningKeys) as refusal:
        parse_signing_keys(json.dumps(document))
    assert not any(secret in str(refusal.value) for secret in secrets)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "7", '"keys"', '{"keys": null}'])
def test_what_is_no_such_file_is_refused(text: str) -> None:
    with pytest.raises(UnusableSigningKeys):
        parse_signing_keys(text)


def test_keys_do_not_show_themselves() -> None:
    document = new_signing_keys()
    keys = parse_signing_keys(json.dumps(document))
    assert document["keys"][0]["d"] not in repr(keys)
    assert repr(keys.pepper(1)) not in repr(keys)
