"""Proof key for code exchange (RFC 7636), with S256 alone: who redeems a code asked for it."""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import urlsafe_b64encode

from shared.values import dataclass

METHOD = "S256"
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class CodeChallenge:
    """What the client showed at first: the hash of a verifier that it keeps to itself."""

    text: str

    @staticmethod
    def is_one(text: str) -> bool:
        """Whether this can be a SHA-256 in base64url."""
        return _CHALLENGE.fullmatch(text) is not None

    def is_met_by(self, verifier: str) -> bool:
        """Whether this verifier is the one; a short or odd one never is."""
        if not _VERIFIER.fullmatch(verifier):
            return False
        digest = hashlib.sha256(verifier.encode()).digest()
        expected = urlsafe_b64encode(digest).rstrip(b"=")
        return hmac.compare_digest(expected, self.text.encode())
