"""What egress must be told, and THE list of vendors' calls that it lets through."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from deploy.envoy.endpoints import (
    BaseUrl,
    ConfigurationRefused,
    Endpoint,
    find_ca_bundle,
    flag,
    given,
    parse_admin,
    patience_seconds,
    read,
    refuse_open_admin,
    required,
    seconds,
)
from shared.values import dataclass

# One segment of a path. It begins with a letter or digit, so that it can never be a dot segment.
_SEGMENT = "[A-Za-z0-9][A-Za-z0-9._-]*"


@dataclass(frozen=True, slots=True)
class VendorCall:
    """A call that may go out: exactly this method on exactly this path at the vendor."""

    method: str
    path: str  # a name in braces stands for one segment; what else it holds means itself
    websocket: bool = False

    def regex(self, prefix: str) -> str:
        """The expression (RE2, matched in full) for the path as egress sees it."""
        return re.sub(r"\{\w+\}", _SEGMENT, prefix + self.path)


# What chat and voice call, and no more. Left out on purpose, whoever asks: everything that reads,
# makes or changes keys, tokens or client secrets, since a key in an answer's body would reach the
# caller; and ElevenLabs' /v1/user, whose object has a field for the API key. /v1/user/subscription
# holds no key, but nobody behind egress needs it either: keyvault validates keys by itself, and
# budgets are ours.
VENDOR_CALLS: Mapping[str, tuple[VendorCall, ...]] = {
    "openai": (
        VendorCall("POST", "/v1/chat/completions"),
        VendorCall("POST", "/v1/responses"),
    ),
    "anthropic": (
        VendorCall("POST", "/v1/messages"),
        VendorCall("POST", "/v1/messages/count_tokens"),
    ),
    "gemini": tuple(
        VendorCall("POST", f"/{version}/models/{{model}}:{verb}")
        for version in ("v1", "v1beta")
        for verb in ("generateContent", "streamGenerateContent", "countTokens")
    ),
    "elevenlabs": (
        VendorCall("POST", "/v1/text-to-speech/{voice}"),
        VendorCall("POST", "/v1/text-to-speech/{voice}/stream"),
        VendorCall("POST", "/v1/text-to-speech/{voice}/with-timestamps"),
        VendorCall("POST", "/v1/text-to-speech/{voice}/stream/with-timestamps"),
        VendorCall("GET", "/v1/text-to-speech/{voice}/stream-input", websocket=True),
        VendorCall("GET", "/v1/text-to-dialogue/stream-input", websocket=True),
        VendorCall("GET", "/v1/voices"),
        VendorCall("GET", "/v2/voices"),
        VendorCall("POST", "/v1/voices/add"),
        VendorCall("GET", "/v1/voices/{voice}"),
        VendorCall("DELETE", "/v1/voices/{voice}"),
        VendorCall("GET", "/v1/voices/{voice}/settings"),
        VendorCall("GET", "/v1/models"),
    ),
    # An operator's own server in OpenAI's manner; keyvault gives the operator's key, or none.
    "compatible": (VendorCall("POST", "/v1/chat/completions"),),
}
_OPTIONAL = {"compatible"}

DEFAULT_URLS: Mapping[str, str] = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com",
    "gemini": "https://generativelanguage.googleapis.com",
    "elevenlabs": "https://api.elevenlabs.io",
}

# What each vendor's base URL already contains, and so what the rewrite must not repeat.
_IN_BASE_URL: Mapping[str, str] = {"openai": "/v1", "compatible": "/v1"}


@dataclass(frozen=True, slots=True)
class Vendor:
    """A vendor as egress reaches it."""

    name: str
    url: BaseUrl

    @property
    def calls(self) -> tuple[VendorCall, ...]:
        return VENDOR_CALLS[self.name]

    @property
    def prefix(self) -> str:
        return f"/{self.name}"

    @property
    def stripped(self) -> str:
        """The start of a path that the base URL's own path replaces."""
        return f"{self.prefix}{_IN_BASE_URL.get(self.name, '')}/"


def _vendor(name: str, url: str) -> Vendor:
    setting = f"PROVIDER_{name.upper()}_URL"
    return Vendor(name, read({setting: url}, setting, BaseUrl.parse))


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressSettings:
    """Everything that differs between two egress proxies.

    Raises ConfigurationRefused when it would make an unsafe one.
    """

    listen: Endpoint
    admin: Endpoint | Path
    keyvault: Endpoint  # its internal port
    urls: Mapping[str, str]  # vendor → base URL, as the official SDK takes it
    ca_bundle: Path | None = None  # needed as soon as one vendor is reached by https
    allow_plain_http: bool = False  # else only to loopback: a key must not cross a network in clear
    metrics: Endpoint | None = None
    access_log: Path | None = None  # None means stdout
    authorisation_timeout_seconds: float = 1.0
    stream_idle_seconds: int = 600  # longer than the timeouts of chat and voice

    def __post_init__(self) -> None:
        refuse_open_admin(self.admin)
        if self.urls.keys() | _OPTIONAL != VENDOR_CALLS.keys():
            raise ConfigurationRefused(f"one base URL for each of {sorted(DEFAULT_URLS)}")
        for vendor in self.vendors:
            self._refuse_unsafe(vendor)

    def _refuse_unsafe(self, vendor: Vendor) -> None:
        if vendor.url.tls and self.ca_bundle is None:
            raise ConfigurationRefused(
                "no certificate authorities found; name a file of them in EGRESS_CA_BUNDLE"
            )
        if not (vendor.url.tls or vendor.url.endpoint.is_loopback or self.allow_plain_http):
            raise ConfigurationRefused(
                f"PROVIDER_{vendor.name.upper()}_URL: keys would cross the network in clear; use "
                "https or, among your own machines, EGRESS_ALLOW_PLAIN_HTTP=1"
            )

    @property
    def vendors(self) -> tuple[Vendor, ...]:
        return tuple(_vendor(name, url) for name, url in self.urls.items())

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """Read the variables that compose and Kubernetes set."""
        optional = given(
            {
                "metrics": ("EGRESS_METRICS", Endpoint.parse),
                "access_log": ("EGRESS_ACCESS_LOG", Path),
                "authorisation_timeout_seconds": (
                    "EGRESS_AUTHORISATION_TIMEOUT_SECONDS",
                    patience_seconds,
                ),
                "stream_idle_seconds": ("EGRESS_STREAM_IDLE_SECONDS", seconds),
            },
            environ,
        )
        return cls(
            listen=read(environ, "EGRESS_LISTEN", Endpoint.parse, "127.0.0.1:8081"),
            admin=read(environ, "EGRESS_ADMIN", parse_admin, "127.0.0.1:9902"),
            keyvault=required(environ, "EGRESS_KEYVAULT"),
            urls={
                name: url
                for name in VENDOR_CALLS
                if (url := environ.get(f"PROVIDER_{name.upper()}_URL") or DEFAULT_URLS.get(name))
            },
            ca_bundle=find_ca_bundle(environ),
            allow_plain_http=flag(environ, "EGRESS_ALLOW_PLAIN_HTTP") or flag(environ, "SANDBOX"),
            **optional,
        )
