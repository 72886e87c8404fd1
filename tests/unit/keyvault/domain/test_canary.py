"""A keyring is proven before it is used."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.keyvault.domain.canary import Canary, Purpose, canaries_of, prove
from services.keyvault.domain.keyring import KeyringRefused, KeyState
from tests.support.keyvault import a_keyring, example_key, roots_of


async def test_a_keyring_passes_its_own_canaries() -> None:
    keyring = a_keyring(1, 2, 3)
    canaries = await canaries_of(roots_of(keyring))

    await prove(roots_of(keyring), canaries)

    assert {(c.purpose, c.version) for c in canaries} == {
        (Purpose.WRAPPING, 1),
        (Purpose.WRAPPING, 2),
        (Purpose.WRAPPING, 3),
        (Purpose.FINGERPRINT, 1),
    }


async def test_another_key_under_the_same_version_is_noticed() -> None:
    canaries = await canaries_of(roots_of(a_keyring(1)))
    wrong = replace(a_keyring(1), keys={1: example_key(77)})
    with pytest.raises(KeyringRefused, match="keyring_of_another_database"):
        await prove(roots_of(wrong), canaries)


async def test_keys_that_changed_places_are_noticed() -> None:
    keyring = a_keyring(1, 2)
    swapped = replace(keyring, keys={1: keyring.keys[2], 2: keyring.keys[1]})
    with pytest.raises(KeyringRefused, match="keyring_of_another_database"):
        await prove(roots_of(swapped), await canaries_of(roots_of(keyring)))


async def test_another_environment_is_noticed() -> None:
    with pytest.raises(KeyringRefused, match="keyring_of_another_database"):
        await prove(
            roots_of(a_keyring(1, environment="other")), await canaries_of(roots_of(a_keyring(1)))
        )


async def test_another_fingerprint_key_is_noticed() -> None:
    wrong = replace(a_keyring(1), fingerprint_keys={1: example_key(77)})
    with pytest.raises(KeyringRefused, match="keyring_of_another_database"):
        await prove(roots_of(wrong), await canaries_of(roots_of(a_keyring(1))))


async def test_a_missing_old_version_is_noticed() -> None:
    with pytest.raises(KeyringRefused, match="keyring_lacks_a_version"):
        await prove(roots_of(a_keyring(2)), await canaries_of(roots_of(a_keyring(1, 2))))


async def test_a_version_that_was_closed_is_not_missed() -> None:
    closed = replace(a_keyring(2), states={1: KeyState.CLOSED})
    await prove(roots_of(closed), await canaries_of(roots_of(a_keyring(1, 2))))


async def test_a_closed_version_leaves_the_fingerprint_key_of_its_number_to_be_proven() -> None:
    closed = replace(
        a_keyring(2), states={1: KeyState.CLOSED}, fingerprint_keys={1: example_key(77)}
    )
    with pytest.raises(KeyringRefused, match="keyring_of_another_database"):
        await prove(roots_of(closed), await canaries_of(roots_of(a_keyring(1, 2))))


async def test_a_missing_fingerprint_key_is_noticed() -> None:
    canaries = await canaries_of(roots_of(a_keyring(1)))
    canaries.append(Canary(Purpose.FINGERPRINT, 2, b"proof"))
    with pytest.raises(KeyringRefused, match="keyring_lacks_a_version"):
        await prove(roots_of(a_keyring(1)), canaries)


async def test_what_is_kept_proves_a_fingerprint_key_in_later_releases_too() -> None:
    keyring = replace(a_keyring(1, environment="here"), fingerprint_keys={1: bytes(range(32))})
    (proof,) = [
        canary.proof
        for canary in await canaries_of(roots_of(keyring))
        if canary.purpose is Purpose.FINGERPRINT
    ]
    assert proof.hex() == "31447011900be83477d42000af32b2c169899b831e79ec7493c97799de5465cb"


async def test_a_new_version_waits_on_standby_until_it_has_a_canary() -> None:
    canaries = await canaries_of(roots_of(a_keyring(1)))
    await prove(roots_of(a_keyring(1, 2, active=1)), canaries)
    with pytest.raises(KeyringRefused, match="canary_missing"):
        await prove(roots_of(a_keyring(1, 2, active=2)), canaries)


async def test_without_any_canary_nothing_is_proven() -> None:
    with pytest.raises(KeyringRefused, match="canary_missing"):
        await prove(roots_of(a_keyring(1)), [])
