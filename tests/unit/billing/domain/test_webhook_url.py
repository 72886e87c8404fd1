"""What may be told: the public internet, and nothing of our own network."""

from __future__ import annotations

import pytest

from services.billing.domain.errors import WebhookUrlNotAllowed
from services.billing.domain.webhook_url import Target, may_be_told, read_url

PUBLIC = (
    "8.8.8.8",
    "2606:4700:4700::1111",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",  # 8.8.8.8 behind NAT64
)
PRIVATE = (
    *("127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255"),
    *("192.168.1.1", "169.254.169.254", "169.254.170.2", "100.64.0.1", "100.100.100.200"),
    *("192.0.0.192", "168.63.129.16", "192.0.2.1", "198.18.0.1", "198.51.100.7", "203.0.113.9"),
    *("224.0.0.1", "239.255.255.250", "233.252.0.1", "240.0.0.1", "255.255.255.255", "192.88.99.1"),
    *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1"),
    *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::1", "2001::1"),
    *("2001:db8::1", "2001:20::1", "3fff::1", "5f00::1", "100::1"),
    *("not-an-address", ""),
)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_told(address: str) -> None:
    assert may_be_told(address, allow_local=False)


@pytest.mark.parametrize("address", PRIVATE)
def test_no_other_address_is(address: str) -> None:
    assert not may_be_told(address, allow_local=False)


def test_a_local_run_reaches_its_own_machine_and_network_but_no_metadata() -> None:
    for address in ("127.0.0.1", "10.1.2.3", "::1", "fd12::1", "::ffff:127.0.0.1", "8.8.8.8"):
        assert may_be_told(address, allow_local=True), address
    for address in ("169.254.169.254", "fd00:ec2::254", "fe80::1", "100.100.100.200", "224.0.0.1"):
        assert not may_be_told(address, allow_local=True), address


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://hooks.example.com/a?b=c", Target("https", "hooks.example.com", 443)),
        ("https://hooks.example.com:8443", Target("https", "hooks.example.com", 8443)),
        ("https://HOOKS.example.com.", Target("https", "hooks.example.com", 443)),
        ("https://[2606:4700:4700::1111]/", Target("https", "2606:4700:4700::1111", 443)),
    ],
)
def test_a_good_url_says_where_to_connect(url: str, target: Target) -> None:
    assert read_url(url, allow_local=False) == target


@pytest.mark.parametrize(
    "url",
    [
        *("http://hooks.example.com", "ftp://hooks.example.com", "//hooks.example.com", "", "x"),
        *("https://", "https:///path", "https://user@example.com", "https://u:p@example.com"),
        *("https://example.com:22", "https://example.com:80", "https://example.com:0"),
        *("https://example.com:99999", "https://example.com:x", "https://example.com#part"),
        *(
            "https://127.0.0.1",
            "https://[::1]",
            "https://[::ffff:10.0.0.1]",
            "https://[fe80::1%25e]",
        ),
        *("https://169.254.169.254/latest", "https://exa mple.com", "https://exämple.com"),
        *("https://example.com\\@10.0.0.1/", "https://example.com/\r\nX: y", "https://[::1"),
        "https://example.com/" + "a" * 500,
    ],
)
def test_a_bad_one_is_refused(url: str) -> None:
    with pytest.raises(WebhookUrlNotAllowed):
        read_url(url, allow_local=False)


def test_plain_http_is_for_local_runs() -> None:
    assert read_url("http://127.0.0.1:3000/x", allow_local=True) == Target(
        "http", "127.0.0.1", 3000
    )
    with pytest.raises(WebhookUrlNotAllowed):
        read_url("http://127.0.0.1:25/x", allow_local=True)
