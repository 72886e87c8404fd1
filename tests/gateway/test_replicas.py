"""Where the servers are names, each may be several, come and go; where they are addresses, one."""

from pathlib import Path
from typing import Any

import yaml

from deploy.envoy.egress import DEFAULT_URLS, EgressSettings
from deploy.envoy.endpoints import Endpoint
from deploy.envoy.gateway import GatewaySettings, Pool
from deploy.envoy.render import render_egress, render_gateway
from tests.gateway.conftest import TIERS, a_workplace, room
from tests.gateway.servers import serving
from tests.gateway.tokens import a_token, bearer

ADMIN = Endpoint("127.0.0.1", 9901)


def gateway_at(host: str) -> Any:
    def at(port: int) -> Endpoint:
        return Endpoint(host, port)

    settings = GatewaySettings(
        listen=Endpoint("0.0.0.0", 8080),
        admin=ADMIN,
        auth=at(1),
        auth_internal=at(2),
        keyvault=at(3),
        billing=at(4),
        pools=tuple(Pool(tier, chat=at(5), voice=at(6)) for tier in TIERS),
        token_issuer="https://companion.invalid/auth",
        token_audience="companion",
    )
    return yaml.safe_load(render_gateway(settings))


def clusters(config: Any) -> dict[str, Any]:
    return {one["name"]: one for one in config["static_resources"]["clusters"]}


def retries(config: Any) -> Any:
    chain = config["static_resources"]["listeners"][0]["filter_chains"][0]
    manager = chain["filters"][-1]["typed_config"]
    return manager["route_config"]["virtual_hosts"][0]["retry_policy"]


def test_a_name_is_asked_for_again_each_second_and_only_who_listens_is_sent_to() -> None:
    found = clusters(gateway_at("chat.internal"))
    assert {"auth", "jwks", "personal-tokens", "keyvault", "billing", "chat-pro"} < set(found)
    for cluster in found.values():
        discovery = cluster["cluster_type"]["typed_config"]
        assert discovery["dns_refresh_rate"] == "1s"
        (check,) = cluster["health_checks"]
        assert check["tcp_health_check"] == {}
        assert check["interval"] == check["no_traffic_interval"] == "1s"
        # With less than half of a pool there, the default would send to all of it.
        assert cluster["common_lb_config"]["healthy_panic_threshold"]["value"] == 1


def test_an_address_is_left_alone() -> None:
    for cluster in clusters(gateway_at("127.0.0.1")).values():
        assert cluster["type"] == "STATIC"
        assert not {"cluster_type", "health_checks", "common_lb_config"} & set(cluster)


def test_what_never_left_the_gateway_is_sent_to_a_replica_whatever_it_is() -> None:
    named, fixed = retries(gateway_at("chat.internal")), retries(gateway_at("127.0.0.1"))
    assert (
        named["retry_on"]
        == fixed["retry_on"]
        == ("connect-failure,refused-stream,reset-before-request")
    )
    assert "retriable_request_headers" not in named
    assert fixed["retriable_request_headers"][0]["string_match"] == {"exact": "GET"}


def test_the_egress_follows_keyvault_too(tmp_path: Path) -> None:
    settings = EgressSettings(
        listen=Endpoint("0.0.0.0", 8081),
        admin=ADMIN,
        keyvault=Endpoint("keyvault", 8001),
        urls=DEFAULT_URLS,
        ca_bundle=tmp_path / "ca.crt",
    )
    keyvault = clusters(yaml.safe_load(render_egress(settings)))["keyvault"]
    assert keyvault["cluster_type"]["typed_config"]["dns_refresh_rate"] == "1s"
    assert keyvault["health_checks"]


async def test_servers_that_are_names_are_reached(short_directory: Path) -> None:
    async with a_workplace() as workplace, serving("replica") as server:
        named = Endpoint("localhost", server.endpoint.port)
        gateway = await workplace.gateway(
            room(short_directory, "named"),
            pools=tuple(Pool(tier, chat=named, voice=named) for tier in TIERS),
        )
        token = a_token(gateway.key, tier="pro")
        answer = await gateway.send("/chat/sessions", method="POST", headers=bearer(token))
        assert answer.status == 200
        assert server.last.method == "POST"
