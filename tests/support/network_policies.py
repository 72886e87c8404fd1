"""What NetworkPolicies come to: may this pod open a connection to that port there?

Understands what our manifests use of them, and refuses to judge anything else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Pod:
    """Somebody in the cluster."""

    name: str
    labels: Mapping[str, str] = field(hash=False)
    namespace: str

    @property
    def namespace_labels(self) -> dict[str, str]:
        """What every namespace has."""
        return {"kubernetes.io/metadata.name": self.namespace}


@dataclass(frozen=True, slots=True)
class Outside:
    """An address that is no pod's."""

    address: str


Party = Pod | Outside


class NotUnderstood(Exception):
    """A policy says something that this evaluation does not know."""


@dataclass(frozen=True, slots=True)
class Policies:
    """All policies of a cluster."""

    all: Sequence[Object]

    def allow(self, caller: Party, called: Party, port: int, protocol: str = "TCP") -> bool:
        """Both must: the caller's to go out, the called one's to be entered."""
        return self._allow("Egress", caller, called, port, protocol) and self._allow(
            "Ingress", called, caller, port, protocol
        )

    def _allow(self, way: str, pod: Party, other: Party, port: int, protocol: str) -> bool:
        if isinstance(pod, Outside):
            return True
        concerned = [one for one in self.all if _concerns(one, way, pod)]
        rules = [rule for one in concerned for rule in one["spec"].get(way.lower()) or []]
        peers = "to" if way == "Egress" else "from"
        return not concerned or any(
            _on_port(rule, port, protocol) and _among(rule.get(peers), other, pod.namespace)
            for rule in rules
        )


def _concerns(policy: Object, way: str, pod: Pod) -> bool:
    return (
        policy["metadata"]["namespace"] == pod.namespace
        and way in policy["spec"]["policyTypes"]
        and _selects(policy["spec"]["podSelector"], pod.labels)
    )


def _on_port(rule: Object, port: int, protocol: str) -> bool:
    ports = rule.get("ports")
    return ports is None or any(
        one["protocol"] == protocol and one["port"] <= port <= one.get("endPort", one["port"])
        for one in ports
    )


def _among(peers: Iterable[Object] | None, party: Party, namespace: str) -> bool:
    return peers is None or any(_is(peer, party, namespace) for peer in peers)


def _is(peer: Object, party: Party, namespace: str) -> bool:
    if unknown := peer.keys() - {"ipBlock", "podSelector", "namespaceSelector"}:
        raise NotUnderstood(str(unknown))
    if "ipBlock" in peer:
        return isinstance(party, Outside) and _in_block(peer["ipBlock"], party.address)
    if isinstance(party, Outside):
        return False
    in_namespace = (
        _selects(peer["namespaceSelector"], party.namespace_labels)
        if "namespaceSelector" in peer
        else party.namespace == namespace
    )
    return in_namespace and _selects(peer.get("podSelector", {}), party.labels)


def _in_block(block: Object, address: str) -> bool:
    at = ip_address(address)
    return at in ip_network(block["cidr"]) and not any(
        at in ip_network(but) for but in block.get("except", [])
    )


def _selects(selector: Object, labels: Mapping[str, str]) -> bool:
    if unknown := selector.keys() - {"matchLabels", "matchExpressions"}:
        raise NotUnderstood(str(unknown))
    wanted = selector.get("matchLabels", {}).items()
    return all(labels.get(name) == value for name, value in wanted) and all(
        _fits(one, labels) for one in selector.get("matchExpressions", [])
    )


def _fits(expression: Object, labels: Mapping[str, str]) -> bool:
    if expression["operator"] != "In":
        raise NotUnderstood(expression["operator"])
    return labels.get(expression["key"]) in expression["values"]
