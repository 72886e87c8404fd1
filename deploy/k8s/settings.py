"""What each process is told: files of settings, one ConfigMap each, and which process gets which.

Overlays merge files of the same names over these.
"""

from __future__ import annotations

import json

from deploy.companion.deployment import OWN_FILES
from deploy.companion.programs import POOLED, SERVICES
from deploy.companion.settings import VENDOR_URLS
from deploy.k8s.calls import EGRESS_PORT, GATEWAY_PORT, PROXY_METRICS_PORT
from deploy.k8s.processes import Kind, Process, processes, tiers
from shared.launch import PUBLIC_PORT
from shared.probe import INTERNAL_PORT

SECRETS, CONFIG = "/run/secrets", "/config"
"""Where a service's secrets are, and a proxy's rendered configuration."""

ENGINES = ("database", "cache", "broker")
ADMIN_PORTS = {"gateway": 9901, "egress": 9902}
"""Of loopback; what drains an Envoy asks there."""

_UNPAID_PER_SECOND = 80
_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"


def engine_files(*engines: str) -> dict[str, str]:
    """Where a process finds the addresses of these engines, with who it is there."""
    return {f"{name.upper()}_URL_FILE": f"{SECRETS}/{name}_url" for name in engines}


def config_maps() -> dict[str, dict[str, str]]:
    """All files of settings by their names."""
    return {
        "suite": {
            "TOKEN_ISSUER": "https://companion.invalid/auth",
            "TOKEN_AUDIENCE": "companion",
            "SANDBOX": "0",
        },
        "common": {
            "COMPANION_ENVIRONMENT": "production",
            "LOG_LEVEL": "info",
            **engine_files(*ENGINES),
        },
        "vendors": dict(VENDOR_URLS),
        **{service: _of_service(service) for service in SERVICES},
        "gateway": _of_gateway(),
        "egress": _of_egress(),
    }


def config_maps_of(process: Process) -> list[str]:
    """The names of those that a process gets."""
    match process.kind:
        case Kind.PROXY:
            vendors = ["vendors"] if process.service == "egress" else []
            return ["suite", *vendors, process.name]
        case Kind.RELAY:
            return ["common"]
        case Kind.PREPARE:
            # Of its own: it comes before what the rest of a rollout says.
            return ["prepare"]
        case _:
            vendors = ["vendors"] if process.service == "keyvault" else []
            return ["suite", "common", *vendors, process.service]


def internal_url(name: str) -> str:
    """Where a service is asked by others."""
    return f"http://{name}:{INTERNAL_PORT}"


def _of_service(service: str) -> dict[str, str]:
    return {
        "JWKS_URL": f"http://auth:{PUBLIC_PORT}/.well-known/jwks.json",
        "IDENTITY_KEY_FILE": f"{SECRETS}/identity.pem",
        "IDENTITY_TRUST_FILE": f"{SECRETS}/identities.json",
        **{name: f"{SECRETS}/{file}" for name, file in OWN_FILES[service].items()},
        **_peers(service),
        **(_paces() if service == "chat" else {}),
    }


def _paces() -> dict[str, str]:
    """The tier that nobody pays for begins no more turns a second on a replica than its core is
    meant for (docs/capacity.md). That is beyond where its pool grows, so it is for bursts alone:
    they wait in front of what all tiers share."""
    unpaid = [tier.name for tier in tiers() if not tier.is_paid]
    return {"CHAT_TURNS_PER_SECOND": ",".join(f"{name}={_UNPAID_PER_SECOND}" for name in unpaid)}


def _peers(service: str) -> dict[str, str]:
    if service != "auth":
        egress = {"EGRESS_URL": f"http://egress:{EGRESS_PORT}"} if service in POOLED else {}
        asked = {} if service == "chat" else {"AUTH_INTERNAL_URL": internal_url("auth")}
        return egress | asked
    webs = [one for one in processes() if one.kind is Kind.WEB and one.service != "auth"]
    return {
        **{
            f"{other.upper()}_INTERNAL_URL": internal_url(other)
            for other in SERVICES
            if other != "auth"
        },
        "AUTH_PEERS_HEALTH": json.dumps(
            {one.name: f"{internal_url(one.name)}/readyz" for one in webs}
        ),
    }


def _of_gateway() -> dict[str, str]:
    return {
        "GATEWAY_LISTEN": f"0.0.0.0:{GATEWAY_PORT}",
        "GATEWAY_METRICS": f"0.0.0.0:{PROXY_METRICS_PORT}",
        "GATEWAY_ADMIN": f"127.0.0.1:{ADMIN_PORTS['gateway']}",
        "GATEWAY_HEAP_MEBIBYTES": "800",  # of the 1024 that its container may have
        "GATEWAY_AUTH": pods("auth", PUBLIC_PORT),
        "GATEWAY_AUTH_INTERNAL": pods("auth", INTERNAL_PORT),
        "GATEWAY_KEYVAULT": pods("keyvault", PUBLIC_PORT),
        "GATEWAY_BILLING": pods("billing", PUBLIC_PORT),
        **{
            f"GATEWAY_{service.upper()}_{tier.name.upper()}": pods(
                f"{service}-{tier.name}", PUBLIC_PORT
            )
            for service in POOLED
            for tier in tiers()
        },
    }


def _of_egress() -> dict[str, str]:
    return {
        "EGRESS_LISTEN": f"0.0.0.0:{EGRESS_PORT}",
        "EGRESS_METRICS": f"0.0.0.0:{PROXY_METRICS_PORT}",
        "EGRESS_ADMIN": f"127.0.0.1:{ADMIN_PORTS['egress']}",
        "EGRESS_KEYVAULT": pods("keyvault", INTERNAL_PORT),
        "EGRESS_CA_BUNDLE": _AUTHORITIES,
    }


def pods(name: str, port: int) -> str:
    """The pods themselves: Envoy knows each one, and spreads requests, not connections."""
    return f"{name}-pods:{port}"
