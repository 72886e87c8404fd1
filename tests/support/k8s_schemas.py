"""Schemas of the two kinds that others define, as far as we use them: KEDA's ScaledObject and, of
Prometheus' operator, PodMonitor and PrometheusRule.

Written after the definitions that KEDA 2.20 and the operator 0.93 install, of which they allow the
fields that our manifests have and no others.
"""

from __future__ import annotations

from typing import Any

from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it has no types

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string", "minLength": 1}
_DURATION: Schema = {
    "type": "string",
    "pattern": r"^(0|(([0-9]+)y)?(([0-9]+)w)?(([0-9]+)d)?(([0-9]+)h)?(([0-9]+)m)?(([0-9]+)s)?"
    r"(([0-9]+)ms)?)$",
}
_TEXTS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}


def _number(least: int) -> Schema:
    return {"type": "integer", "minimum": least, "maximum": 2**31 - 1}


def _object(required: dict[str, Schema], **optional: Schema) -> Schema:
    return {
        "type": "object",
        "required": sorted(required),
        "properties": {**required, **optional},
        "additionalProperties": False,
    }


def _list(items: Schema, *, least: int = 0) -> Schema:
    return {"type": "array", "items": items, "minItems": least}


def _kind(kind: str, version: str, spec: Schema) -> Schema:
    metadata = _object({"name": _TEXT}, namespace=_TEXT, labels=_TEXTS, annotations=_TEXTS)
    return _object(
        {
            "apiVersion": {"const": version},
            "kind": {"const": kind},
            "metadata": metadata,
            "spec": spec,
        }
    )


_PACE = _object(
    {},
    stabilizationWindowSeconds={"type": "integer", "minimum": 0, "maximum": 3600},
    selectPolicy={"enum": ["Max", "Min", "Disabled"]},
    policies=_list(
        _object(
            {
                "type": {"enum": ["Percent", "Pods"]},
                "value": _number(1),
                "periodSeconds": {"type": "integer", "minimum": 1, "maximum": 1800},
            }
        ),
        least=1,
    ),
)

SCALED_OBJECT = _kind(
    "ScaledObject",
    "keda.sh/v1alpha1",
    _object(
        {
            "scaleTargetRef": _object({"name": _TEXT}, apiVersion=_TEXT, kind=_TEXT),
            "triggers": _list(
                _object(
                    {
                        "type": {"const": "prometheus"},
                        # All of it is text to KEDA.
                        "metadata": _object(
                            {"serverAddress": _TEXT, "query": _TEXT, "threshold": _TEXT},
                            ignoreNullValues={"enum": ["true", "false"]},
                            activationThreshold=_TEXT,
                        ),
                    },
                    name=_TEXT,
                    metricType={"enum": ["AverageValue", "Value"]},
                ),
                least=1,
            ),
        },
        minReplicaCount=_number(0),
        maxReplicaCount=_number(1),
        pollingInterval=_number(1),
        cooldownPeriod=_number(0),
        fallback=_object(
            {"failureThreshold": _number(0), "replicas": _number(0)},
            behavior={
                "enum": [
                    "static",
                    "currentReplicas",
                    "currentReplicasIfHigher",
                    "currentReplicasIfLower",
                ]
            },
        ),
        advanced=_object(
            {},
            horizontalPodAutoscalerConfig=_object(
                {}, behavior=_object({}, scaleUp=_PACE, scaleDown=_PACE)
            ),
        ),
    ),
)

_SELECTOR = _object(
    {},
    matchLabels=_TEXTS,
    matchExpressions=_list(
        _object(
            {"key": _TEXT, "operator": {"enum": ["In", "NotIn", "Exists", "DoesNotExist"]}},
            values=_list(_TEXT),
        )
    ),
)

POD_MONITOR = _kind(
    "PodMonitor",
    "monitoring.coreos.com/v1",
    _object(
        {"selector": _SELECTOR},
        namespaceSelector=_object({}, any={"type": "boolean"}, matchNames=_list(_TEXT)),
        podMetricsEndpoints=_list(
            _object(
                {},
                port=_TEXT,
                path=_TEXT,
                params={"type": "object", "additionalProperties": _list(_TEXT)},
                interval=_DURATION,
                scrapeTimeout=_DURATION,
                relabelings=_list(
                    _object(
                        {},
                        sourceLabels=_list(_TEXT),
                        targetLabel=_TEXT,
                        regex={"type": "string"},
                        replacement={"type": "string"},
                        action={"enum": ["replace", "keep", "drop", "labelmap", "labeldrop"]},
                    )
                ),
            )
        ),
    ),
)

PROMETHEUS_RULE = _kind(
    "PrometheusRule",
    "monitoring.coreos.com/v1",
    _object(
        {
            "groups": _list(
                _object(
                    {"name": _TEXT},
                    interval=_DURATION,
                    limit={"type": "integer"},
                    query_offset=_DURATION,
                    labels=_TEXTS,
                    rules=_list(
                        {
                            **_object(
                                {"expr": {"type": ["string", "integer"]}},
                                alert=_TEXT,
                                record=_TEXT,
                                keep_firing_for=_DURATION,
                                labels=_TEXTS,
                                annotations=_TEXTS,
                                **{"for": _DURATION},
                            ),
                            "oneOf": [{"required": ["alert"]}, {"required": ["record"]}],
                        }
                    ),
                )
            )
        }
    ),
)

CUSTOM = {
    "ScaledObject": Draft202012Validator(SCALED_OBJECT),
    "PodMonitor": Draft202012Validator(POD_MONITOR),
    "PrometheusRule": Draft202012Validator(PROMETHEUS_RULE),
}
