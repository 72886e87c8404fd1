"""From where somebody calls, as far as we can know."""

from __future__ import annotations

import ipaddress
from typing import Self

from shared.values import dataclass

_LONGEST_DEVICE = 200
_UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Origin:
    """A device, as it calls itself, and the client's address, as the gateway saw it."""

    device: str
    address: str

    @classmethod
    def of(cls, device: str, address: str) -> Self:
        """Without what can't be printed; an address that is none is kept as `unknown`."""
        printable = "".join(character for character in device if character.isprintable())
        try:
            known = str(ipaddress.ip_address(address.strip()))
        except ValueError:
            known = _UNKNOWN
        return cls(printable[:_LONGEST_DEVICE], known)

    @property
    def is_known(self) -> bool:
        """Whether there is an address that failures can be counted by."""
        return self.address != _UNKNOWN

    @property
    def network(self) -> str:
        """What one party can be expected to hold: an IPv4 address, or a /64 of IPv6."""
        try:
            address = ipaddress.ip_address(self.address)
        except ValueError:
            return self.address
        if isinstance(address, ipaddress.IPv6Address):
            if address.ipv4_mapped is not None:
                return str(address.ipv4_mapped)
            return str(ipaddress.ip_network((address, 64), strict=False))
        return str(address)


NOWHERE = Origin("", _UNKNOWN)
"""For what nobody asked for over a network: the clock, another service, the console."""
