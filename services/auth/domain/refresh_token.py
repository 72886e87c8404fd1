"""The refresh token's format: opaque to clients, computed rather than kept.

base64url(sign-in id, 16 bytes ‖ counter, 8 bytes ‖ HMAC-SHA-256(pepper, id ‖ counter ‖ salt)).
"""

from __future__ import annotations

import binascii
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import field
from typing import Self
from uuid import UUID

from services.auth.domain.errors import RefreshRefused
from services.auth.domain.sign_in import SignIn, SignInId
from shared.values import dataclass

_ID_BYTES, _COUNTER_BYTES, _MAC_BYTES = 16, 8, 32
_BYTES = _ID_BYTES + _COUNTER_BYTES + _MAC_BYTES
TOKEN_LENGTH = 75


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """A refresh token taken apart. Nothing in it is to be believed before `is_genuine`."""

    sign_in_id: SignInId
    counter: int
    mac: bytes = field(repr=False)

    @classmethod
    def current_of(cls, sign_in: SignIn, pepper: bytes) -> Self:
        """The one token of this sign-in that is good now."""
        return cls(sign_in.id, sign_in.counter, _mac(sign_in, sign_in.counter, pepper))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises RefreshRefused for anything that `encoded` can't have made."""
        if len(text) != TOKEN_LENGTH or not text.isascii():
            raise RefreshRefused
        try:
            raw = urlsafe_b64decode(text + "=")
        except binascii.Error as error:
            raise RefreshRefused from error
        if len(raw) != _BYTES:
            raise RefreshRefused
        token = cls(
            sign_in_id=SignInId(UUID(bytes=raw[:_ID_BYTES])),
            counter=int.from_bytes(raw[_ID_BYTES:-_MAC_BYTES], "big"),
            mac=raw[-_MAC_BYTES:],
        )
        # The decoder skips foreign characters and unused bits: one token has one spelling here.
        if token.encoded != text:
            raise RefreshRefused
        return token

    @property
    def encoded(self) -> str:
        """As the client holds it."""
        counter = self.counter.to_bytes(_COUNTER_BYTES, "big")
        return urlsafe_b64encode(self.sign_in_id.bytes + counter + self.mac).decode().rstrip("=")

    def is_genuine(self, sign_in: SignIn, pepper: bytes) -> bool:
        """Whether we have made this token for this sign-in, at whatever time."""
        return hmac.compare_digest(self.mac, _mac(sign_in, self.counter, pepper))


def _mac(sign_in: SignIn, counter: int, pepper: bytes) -> bytes:
    message = sign_in.id.bytes + counter.to_bytes(_COUNTER_BYTES, "big") + sign_in.salt
    return hmac.digest(pepper, message, "sha256")
