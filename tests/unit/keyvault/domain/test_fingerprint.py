"""A fingerprint tells an owner's key again, and nothing to anybody else."""

from __future__ import annotations

from uuid import UUID

from services.keyvault.domain.fingerprint import Fingerprint, FingerprintKeys, fingerprint_of
from tests.support.keyvault import ada, example_key, grace


def of(
    secret: str = "sk-1",
    owner: UUID = ada,
    provider: str = "openai",
    key: int = 1,
    version: int = 1,
) -> Fingerprint:
    return fingerprint_of(
        secret, owner_id=owner, provider=provider, key=example_key(key), version=version
    )


def test_a_fingerprint_is_the_same_for_ever() -> None:
    assert of().digest.hex() == "d08c16d201105f357712b4d26f0f79c7"


def test_a_fingerprint_has_16_bytes() -> None:
    assert len(of().digest) == 16


def test_the_same_key_of_two_owners_looks_different() -> None:
    assert of(owner=ada).digest != of(owner=grace).digest


def test_everything_that_goes_in_counts() -> None:
    all_ = {
        of().digest,
        of(secret="sk-2").digest,
        of(provider="gemini").digest,
        of(key=2).digest,
        of(secret="isk-1", provider="opena").digest,
    }
    assert len(all_) == 5


def test_only_fingerprints_of_one_version_are_compared() -> None:
    assert of().equals(of())
    assert not of().equals(of(secret="sk-2"))
    assert not of().equals(of(version=2))


def test_the_newest_key_makes_new_ones() -> None:
    assert FingerprintKeys({3: b"c", 1: b"a", 2: b"b"}).active == 3
