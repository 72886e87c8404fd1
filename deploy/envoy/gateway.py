"""What the gateway must be told: where it listens, whom it serves, and what is public."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from deploy.envoy.endpoints import (
    BaseUrl,
    ConfigurationRefused,
    Endpoint,
    flag,
    given,
    parse_admin,
    positive,
    positive_seconds,
    read,
    refuse_open_admin,
    required,
    seconds,
    whole,
)
from shared.values import dataclass

KIBIBYTE = 1024
MEBIBYTE = 1024 * KIBIBYTE
MOST_CONNECTIONS = 20_000

_TIER = re.compile(r"[a-z][a-z0-9-]*")

# Prefixes of each service. Those of chat and voice lead to the pool of the caller's tier; the
# longer ones are tried first, and the first of chat's before all others.
AUTH_PREFIXES = ("/auth", "/oauth", "/.well-known")
KEYVAULT_PREFIXES = ("/keys",)
BILLING_PREFIXES = ("/billing",)
CHAT_PREFIXES = ("/chat", "/v1", "/openai", "/anthropic", "/gemini")
VOICE_PREFIXES = ("/voice", "/v1/audio", "/openai/v1/audio", "/elevenlabs")
SERVICES = ("auth", "keyvault", "chat", "voice", "billing")

# Where an official SDK puts its API key, that is where our token then arrives. Only below the
# prefix of that SDK: everywhere else a token comes in Authorization or not at all.
SDK_KEY_HEADERS: Mapping[str, str] = {
    "/anthropic": "x-api-key",
    "/gemini": "x-goog-api-key",
    "/elevenlabs": "xi-api-key",
}

# A personal access token, wherever in a header it stands. No access token and no key matches: what
# is before the prefix is a character that they don't have.
PERSONAL_TOKEN = r"(.*[^A-Za-z0-9_.-])?ttc_.*"  # noqa: S105 - what one looks like
CREDENTIAL_HEADERS = ("authorization", *SDK_KEY_HEADERS.values())

# A browser can't send Authorization with a WebSocket. Here a token may come as a subprotocol, and
# is then checked, or in the first message, which only the service can check.
SOCKET_PATHS = ("/chat/ws", "/voice/realtime")
# ElevenLabs' own socket: its SDKs send the header, its samples the first message.
ELEVENLABS_SOCKET = "/elevenlabs/v1/text-to-speech/[^/]+/stream-input"
# Where recordings come in that a voice is made from.
SAMPLE_PATHS = ("/voice/voices", "/elevenlabs/v1/voices/add")


# Files that a service sends while it makes them, which may take longer than any ordinary answer.
LONG_ANSWERS = (
    ("auth", "GET", "path: /auth/me/export"),
    ("billing", "GET", "path: /billing/usage/records"),
    ("billing", "GET", 'safe_regex: {regex: "/billing/admin/exports/[^/]+/file"}'),
)

# What a server behind could read in another way than Envoy does: dots left over after
# normalisation, path parameters, backslashes, and bytes that are encoded twice.
AMBIGUOUS_PATH = r".*(\.\.|[;\\]|%25|%5[cC]|%00).*"
# The only shape of a Host that anybody needs. Envoy joins two Host fields with a comma.
PLAIN_HOST = r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]+)?"


STRIPE_NEWS = "/billing/stripe/webhook"


@dataclass(frozen=True, slots=True)
class PublicCall:
    """One call that needs no token. It is public with this method alone, and HEAD with GET."""

    method: str
    path: str


# THE list of what is open to everybody. Nothing else reaches a service without a checked token.
PUBLIC_CALLS = (
    PublicCall("POST", "/auth/register"),
    PublicCall("POST", "/auth/login"),
    PublicCall("POST", "/auth/refresh"),
    PublicCall("POST", "/auth/verify-email"),
    PublicCall("POST", "/auth/password/forgot"),
    PublicCall("POST", "/auth/password/reset"),
    # Whoever asks has no account any more; the receipt of its deletion is their proof.
    PublicCall("POST", "/auth/erasures/lookup"),
    # The code flow starts in a browser's address bar and its client has no secret and no token.
    PublicCall("GET", "/oauth/authorize"),
    PublicCall("POST", "/oauth/authorize"),
    PublicCall("POST", "/oauth/token"),
    PublicCall("POST", "/oauth/revoke"),
    # Pages for people who are not signed in, behind the links of our mails and the login page.
    *(
        PublicCall(method, f"/oauth/{page}")
        for page in (
            *("verify-email", "forgot-password", "reset-password", "accept-invitation"),
            "register",
        )
        for method in ("GET", "POST")
    ),
    # Stripe has no token of ours: billing checks its signature over the body.
    PublicCall("POST", STRIPE_NEWS),
    # A browser sends no token by itself: billing looks for its cookie, and for the secret of the
    # link that it gets one for.
    PublicCall("GET", "/billing/admin/dashboard"),
    PublicCall("GET", "/billing/admin/dashboard/open"),
    PublicCall("POST", "/billing/admin/dashboard/open"),
    PublicCall("GET", "/.well-known/jwks.json"),
    PublicCall("GET", "/.well-known/oauth-authorization-server"),
    PublicCall("GET", "/.well-known/oauth-authorization-server/auth"),
    PublicCall("GET", "/health"),
    PublicCall("GET", "/docs"),
    *(PublicCall("GET", f"/{service}/openapi.json") for service in SERVICES),
)


@dataclass(frozen=True, slots=True)
class SmallBodies:
    """How large a request below a path may be, in bytes: all of it is held back here until its
    last byte has come, and whoever may send one may leave many unfinished. So what needs no token
    holds least."""

    service: str
    path: str
    largest: int
    is_call: bool = False  # this path alone, and nothing below it


# The first row that fits counts.
SMALL_BODIES = (
    *(
        SmallBodies(
            "billing" if call.path.startswith(BILLING_PREFIXES) else "auth",
            call.path,
            128 * KIBIBYTE if call.path == STRIPE_NEWS else 16 * KIBIBYTE,
            is_call=True,
        )
        for call in PUBLIC_CALLS
        if call.method == "POST"
    ),
    *(SmallBodies("auth", prefix, 64 * KIBIBYTE) for prefix in AUTH_PREFIXES),
    *(SmallBodies("keyvault", prefix, 16 * KIBIBYTE) for prefix in KEYVAULT_PREFIXES),
    # Reports of usage, and what the billing team sends.
    SmallBodies("billing", "/billing/usage/events", MEBIBYTE),
    SmallBodies("billing", "/billing/admin", MEBIBYTE),
    *(SmallBodies("billing", prefix, 64 * KIBIBYTE) for prefix in BILLING_PREFIXES),
)

# Where turns are made. Each of these prefixes has a token rule of its own, tried before the public
# calls of all other prefixes.
TURN_PREFIXES = tuple(dict.fromkeys((*CHAT_PREFIXES, *VOICE_PREFIXES)))
PUBLIC_AMONG_TURNS = tuple(
    call for call in PUBLIC_CALLS if call.path.startswith(tuple(f"{p}/" for p in TURN_PREFIXES))
)
PUBLIC_ELSEWHERE = tuple(call for call in PUBLIC_CALLS if call not in PUBLIC_AMONG_TURNS)


@dataclass(frozen=True, slots=True)
class Pool:
    """The servers of chat and voice that serve one tier."""

    tier: str
    chat: Endpoint
    voice: Endpoint


def ipv6_networks_of(share: int, shares: int) -> str:
    """What the addresses of IPv6 look like whose /48 belongs to a share. Those of the first one are
    what is left: in short forms of an address these letters may be missing."""
    last_letters = "".join(f"{letter:x}" for letter in range(16) if letter * shares // 16 == share)
    return f"[^:]+:[^:]+:[^:]*[{last_letters}]:.*"


_MOST_REMEMBERED = 20_000
_MOST_SHARES = 16


def _remembered(text: str) -> int:
    """A number of tokens. Raises ConfigurationRefused for more than there may be memory for."""
    return whole(text, most=_MOST_REMEMBERED)


def _shares(text: str) -> int:
    """A number of shares. Raises ConfigurationRefused for more than each may be worth."""
    shares = positive(text)
    if shares > _MOST_SHARES:
        raise ConfigurationRefused(f"it is at most {_MOST_SHARES}")
    return shares


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """Everything that differs between two gateways.

    Raises ConfigurationRefused when it would make an unsafe one.
    """

    listen: Endpoint
    admin: Endpoint | Path
    auth: Endpoint
    auth_internal: Endpoint  # where personal tokens are exchanged; nothing is routed there
    keyvault: Endpoint
    billing: Endpoint
    pools: tuple[Pool, ...]  # the first one also takes tokens whose tier has no pool
    token_issuer: str
    token_audience: str
    cors_origins: tuple[str, ...] = ()
    sandbox: bool = False
    legacy: BaseUrl | None = None
    legacy_checks_tokens: bool = False  # then it is shown the caller's access token
    metrics: Endpoint | None = None  # a listener that shows /metrics and /ready, nothing else
    access_log: Path | None = None  # None means stdout
    trusted_proxies: int = 0  # how many proxies in front of this one may say who the client is
    jwks_cache_seconds: int = 60
    remembered_tokens: int = 2_000  # where turns are made, by each thread, of 9 KB each; 0: none
    shield_requests_per_second: int = 1_000  # of one client's network; its burst is twice that
    shield_sockets_per_second: int = 50  # likewise: a socket may be opened without a token
    max_connections: int = MOST_CONNECTIONS
    connection_shares: int = 8  # clients fall into them by address; 1: everybody into one
    heap_mebibytes: int = 1024  # near it, nothing new is taken
    idle_seconds: int = 75  # of a connection on which nothing is asked
    body_limit_bytes: int = MEBIBYTE  # where SMALL_BODIES has less, that counts
    large_body_limit_bytes: int = 25 * MEBIBYTE
    samples_limit_bytes: int = 41 * MEBIBYTE  # recordings that a voice is made from
    upload_seconds: int = 300  # 25 MiB at less than 1 Mbit/s, 41 MiB at little more
    answer_timeout_seconds: int = 60  # of auth, keyvault and billing
    file_seconds: int = 900  # of LONG_ANSWERS; who reads slowly holds memory and disk for so long
    stream_idle_seconds: int = 900  # longer than any silence that chat or voice tolerate

    def __post_init__(self) -> None:
        refuse_open_admin(self.admin)
        for origin in self.cors_origins:
            _refuse_vague_origin(origin)
        if self.legacy is not None and self.legacy.tls:
            raise ConfigurationRefused("LEGACY_URL is a neighbour's: http, without TLS")
        tiers = [pool.tier for pool in self.pools]
        if not tiers or len(set(tiers)) != len(tiers) or not all(map(_TIER.fullmatch, tiers)):
            raise ConfigurationRefused(f"each tier has a plain name and one pool: {tiers}")

    @property
    def shares(self) -> int:
        """How many there are: one where all connections come from a proxy, or from this machine."""
        return 1 if self.trusted_proxies or self.listen.is_loopback else self.connection_shares

    @property
    def connections_of_a_share(self) -> int:
        """Twice an equal part: addresses are not alike, and nobody hashes them evenly."""
        return max(1, 2 * self.max_connections // self.shares)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], tiers: Sequence[str]) -> Self:
        """Read the variables that compose and Kubernetes set; `tiers` in the order of their rank.

        A pool is `GATEWAY_CHAT_<TIER>`, or `GATEWAY_CHAT` when the tiers share one; voice alike.
        """
        return cls(
            listen=_listen(environ),
            admin=read(environ, "GATEWAY_ADMIN", parse_admin, "127.0.0.1:9901"),
            auth=required(environ, "GATEWAY_AUTH"),
            auth_internal=required(environ, "GATEWAY_AUTH_INTERNAL"),
            keyvault=required(environ, "GATEWAY_KEYVAULT"),
            billing=required(environ, "GATEWAY_BILLING"),
            pools=tuple(
                Pool(
                    tier,
                    chat=_pool(environ, "GATEWAY_CHAT", tier),
                    voice=_pool(environ, "GATEWAY_VOICE", tier),
                )
                for tier in tiers
            ),
            token_issuer=environ.get("TOKEN_ISSUER") or "https://companion.invalid/auth",
            token_audience=environ.get("TOKEN_AUDIENCE") or "companion",
            cors_origins=tuple(
                origin.strip()
                for origin in environ.get("CORS_ORIGINS", "").split(",")
                if origin.strip()
            ),
            sandbox=flag(environ, "SANDBOX"),
            legacy_checks_tokens=flag(environ, "LEGACY_CHECKS_TOKENS"),
            **_optional(environ),
        )


def _optional(environ: Mapping[str, str]) -> dict[str, Any]:
    """Those whose variable is set; the others keep their default."""
    return given(
        {
            "metrics": ("GATEWAY_METRICS", Endpoint.parse),
            "access_log": ("GATEWAY_ACCESS_LOG", Path),
            "legacy": ("LEGACY_URL", BaseUrl.parse),
            "trusted_proxies": ("GATEWAY_TRUSTED_PROXIES", whole),
            "jwks_cache_seconds": ("GATEWAY_JWKS_CACHE_SECONDS", positive_seconds),
            "remembered_tokens": ("GATEWAY_REMEMBERED_TOKENS", _remembered),
            "shield_requests_per_second": ("GATEWAY_SHIELD_REQUESTS_PER_SECOND", positive),
            "shield_sockets_per_second": ("GATEWAY_SHIELD_SOCKETS_PER_SECOND", positive),
            "max_connections": ("GATEWAY_MAX_CONNECTIONS", positive),
            "connection_shares": ("GATEWAY_CONNECTION_SHARES", _shares),
            "heap_mebibytes": ("GATEWAY_HEAP_MEBIBYTES", positive),
            "idle_seconds": ("GATEWAY_IDLE_SECONDS", positive_seconds),
            "upload_seconds": ("GATEWAY_UPLOAD_SECONDS", seconds),
            "answer_timeout_seconds": ("GATEWAY_ANSWER_TIMEOUT_SECONDS", seconds),
            "file_seconds": ("GATEWAY_FILE_SECONDS", seconds),
            "stream_idle_seconds": ("GATEWAY_STREAM_IDLE_SECONDS", seconds),
        },
        environ,
    )


def _listen(environ: Mapping[str, str]) -> Endpoint:
    if environ.get("GATEWAY_LISTEN"):
        return read(environ, "GATEWAY_LISTEN", Endpoint.parse)
    return read(environ, "PORT", lambda port: Endpoint.parse(f"127.0.0.1:{port}"), "8080")


def _pool(environ: Mapping[str, str], name: str, tier: str) -> Endpoint:
    return required(environ, f"{name}_{tier.upper().replace('-', '_')}", name)


def _refuse_vague_origin(origin: str) -> None:
    """Only an exact origin may read our answers: no wildcard, no path, no `null`."""
    parts = urlsplit(origin)
    if "*" in origin or not parts.scheme or f"{parts.scheme}://{parts.netloc}" != origin:
        raise ConfigurationRefused(
            "CORS_ORIGINS: each origin is exact: https://host, without a path"
        )
