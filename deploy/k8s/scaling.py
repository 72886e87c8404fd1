"""Who gets more replicas when: one ScaledObject or autoscaler for each process that may have many.

Each tier scales by its own numbers, so that a burst of one neither waits for nor feeds on another.
The names of metrics are those of docs/metrics.md, their labels `process` and `pool` come from
scraping (monitoring.py).
"""

from __future__ import annotations

from deploy.k8s.calls import MONITORING
from deploy.k8s.objects import Object, any_object, labels_of
from deploy.k8s.processes import Kind, Process, processes
from shared.tiers import Tier
from shared.values import dataclass

PROMETHEUS_URL = f"http://prometheus-operated.{MONITORING}.svc:9090"

VOICE_ROUTES = ("/voice/engines", "/voice/voices/{voice_id}/settings")
"""Routes whose time is ours alone: a speech's is its vendor's, and no replica of ours makes that
faster. Chat measures by itself how long it takes to let a turn in."""

_ASK_SECONDS = 15
_LATENCY_SECONDS = 0.25
_LATENCY_COUNTS_FROM = 0.5
"""Latency means too few replicas only where they are busy; otherwise it is a slow database's, and
more replicas would make that worse. As a part of the target in flight."""
_EVENTS_PER_WORKER = 20_000
"""Of usage, in the ledger's own count: some seconds of work (docs/capacity.md)."""
_MESSAGES_PER_WORKER = 100
"""Of other facts, as the broker tells: each holds up to 500 of them."""
_OLDEST_SECONDS = 30.0
_FAILURES_UNTIL_FALLBACK = 3
_MOST_OF_REQUEST = 240
"""Percent of the CPU that a pod asks for, which is a quarter of what it may take: so 60 of that."""
_ON_EVERY_TURN = "keyvault"
_SOCKETS_PER_REQUEST = 10
"""An open socket mostly waits: so many count as one request."""


@dataclass(frozen=True, slots=True)
class Range:
    """How few and how many."""

    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Question:
    """What Prometheus is asked, and what answer is right.

    `shared`: the answer grows with the work, so each replica may have `target` of it. Otherwise it
    is how well all do together, and replicas grow as it exceeds `target`.
    """

    name: str
    query: str
    target: float
    shared: bool


def range_of(process: Process) -> Range:
    """Who pays is never served by one pod alone, and what all tiers pass through has room for a
    burst of one of them: with two of each, that burst would make the others wait."""
    if scales_by_cpu(process):
        on_every_turn = process.kind is Kind.PROXY or process.service == _ON_EVERY_TURN
        return Range(4, 20) if on_every_turn else Range(2, 10)
    if process.kind is Kind.WORKER:
        return Range(_least(process.tier), 10 if process.tier else 4)
    return Range(_least(process.tier), 20)


def in_flight_target(tier: Tier) -> int:
    """Requests at once per replica: a larger tier's replicas are kept emptier."""
    return max(40, 150 - 45 * tier.rank)


def scaled_objects() -> list[Object]:
    """Of pools and workers."""
    return [_scaled(process) for process in processes() if questions_of(process)]


def autoscalers() -> list[Object]:
    """Of processes that all tiers share; what they do is bounded by the core."""
    return [_by_cpu(process) for process in processes() if scales_by_cpu(process)]


def scales_by_cpu(process: Process) -> bool:
    """Proxies and services without pools."""
    return process.kind is Kind.PROXY or (process.kind is Kind.WEB and not process.is_pool)


def questions_of(process: Process) -> list[Question]:
    """By what a process scales; nothing for those that don't."""
    if process.is_pool:
        return [_in_flight(process), _latency(process)]
    if process.kind is Kind.WORKER:
        return _of_ledger(process) if process.tier else _of_queues(process)
    return []


def _least(tier: Tier | None) -> int:
    return 2 if tier and tier.rank > 0 else 1


def _in_flight(process: Process) -> Question:
    assert process.tier is not None
    of_process = f'{{process="{process.name}"}}'
    return Question(
        "in-flight",
        f"sum(companion_http_requests_in_flight{of_process})"
        f" + sum(companion_open_sockets{of_process}) / {_SOCKETS_PER_REQUEST}",
        in_flight_target(process.tier),
        shared=True,
    )


def _latency(process: Process) -> Question:
    assert process.tier is not None
    of_process = f'process="{process.name}"'
    seconds = {
        "chat": f"companion_chat_admission_seconds_bucket{{{of_process}}}",
        "voice": "companion_http_request_seconds_bucket"
        f'{{{of_process},route=~"{"|".join(VOICE_ROUTES)}"}}',
    }[process.service]
    busy = round(in_flight_target(process.tier) * _LATENCY_COUNTS_FROM)
    return Question(
        "latency-p95",
        f"({_p95(seconds)}"
        f" and on () avg(companion_http_requests_in_flight{{{of_process}}}) > {busy})"
        " or vector(0)",
        _LATENCY_SECONDS,
        shared=False,
    )


def _p95(buckets: str) -> str:
    """Of nothing it is no number; compared with 0 it is nothing."""
    return f"histogram_quantile(0.95, sum by (le) (rate({buckets}[2m]))) > 0"


def _of_ledger(process: Process) -> list[Question]:
    """Usage of a tier, counted by what was committed and what is in the ledger: a broker that lost
    a message hides nothing. Of a tier that nobody has used yet there are no numbers, and that is
    nothing as long as another number of the same rules is there: a Prometheus without our rules
    has to be noticed."""
    assert process.tier is not None
    queue = f'{{queue="{process.service}.usage.{process.tier.name}"}}'
    none_yet = "group(companion:ledger_late) * 0"
    return [
        Question(
            "waiting",
            f"sum(companion_queue_messages{queue}) or {none_yet}",
            _EVENTS_PER_WORKER,
            shared=True,
        ),
        Question(
            "oldest",
            f"max(companion_queue_oldest_seconds{queue}) or {none_yet}",
            _OLDEST_SECONDS,
            shared=False,
        ),
    ]


def _of_queues(process: Process) -> list[Question]:
    """Facts of all tiers: what the broker holds, and how old they are when they have been handled.
    A broker that nobody watches leaves the second one. Neither is nothing while none of our own
    pods is scraped: then the number is missing."""
    ages = f'companion_event_age_seconds_bucket{{process="{process.name}"}}'
    nothing = f'group(up{{process="{process.name}"}} == 1) * 0'
    return [
        Question(
            "waiting",
            f'sum(companion_queue_messages{{queue=~"{process.service}[.].+"}}) or {nothing}',
            _MESSAGES_PER_WORKER,
            shared=True,
        ),
        Question("oldest", f"{_p95(ages)} or {nothing}", _OLDEST_SECONDS, shared=False),
    ]


def _scaled(process: Process) -> Object:
    replicas = range_of(process)
    return any_object(
        "ScaledObject",
        "keda.sh/v1alpha1",
        process.name,
        labels_of(process),
        {
            "scaleTargetRef": _deployment_of(process),
            "minReplicaCount": replicas.least,
            "maxReplicaCount": replicas.most,
            "pollingInterval": _ASK_SECONDS,
            # Before the step to zero, which nobody takes here; how fast others go says `_pace`.
            "cooldownPeriod": 300,
            # Without Prometheus nobody loses a replica.
            "fallback": {
                "failureThreshold": _FAILURES_UNTIL_FALLBACK,
                "replicas": replicas.least + 1,
                "behavior": "currentReplicasIfHigher",
            },
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": _pace()}},
            "triggers": [_trigger(question) for question in questions_of(process)],
        },
    )


def _trigger(question: Question) -> Object:
    return {
        "type": "prometheus",
        "name": question.name,
        "metricType": "AverageValue" if question.shared else "Value",
        "metadata": {
            "serverAddress": PROMETHEUS_URL,
            "query": question.query,
            "threshold": f"{question.target:g}",
            # Numbers that are missing are not zero.
            "ignoreNullValues": "false",
        },
    }


def _by_cpu(process: Process) -> Object:
    replicas = range_of(process)
    return any_object(
        "HorizontalPodAutoscaler",
        "autoscaling/v2",
        process.name,
        labels_of(process),
        {
            "scaleTargetRef": _deployment_of(process),
            "minReplicas": replicas.least,
            "maxReplicas": replicas.most,
            "behavior": _pace(),
            "metrics": [
                {
                    "type": "Resource",
                    "resource": {
                        "name": "cpu",
                        "target": {"type": "Utilization", "averageUtilization": _MOST_OF_REQUEST},
                    },
                }
            ],
        },
    )


def _deployment_of(process: Process) -> Object:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "name": process.name}


def _pace() -> Object:
    """Up at once and by as much again; down by little, once five minutes were calm. Workers finish
    what they have in hand before they go."""
    return {
        "scaleUp": {
            "stabilizationWindowSeconds": 0,
            "selectPolicy": "Max",
            "policies": [
                {"type": "Percent", "value": 100, "periodSeconds": 30},
                {"type": "Pods", "value": 2, "periodSeconds": 30},
            ],
        },
        "scaleDown": {
            "stabilizationWindowSeconds": 300,
            "selectPolicy": "Min",
            "policies": [
                {"type": "Percent", "value": 25, "periodSeconds": 60},
                {"type": "Pods", "value": 2, "periodSeconds": 60},
            ],
        },
    }
