"""Who counts as one party, and what is kept of how a device calls itself."""

from __future__ import annotations

import pytest

from services.auth.domain.origin import NOWHERE, Origin


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        (" 192.0.2.7 ", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:0:1::7", "2001:db8:0:1::/64"),
        ("2001:db8:0:1:ffff::8", "2001:db8:0:1::/64"),
        ("2001:db8:0:2::7", "2001:db8:0:2::/64"),
        ("2001:db8:0:3::7", "2001:db8:0:3::/64"),
        ("no address", "unknown"),
        ("", "unknown"),
    ],
)
def test_a_party_is_an_address_or_a_network_of_the_new_kind(address: str, network: str) -> None:
    assert Origin.of("", address).network == network


def test_failures_are_counted_by_known_addresses_only() -> None:
    assert Origin.of("", "192.0.2.7").is_known
    assert not Origin.of("", "192.0.2.7, 192.0.2.8").is_known
    assert not NOWHERE.is_known
    assert NOWHERE.network == "unknown"


def test_a_device_is_kept_without_what_can_not_be_printed_and_cut() -> None:
    assert Origin.of("A\x00 \x1b[31mbrowser\r\n", "192.0.2.7").device == "A [31mbrowser"
    assert len(Origin.of("x" * 999, "192.0.2.7").device) == 200
