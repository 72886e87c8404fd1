"""The leak hunt: in which forms a secret may lie somewhere, and all the places to look at."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import redis
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from deploy.companion.data_dir import DataDir
from deploy.companion.engines.binaries import postgres_programs
from shared.settings import service_database_url

_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{32,}={0,2}")
_SOUVENIR = 4  # the last characters of a key are shown to its owner


def forms_of(secret: bytes) -> set[bytes]:
    """The secret as it is, and as it comes out of what programs do to bytes."""
    plain = secret[:-_SOUVENIR]
    hexadecimal = plain.hex().encode()
    forms = {plain, plain[::-1], hexadecimal, hexadecimal.upper(), quote(plain).encode()}
    for offset in range(3):
        # In the midst of a longer text each of the three alignments gives other letters.
        shifted = base64.b64encode(b"\0" * offset + plain)
        forms.add(shifted[(offset * 8 + 5) // 6 : len(shifted) // 4 * 4 - 4])
    return forms | {form.translate(bytes.maketrans(b"+/", b"-_")) for form in forms}


@dataclass
class Hunt:
    """Secrets that must be nowhere, and what was said to whoever asked."""

    secrets: dict[bytes, str] = field(default_factory=dict)
    said: list[bytes] = field(default_factory=list)

    def mark(self, secret: str | bytes, name: str = "") -> None:
        """Look for this one too; `name` stands for it in what is reported."""
        content = secret.encode() if isinstance(secret, str) else secret
        self.secrets[content] = name or secret if isinstance(secret, str) else name

    def hear(self, answer: Any) -> Any:
        """Keep what was answered, headers and all."""
        headers = "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
        self.said.append(f"{answer.status_code}\n{headers}\n".encode() + answer.content)
        return answer

    def found_in(self, places: Iterable[tuple[str, bytes]]) -> list[str]:
        """Where one of the secrets lies, in one form or another."""
        forms = {form: name for secret, name in self.secrets.items() for form in forms_of(secret)}
        pattern = re.compile(_any_of(sorted(forms)))
        return [
            f"{forms[hit[0]]} in {place}: …{content[max(hit.start() - 60, 0) : hit.start()]!r}"
            for place, content in places
            for hit in pattern.finditer(content)
        ]


def _any_of(sorted_forms: list[bytes]) -> bytes:
    """A pattern for all of them, branching where they differ: of thousands side by side each would
    be tried at each byte."""
    branches = []
    for _, group in groupby(sorted_forms, key=lambda form: form[:1]):
        same = list(group)
        shared = _shared(same[0], same[-1])
        rest = _any_of([form[shared:] for form in same]) if len(same) > 1 else b""
        branches.append(re.escape(same[0][:shared]) + rest)
    return b"(?:" + b"|".join(branches) + b")"


def _shared(first: bytes, last: bytes) -> int:
    """How many bytes they begin with alike."""
    pairs = enumerate(zip(first, last, strict=False))
    return next((n for n, (one, other) in pairs if one != other), min(len(first), len(last)))


def with_insides(places: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    """Each place, and what is written in base64 inside of it: messages are."""
    for place, content in places:
        yield place, content
        inside = b"\n".join(_decoded(found[0]) for found in _BASE64.finditer(content))
        if inside:
            yield f"base64 in {place}", inside


def _decoded(text: bytes) -> bytes:
    text = text.rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
    return base64.b64decode(text[: len(text) // 4 * 4])


def files(*folders: Path) -> Iterator[tuple[str, bytes]]:
    """Every file below."""
    for folder in folders:
        for path in sorted(folder.rglob("*")) if folder.is_dir() else [folder]:
            if path.is_file():
                yield str(path), path.read_bytes()


def database_dumps(url: str, services: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """What a backup of each service's database holds."""
    program = postgres_programs() / "pg_dump"
    for service in services:
        address = service_database_url(url, service)
        done = subprocess.run([program, address], capture_output=True, check=True)
        yield f"database of {service}", done.stdout


def valkey_contents(url: str) -> Iterator[tuple[str, bytes]]:
    """All keys with their values, of every database that a server has."""
    server = url.rpartition("/")[0]
    for number in range(16):
        with redis.Redis.from_url(f"{server}/{number}") as client:
            for name in client.scan_iter(count=1000):
                yield f"valkey/{number} {name!r}", name + b"\n" + _value_of(client, name)


def _value_of(client: Any, name: bytes) -> bytes:
    # A dump would do for all kinds, but it is compressed.
    match client.type(name):
        case b"string":
            return bytes(client.get(name) or b"")
        case b"list":
            return b"\n".join(client.lrange(name, 0, -1))
        case b"set":
            return b"\n".join(client.smembers(name))
        case b"zset":
            return b"\n".join(member for member, _ in client.zrange(name, 0, -1, withscores=True))
        case b"hash":
            return b"\n".join(part for pair in client.hgetall(name).items() for part in pair)
        case b"stream":
            return repr(client.xrange(name)).encode()
        case _:  # it went away between the two questions
            return b""


def process_words(root: int) -> Iterator[tuple[str, bytes]]:
    """How each process below this one was started: its arguments and its environment."""
    parent = psutil.Process(root)
    for process in [parent, *parent.children(recursive=True)]:
        for kind in ("cmdline", "environ"):
            try:
                content = Path(f"/proc/{process.pid}/{kind}").read_bytes()
            except (OSError, ProcessLookupError):
                continue  # ended, or another user's: PostgreSQL drops its privileges
            yield f"{kind} of {process.pid}", content


def key_material(keyring: Mapping[str, Any]) -> Iterator[tuple[bytes, str]]:
    """The keys of a keyring's document."""
    for kind in ("keys", "fingerprint_keys"):
        for entry in keyring[kind]:
            yield base64.b64decode(entry["key"]), f"{kind} {entry['version']}"


def secrets_of_the_services(data: DataDir) -> Iterator[tuple[bytes, str]]:
    """What engines, services and their tokens are known by, but for the keyring."""
    for name, password in json.loads(data.passwords.read_text()).items():
        yield password.encode(), f"password of {name}"
    for path in (data.signing_keys, data.webhook_keys, data.utterance_keys):
        for kind, entries in json.loads(path.read_text()).items():
            for entry in entries:
                secret = entry.get("d") or entry.get("key") or entry["pepper"]
                plain = secret.translate(str.maketrans("-_", "+/"))
                yield base64.b64decode(plain + "=" * (-len(plain) % 4)), f"{kind} of {path.name}"
    for path in data.identities.glob("*.pem"):
        key = load_pem_private_key(path.read_bytes(), None)
        assert isinstance(key, EllipticCurvePrivateKey)
        yield key.private_numbers().private_value.to_bytes(32, "big"), path.name
