"""Settings that would make an open or broken proxy are refused before there is one."""

import re
from pathlib import Path
from typing import Any

import pytest

from deploy.envoy.egress import DEFAULT_URLS
from deploy.envoy.endpoints import find_ca_bundle
from deploy.envoy.render import (
    BaseUrl,
    ConfigurationRefused,
    EgressSettings,
    Endpoint,
    GatewaySettings,
    Pool,
    main,
    render_egress,
    render_gateway,
)
from shared.settings.refused import EXIT_CODE

HERE = Endpoint("127.0.0.1", 9)
ENVIRONMENT = {
    "GATEWAY_AUTH": "auth:8000",
    "GATEWAY_AUTH_INTERNAL": "auth:8001",
    "GATEWAY_KEYVAULT": "keyvault:8000",
    "GATEWAY_BILLING": "billing:8000",
    "GATEWAY_CHAT": "chat:8000",
    "GATEWAY_CHAT_PRO": "chat-pro:8000",
    "GATEWAY_VOICE": "voice:8000",
}


def a_gateway(**changes: Any) -> GatewaySettings:
    good: dict[str, Any] = {
        "listen": HERE,
        "admin": HERE,
        "auth": HERE,
        "auth_internal": HERE,
        "keyvault": HERE,
        "billing": HERE,
        "pools": (Pool("free", HERE, HERE),),
        "token_issuer": "https://companion.invalid/auth",
        "token_audience": "companion",
    }
    return GatewaySettings(**(good | changes))


def an_egress(**changes: Any) -> EgressSettings:
    good: dict[str, Any] = {
        "listen": HERE,
        "admin": HERE,
        "keyvault": HERE,
        "urls": DEFAULT_URLS,
        "ca_bundle": Path("/some/authorities.pem"),
    }
    return EgressSettings(**(good | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"admin": Endpoint("0.0.0.0", 9901)},
        {"admin": Endpoint("envoy", 9901)},
        {"cors_origins": ("*",)},
        {"cors_origins": ("https://*.example",)},
        {"cors_origins": ("chrome-extension://.*",)},
        {"cors_origins": ("https://app.example/",)},
        {"cors_origins": ("https://app.example/path",)},
        {"cors_origins": ("null",)},
        {"cors_origins": ("app.example",)},
        {"legacy": BaseUrl.parse("https://legacy.example")},
        {"pools": ()},
        {"pools": (Pool("free", HERE, HERE), Pool("free", HERE, HERE))},
        {"pools": (Pool('free"}', HERE, HERE),)},
    ],
)
def test_an_unsafe_gateway_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationRefused):
        a_gateway(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"admin": Endpoint("10.0.0.1", 9901)},
        {"urls": {"openai": "https://api.openai.com/v1"}},
        {"urls": {**DEFAULT_URLS, "other": "https://api.other.example"}},
        {"urls": {**DEFAULT_URLS, "compatible": "http://models.example/v1"}},
        {"urls": {**DEFAULT_URLS, "openai": "http://api.openai.com/v1"}},
        {"urls": {**DEFAULT_URLS, "openai": "https://user:secret@api.openai.com/v1"}},
        {"urls": {**DEFAULT_URLS, "openai": "https://api.openai.com/v1?key=x"}},
        {"urls": {**DEFAULT_URLS, "openai": "https://api.openai.com/v1/../admin x"}},
        {"urls": {**DEFAULT_URLS, "openai": r"https://api.openai.com/\1"}},
        {"urls": {**DEFAULT_URLS, "openai": "ftp://api.openai.com/v1"}},
        {"ca_bundle": None},
    ],
)
def test_an_unsafe_egress_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationRefused):
        an_egress(**changes)


def test_a_vendor_in_clear_needs_loopback_or_consent() -> None:
    simulators = dict.fromkeys(DEFAULT_URLS, "http://127.0.0.1:9/x/v1")
    assert an_egress(urls=simulators, ca_bundle=None)
    elsewhere = dict.fromkeys(DEFAULT_URLS, "http://simulator:9/x/v1")
    assert an_egress(urls=elsewhere, ca_bundle=None, allow_plain_http=True)


def test_a_value_cannot_leave_its_place_in_the_configuration() -> None:
    text = render_gateway(a_gateway(token_issuer='x"\nadmin: {address: open}\n#'))
    assert "\nadmin: {address: open}" not in text


def test_the_environment_names_the_gateway() -> None:
    settings = GatewaySettings.from_environment(
        ENVIRONMENT
        | {
            "PORT": "8443",
            "CORS_ORIGINS": "chrome-extension://a, https://b.example",
            "SANDBOX": "1",
            "LEGACY_URL": "http://legacy:3000",
            "LEGACY_CHECKS_TOKENS": "1",
            "GATEWAY_ADMIN": "/run/admin.sock",
            "GATEWAY_METRICS": "0.0.0.0:9100",
            "GATEWAY_TRUSTED_PROXIES": "2",
            "GATEWAY_REMEMBERED_TOKENS": "70",
        },
        ("free", "pro"),
    )
    assert settings.listen == Endpoint("127.0.0.1", 8443)
    assert settings.pools == (
        Pool("free", Endpoint("chat", 8000), Endpoint("voice", 8000)),
        Pool("pro", Endpoint("chat-pro", 8000), Endpoint("voice", 8000)),
    )
    assert settings.cors_origins == ("chrome-extension://a", "https://b.example")
    assert settings.legacy == BaseUrl("http", Endpoint("legacy", 3000), "")
    assert settings.legacy_checks_tokens
    assert (settings.sandbox, settings.trusted_proxies) == (True, 2)
    assert settings.remembered_tokens == 70
    assert settings.admin == Path("/run/admin.sock")
    assert settings.metrics == Endpoint("0.0.0.0", 9100)


@pytest.mark.parametrize("missing", sorted(ENVIRONMENT.keys() - {"GATEWAY_CHAT_PRO"}))
def test_a_missing_service_is_named(missing: str) -> None:
    environment = {name: value for name, value in ENVIRONMENT.items() if name != missing}
    with pytest.raises(ConfigurationRefused, match=missing):
        GatewaySettings.from_environment(environment, ("free", "pro"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("GATEWAY_TRUSTED_PROXIES", "many"),
        ("GATEWAY_METRICS", "everywhere"),
        ("LEGACY_URL", "legacy:3000"),
        ("GATEWAY_AUTH", "auth"),
        ("PORT", "eighty"),
        ("GATEWAY_LISTEN", "[::1"),
        ("GATEWAY_ADMIN", "10.0.0.7:9901"),
        ("GATEWAY_MAX_CONNECTIONS", "-1"),
        ("GATEWAY_MAX_CONNECTIONS", "0"),
        ("GATEWAY_CONNECTION_SHARES", "0"),
        ("GATEWAY_CONNECTION_SHARES", "17"),
        ("GATEWAY_HEAP_MEBIBYTES", "0"),
        ("GATEWAY_IDLE_SECONDS", "0"),
        ("GATEWAY_SHIELD_REQUESTS_PER_SECOND", "0"),
        ("GATEWAY_SHIELD_SOCKETS_PER_SECOND", "0"),
        ("GATEWAY_REMEMBERED_TOKENS", "all"),
        ("GATEWAY_REMEMBERED_TOKENS", "20001"),
        ("GATEWAY_JWKS_CACHE_SECONDS", "0"),
        ("GATEWAY_JWKS_CACHE_SECONDS", "86401"),
        ("GATEWAY_TRUSTED_PROXIES", "99999999999"),
        ("GATEWAY_SHIELD_REQUESTS_PER_SECOND", "99999999999"),
        ("GATEWAY_SHIELD_SOCKETS_PER_SECOND", "2147483648"),
        ("GATEWAY_MAX_CONNECTIONS", "99999999999999999999"),
        ("GATEWAY_HEAP_MEBIBYTES", "99999999999"),
        *(
            (f"GATEWAY_{time}_SECONDS", "99999999999999999999")
            for time in ("IDLE", "UPLOAD", "ANSWER_TIMEOUT", "FILE", "STREAM_IDLE")
        ),
        ("CORS_ORIGINS", "https://*.example"),
        ("SANDBOX", "perhaps"),
    ],
)
def test_a_variable_that_makes_no_sense_is_named_and_not_repeated(name: str, text: str) -> None:
    with pytest.raises(ConfigurationRefused, match=rf"^{name}\b(?!.*{re.escape(text)})"):
        GatewaySettings.from_environment(ENVIRONMENT | {name: text}, ("free",))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(
            ("EGRESS_AUTHORISATION_TIMEOUT_SECONDS", text)
            for text in ("-1", "0", "0.01", "61", "nan", "inf", "1e20", "soon")
        ),
        ("EGRESS_STREAM_IDLE_SECONDS", "-1"),
        ("EGRESS_STREAM_IDLE_SECONDS", "86401"),
    ],
)
def test_a_time_of_the_egress_that_envoy_could_not_hold_is_named(name: str, text: str) -> None:
    environment = {"EGRESS_KEYVAULT": "keyvault:8001", "EGRESS_CA_BUNDLE": "/a.pem", name: text}
    with pytest.raises(ConfigurationRefused, match=rf"^{name}: it must be"):
        EgressSettings.from_environment(environment)


def test_a_time_is_rendered_as_envoy_reads_it() -> None:
    environment = {"EGRESS_KEYVAULT": "keyvault:8001", "EGRESS_CA_BUNDLE": "/a.pem"}
    name = "EGRESS_AUTHORISATION_TIMEOUT_SECONDS"
    text = render_egress(EgressSettings.from_environment({**environment, name: "0.2500000001"}))
    assert "timeout: 0.25s" in text


def test_the_environment_names_the_vendors() -> None:
    settings = EgressSettings.from_environment(
        {
            "EGRESS_KEYVAULT": "keyvault:8001",
            "EGRESS_LISTEN": "0.0.0.0:8080",
            "EGRESS_CA_BUNDLE": "/etc/authorities.pem",
            "PROVIDER_GEMINI_URL": "https://gemini.example/base",
        }
    )
    assert settings.urls == {**DEFAULT_URLS, "gemini": "https://gemini.example/base"}
    assert settings.ca_bundle == Path("/etc/authorities.pem")
    text = render_egress(settings)
    assert 'sni: "api.openai.com"' in text
    assert 'filename: "/etc/authorities.pem"' in text


def test_an_operators_own_server_is_reached_only_where_there_is_one() -> None:
    given = {"EGRESS_KEYVAULT": "keyvault:8001", "EGRESS_CA_BUNDLE": "/etc/authorities.pem"}
    assert "compatible" not in render_egress(EgressSettings.from_environment(given))
    for url, base in (
        ("http://127.0.0.1:11434/v1", "/v1/"),
        ("https://llm.example/a/v1", "/a/v1/"),
    ):
        settings = EgressSettings.from_environment(given | {"PROVIDER_COMPATIBLE_URL": url})
        assert settings.urls == {**DEFAULT_URLS, "compatible": url}
        text = render_egress(settings)
        assert "/compatible/v1/chat/completions" in text
        assert f'pattern: {{regex: "^/compatible/v1/"}}, substitution: "{base}"' in text


def test_some_certificate_authorities_are_found() -> None:
    found = find_ca_bundle({})
    assert found is None or found.is_file()
    assert find_ca_bundle({"SSL_CERT_FILE": "/named"}) == Path("/named")


def test_the_command_prints_a_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gateway"], ENVIRONMENT) == 0
    printed = capsys.readouterr().out
    assert "chat-enterprise" in printed
    assert main(["egress"], {"EGRESS_KEYVAULT": "keyvault:8001", "EGRESS_CA_BUNDLE": "/a"}) == 0
    assert "text-to-speech" in capsys.readouterr().out
    assert main(["gateway"], {}) == EXIT_CODE
    assert "GATEWAY_AUTH" in capsys.readouterr().err
    assert main([], {}) == 2


@pytest.mark.parametrize("proxy", ["gateway", "egress"])
def test_a_setting_that_nobody_knows_is_told_or_stops_the_start(
    capsys: pytest.CaptureFixture[str], proxy: str
) -> None:
    needed = ENVIRONMENT | {"EGRESS_KEYVAULT": "keyvault:8001", "EGRESS_CA_BUNDLE": "/a"}
    misspelt = needed | {"GATEWAY_IDLE_SECOND": "75", "GATEWAY_SERVICE_HOST": "10.0.0.1"}
    assert main([proxy], needed) == 0
    assert capsys.readouterr().err == ""
    assert main([proxy], misspelt) == 0
    said = capsys.readouterr()
    assert said.out
    assert said.err == "unknown settings: GATEWAY_IDLE_SECOND (GATEWAY_IDLE_SECONDS?)\n"
    assert main([proxy], misspelt | {"COMPANION_STRICT_SETTINGS": "1"}) == EXIT_CODE
    said = capsys.readouterr()
    assert not said.out
    assert "GATEWAY_IDLE_SECOND " in said.err


@pytest.mark.parametrize("text", ["auth", "auth:", ":80", "auth:80/x", "u@auth:80", "auth:99999"])
def test_an_endpoint_is_a_host_and_a_port(text: str) -> None:
    with pytest.raises(ConfigurationRefused):
        Endpoint.parse(text)


def test_an_endpoint_may_be_an_ipv6_address() -> None:
    assert str(Endpoint.parse("[::1]:80")) == "[::1]:80"
    assert BaseUrl.parse("https://[::1]/v1").authority == "[::1]"
    assert BaseUrl.parse("https://a.example:8443/v1/").authority == "a.example:8443"


def test_a_replica_on_another_machine_that_is_gone_without_a_word_is_noticed() -> None:
    elsewhere = Endpoint("chat-free", 8000)
    named = render_gateway(a_gateway(pools=(Pool("free", elsewhere, HERE),)))
    (cluster,) = re.findall(r"- name: chat-free\n +cluster_type:.*?\n  - name: ", named, re.DOTALL)
    assert "tcp_keepalive: {keepalive_time: 10, keepalive_interval: 5" in cluster
    assert "{level: 6, name: 18, int_value: 20000" in cluster
    # On this machine the kernel knows, and what isn't Linux has another number for it.
    assert "tcp_keepalive" not in render_gateway(a_gateway())
