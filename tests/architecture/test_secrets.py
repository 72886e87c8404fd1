"""No tracked file holds a secret, a package registry's host, or a path of somebody's machine."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Real secrets are random: each of these asks for more of it than an example has. The patterns are
# put together here so that this file does not match itself.
SECRETS = {
    "an OpenAI key": r"sk-(?:proj|svcacct|admin)-[A-Za-z0-9_-]{40,}|T3Blbk" + "FJ[A-Za-z0-9]{20}",
    "an Anthropic key": r"sk-ant-(?:api|admin|oat|ort)\d\d-[A-Za-z0-9_-]{60,}",
    "a Google key": "AI" + r"za[0-9A-Za-z_-]{35}\b",
    "an ElevenLabs key": r"\bsk_[0-9a-f]{48}\b",
    "an AWS key": r"\bAKIA[0-9A-Z]{16}\b",
    "a GitHub token": r"\bgh[pousr]_[A-Za-z0-9]{36}\b",
    "a private key": "-----BEGIN [A-Z ]*PRIV" + "ATE KEY-----\\s+[A-Za-z0-9+/]{40}",
    "a signed token": r"\beyJ[A-Za-z0-9_-]{20,}\.eyJ[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{20,}",
    "a password in a URL": r"[a-z]+://[a-z]+:[A-Za-z0-9]{20,}@",
}
PLACES = {
    "a package registry's host": r"(?:files\.python" + r"hosted|py" + r"pi)\.(?:org|io)\b"
    r"|registry\.np" + r"mjs|(?:deb|security)\.deb" + r"ian\.org|proxy\.gol" + "ang",
    "a path of somebody's machine": r"(?<![\w.])/(?:wo" + r"rk/(?:main|shared|\.)|ro" + r"ot/|ho"
    r"me/[a-z]+/|Us" + "ers/[A-Za-z]+/)",
}


def tracked_files() -> list[Path]:
    """Every file under version control, or about to be; none outside of a checkout."""
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(words, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def findings(patterns: dict[str, str]) -> Iterator[str]:
    compiled = {what: re.compile(pattern) for what, pattern in patterns.items()}
    for path in tracked_files():
        text = path.read_bytes().decode("utf-8", "replace")
        for what, pattern in compiled.items():
            for match in pattern.finditer(text):
                line = text.count("\n", 0, match.start()) + 1
                # Where and what, and not the secret itself.
                yield f"{path.relative_to(ROOT)}:{line} holds {what}"


@pytest.fixture(autouse=True)
def in_a_checkout() -> None:
    if not tracked_files():
        pytest.skip("this is no checkout")


def test_no_file_holds_a_secret() -> None:
    found = list(findings(SECRETS))
    assert not found, "\n".join(found)


def test_no_file_names_a_registry_or_a_machine() -> None:
    found = list(findings(PLACES))
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("an OpenAI key", "sk-proj-" + "aB3_" * 12),
        ("an Anthropic key", "sk-ant-api03-" + "aB3_" * 20),
        ("a Google key", "AI" + "za" + "aB3_x" * 7),
        ("an ElevenLabs key", "sk" + "_" + "0123456789abcdef" * 3),
        ("a private key", "-----BEGIN EC PRIV" + "ATE KEY-----\n" + "MHcCAQEEIB" * 5),
        ("a signed token", "ey" + "J" + "a" * 30 + ".ey" + "J" + "b" * 30 + "." + "c" * 40),
    ],
)
def test_the_search_itself_finds_secrets(what: str, text: str) -> None:
    assert re.search(SECRETS[what], f"x = '{text}'")


def test_files_that_hold_secrets_are_not_tracked() -> None:
    names = [path.relative_to(ROOT).as_posix() for path in tracked_files()]
    odd = [n for n in names if re.search(r"(^|/)\.env$|\.pem$|\.key$|\.p12$|(^|/)\.companion/", n)]
    assert not odd, f"these may hold secrets: {', '.join(odd)}"
