"""What Prometheus' operator is told: whom to scrape under which labels, and the rules."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from deploy.k8s.objects import PART_OF, Object, any_object

RULES = Path(__file__).resolve().parents[1] / "prometheus" / "rules"

_PORTS = {
    # And the older service's, where it is.
    "webs": (["web", "legacy"], "internal"),
    "background": (["worker", "beat", "relay"], "metrics"),
    "proxies": (["proxy"], "metrics"),
}
# By pods, not Services: a Service's name would come as the label `service`, which is ours.
_LABELS = {
    "process": "__meta_kubernetes_pod_label_app_kubernetes_io_name",
    "pool": "__meta_kubernetes_pod_label_pool",
    "kind": "__meta_kubernetes_pod_label_kind",
    "instance": "__meta_kubernetes_pod_name",
}


def pod_monitors() -> list[Object]:
    """One for each way of asking."""
    return [
        any_object(
            "PodMonitor",
            "monitoring.coreos.com/v1",
            f"companion-{name}",
            PART_OF,
            {
                "selector": {
                    "matchLabels": PART_OF,
                    "matchExpressions": [{"key": "kind", "operator": "In", "values": kinds}],
                },
                "podMetricsEndpoints": [
                    {
                        "port": port,
                        "path": "/metrics",
                        "interval": "15s",
                        "scrapeTimeout": "10s",
                        "relabelings": [
                            {"sourceLabels": [source], "targetLabel": target}
                            for target, source in _LABELS.items()
                        ],
                    }
                ],
            },
        )
        for name, (kinds, port) in _PORTS.items()
    ]


def rules(folder: Path = RULES) -> list[Object]:
    """The rules of deploy/prometheus, each file as one object."""
    return [
        any_object(
            "PrometheusRule",
            "monitoring.coreos.com/v1",
            f"companion-{name}",
            {**PART_OF, "role": "alert-rules"},
            {"groups": groups},
        )
        for name, groups in _rule_files(folder)
    ]


def _rule_files(folder: Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    for path in sorted(folder.glob("*.yml")):
        yield path.stem.replace("_", "-"), yaml.safe_load(path.read_text("utf-8"))["groups"]
