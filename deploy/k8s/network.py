"""NetworkPolicies out of the list of calls: everything is denied, then each group gets its own."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any

from deploy.k8s.calls import (
    GATEWAY,
    GATEWAY_PORT,
    NAMES,
    POSTGRES,
    PUBLIC_ADDRESSES,
    RABBITMQ,
    VALKEY,
    Group,
    Ports,
    calls,
    calls_outside,
    own_groups,
)
from deploy.k8s.objects import PART_OF, Object


def policies() -> list[Object]:
    """Of our own pods."""
    return [_deny_all(), _find_names(), *map(_of_group, own_groups())]


def engine_policies() -> list[Object]:
    """Of engines that run beside us: only who needs one reaches it, and it reaches nobody."""
    return [_of_group(engine) for engine in (POSTGRES, VALKEY, RABBITMQ)]


def _deny_all() -> Object:
    return _policy("deny-all", {}, {"policyTypes": ["Ingress", "Egress"]})


def _find_names() -> Object:
    ports = [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]
    rule = {"to": [_peer(NAMES)], "ports": ports}
    return _policy("find-names", PART_OF, {"policyTypes": ["Egress"], "egress": [rule]})


def _of_group(group: Group) -> Object:
    rules = {
        "ingress": [*_from_everywhere(group), *_heard(group)],
        "egress": [*_asked(group), *_asked_outside(group)],
    }
    # An empty list is not kept by a cluster: `kubectl diff` would tell of it for ever.
    told = {direction: found for direction, found in rules.items() if found}
    return _policy(group.name, dict(group.labels), {"policyTypes": ["Ingress", "Egress"], **told})


def _from_everywhere(group: Group) -> list[Object]:
    return [{"ports": [_port(Ports(GATEWAY_PORT))]}] if group == GATEWAY else []


def _heard(group: Group) -> list[Object]:
    found = [(call.port, call.caller) for call in calls() if call.called == group]
    return [
        {"from": [_peer(peer) for _, peer in peers], "ports": [_port(Ports(port))]}
        for port, peers in _by_port(found)
    ]


def _asked(group: Group) -> list[Object]:
    found = [(call.port, call.called) for call in calls() if call.caller == group]
    return [
        {"to": [_peer(peer) for _, peer in peers], "ports": [_port(Ports(port))]}
        for port, peers in _by_port(found)
    ]


def _by_port(found: list[tuple[int, Group]]) -> Iterable[tuple[int, Iterable[tuple[int, Group]]]]:
    return groupby(sorted(found, key=lambda one: (one[0], one[1].name)), key=lambda one: one[0])


def _asked_outside(group: Group) -> list[Object]:
    ports = [_port(call.ports) for call in calls_outside() if call.caller == group]
    if not ports:
        return []
    blocks = [
        {"ipBlock": {"cidr": block, "except": list(but)}} for block, but in PUBLIC_ADDRESSES.items()
    ]
    return [{"to": blocks, "ports": ports}]


def _peer(group: Group) -> Object:
    pods = {"podSelector": {"matchLabels": dict(group.labels)}}
    if group.namespace is None:
        return pods
    return {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": group.namespace}},
        **pods,
    }


def _port(ports: Ports) -> Object:
    until = {"endPort": ports.last} if ports.last else {}
    return {"protocol": "TCP", "port": ports.first, **until}


def _policy(name: str, selected: dict[str, str], spec: dict[str, Any]) -> Object:
    labels = {"matchLabels": selected} if selected else {}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "labels": PART_OF},
        "spec": {"podSelector": labels, **spec},
    }
