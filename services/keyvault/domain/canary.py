"""Canaries: what proves that keys are the ones which sealed the data in this database."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from enum import StrEnum

from services.keyvault.domain.envelope import CanaryPlace, NotAuthentic
from services.keyvault.domain.fields import encode_fields
from services.keyvault.domain.key_encryption import KekState
from services.keyvault.domain.keyring import KeyringRefused
from services.keyvault.domain.roots import Roots
from shared.values import dataclass

_SONG = b"the keyvault of this database"


class Purpose(StrEnum):
    """Which kind of key a canary vouches for."""

    WRAPPING = "wrapping"
    FINGERPRINT = "fingerprint"


@dataclass(frozen=True, slots=True)
class Canary:
    """What one version of a key made when it came into use."""

    purpose: Purpose
    version: int
    proof: bytes


async def canaries_of(roots: Roots) -> list[Canary]:
    """A canary for each key."""
    state = await roots.kek.state()
    return [
        *[await wrapping_canary(roots, version) for version in state.usable],
        *(
            Canary(Purpose.FINGERPRINT, version, _tag(roots, version))
            for version in roots.fingerprints.by_version
        ),
    ]


async def wrapping_canary(roots: Roots, version: int) -> Canary:
    """The canary of one version of the key-encryption key."""
    wrapped = await roots.kek.wrap(
        _SONG, lambda version: CanaryPlace(roots.environment, version), version=version
    )
    return Canary(Purpose.WRAPPING, version, wrapped.envelope)


async def prove(roots: Roots, canaries: Sequence[Canary]) -> None:
    """Check the keys against every canary.

    Raises KeyringRefused when a version is lacking, when a key is another than it was, or when the
    keys for new seals have no canary yet; DependencyUnavailable when nobody could tell.
    """
    state = await prove_known(roots, canaries)
    known = {(canary.purpose, canary.version) for canary in canaries}
    in_use = {
        (Purpose.WRAPPING, state.active),
        (Purpose.FINGERPRINT, roots.fingerprints.active),
    }
    if not in_use <= known:
        raise KeyringRefused("canary_missing")


async def prove_known(roots: Roots, canaries: Iterable[Canary]) -> KekState:
    """Check the keys against these canaries, and nothing else. Raises as `prove` does."""
    state = await roots.kek.state()
    for canary in canaries:
        # A version that was closed opens nothing any more, its canary neither.
        if canary.purpose is Purpose.FINGERPRINT or not state.is_closed(canary.version):
            await _check(roots, canary, state)
    return state


async def _check(roots: Roots, canary: Canary, state: KekState) -> None:
    is_wrapping = canary.purpose is Purpose.WRAPPING
    if canary.version not in (state.usable if is_wrapping else roots.fingerprints.by_version):
        raise KeyringRefused("keyring_lacks_a_version")
    if not await _fits(roots, canary):
        raise KeyringRefused("keyring_of_another_database")


async def _fits(roots: Roots, canary: Canary) -> bool:
    if canary.purpose is Purpose.FINGERPRINT:
        return hmac.compare_digest(_tag(roots, canary.version), canary.proof)
    place = CanaryPlace(roots.environment, canary.version)
    try:
        return await roots.kek.unwrap(canary.version, canary.proof, place) == _SONG
    except NotAuthentic:
        return False


def _tag(roots: Roots, version: int) -> bytes:
    message = encode_fields("kv1.fp-canary", roots.environment, version)
    return hmac.new(roots.fingerprints.by_version[version], message, hashlib.sha256).digest()
