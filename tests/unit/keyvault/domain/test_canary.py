"""A keyring is proven before it is used."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.keyvault.domain.canary import Purpose, canaries_of, prove
from services.keyvault.domain.keyring import KeyringRefused
from tests.support.keyvault import a_keyring, example_key


def test_a_keyring_passes_its_own_canaries() -> None:
    keyring = a_keyring(1, 2, 3)
    canaries = canaries_of(keyring)

    prove(keyring, canaries)

    assert {(c.purpose, c.version) for c in canaries} == {
        (Purpose.WRAPPING, 1),
        (Purpose.WRAPPING, 2),
        (Purpose.WRAPPING, 3),
        (Purpose.FINGERPRINT, 1),
    }


def test_another_key_under_the_same_version_is_noticed() -> None:
    canaries = canaries_of(a_keyring(1))
    wrong = replace(a_keyring(1), keys={1: example_key(77)})
    with pytest.raises(KeyringRefused, match="keyring_of_another_database"):
        prove(wrong, canaries)


def test_keys_that_changed_places_are_noticed() -> None:
    keyring = a_keyring(1, 2)
    swapped = replace(keyring, keys={1: keyring.keys[2], 2: keyring.keys[1]})
    with pytest.raises(KeyringRefused, match="keyring_of_another_database"):
        prove(swapped, canaries_of(keyring))


def test_another_environment_is_noticed() -> None:
    with pytest.raises(KeyringRefused, match="keyring_of_another_database"):
        prove(a_keyring(1, environment="other"), canaries_of(a_keyring(1)))


def test_another_fingerprint_key_is_noticed() -> None:
    wrong = replace(a_keyring(1), fingerprint_keys={1: example_key(77)})
    with pytest.raises(KeyringRefused, match="keyring_of_another_database"):
        prove(wrong, canaries_of(a_keyring(1)))


def test_a_missing_old_version_is_noticed() -> None:
    with pytest.raises(KeyringRefused, match="keyring_lacks_a_version"):
        prove(a_keyring(2), canaries_of(a_keyring(1, 2)))


def test_a_new_version_waits_on_standby_until_it_has_a_canary() -> None:
    canaries = canaries_of(a_keyring(1))
    prove(a_keyring(1, 2, active=1), canaries)
    with pytest.raises(KeyringRefused, match="canary_missing"):
        prove(a_keyring(1, 2, active=2), canaries)


def test_without_any_canary_nothing_is_proven() -> None:
    with pytest.raises(KeyringRefused, match="canary_missing"):
        prove(a_keyring(1), [])
