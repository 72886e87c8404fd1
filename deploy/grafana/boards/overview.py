"""Traffic, errors, latency and saturation of every service."""

from __future__ import annotations

from deploy.grafana.panels import (
    A_SECOND,
    CORES,
    Board,
    Graph,
    Line,
    Number,
    Section,
    Table,
    increased,
)

# What an alert may be about: no alert has all of them.
_ABOUT = (
    *("service", "process", "envoy_cluster_name", "pool", "instance", "slo", "tier", "queue"),
    *("stream", "producer", "chain", "provider", "peer", "outcome", "job_name", "reason", "code"),
    "state",
)
_ABOUT_NAMES = ", ".join(f'"{label}"' for label in _ABOUT)
_FIRING = (
    "max by (severity, alertname, about, page) (label_join(label_replace("
    '(time() - ALERTS_FOR_STATE) and ignoring (alertstate) ALERTS{alertstate="firing"}, '
    '"page", "docs/runbooks/$1.md", "alertname", "(.+)"), '
    f'"about", " ", {_ABOUT_NAMES}))'
)

_FAILED_JOBS = increased("companion_job_failures_total", "30m")

OVERVIEW = Board(
    "overview",
    "overview",
    "Traffic, errors, latency and saturation of every service.",
    [
        Section(
            "Now",
            [
                Number(
                    "Alerts: page",
                    "short",
                    'count(ALERTS{alertstate="firing",severity="page"}) or vector(0)',
                    1,
                ),
                Number(
                    "Alerts: ticket",
                    "short",
                    'count(ALERTS{alertstate="firing",severity="ticket"}) or vector(0)',
                    1,
                ),
                Number("Processes that do not answer", "short", "count(up == 0) or vector(0)", 1),
                Number(
                    "Answers of the gateway",
                    "reqps",
                    'sum(rate(envoy_http_downstream_rq_xx{envoy_http_conn_manager_prefix="gateway"}[5m]))',
                ),
                Number(
                    "Errors of ours",
                    "percentunit",
                    'max(companion:slo_bad:ratio5m{slo="availability"})',
                    0.01,
                    empty="no requests",
                ),
                Number(
                    "Oldest usage not recorded", "s", "max(companion_queue_oldest_seconds)", 120
                ),
                Table(
                    "Alerts that fire",
                    "s",
                    _FIRING,
                    ("severity", "alertname", "about", "page"),
                    "for",
                    "Each with the page that says what to do.",
                    "none",
                ),
            ],
        ),
        Section(
            "Traffic and errors",
            [
                Graph(
                    "Requests, by service",
                    "reqps",
                    [Line("sum by (service) (companion:requests:rate5m)", "{{service}}")],
                ),
                Graph(
                    "Errors, by service",
                    "reqps",
                    [Line("sum by (service) (companion:request_errors:rate5m)", "{{service}}")],
                    "Statuses 5xx without a vendor's failures.",
                ),
                Graph(
                    "Answers of the gateway, by class",
                    "reqps",
                    [
                        Line(
                            "sum by (envoy_response_code_class) (rate(envoy_http_downstream_rq_xx"
                            '{envoy_http_conn_manager_prefix="gateway"}[5m]))',
                            "{{envoy_response_code_class}}xx",
                        )
                    ],
                ),
            ],
        ),
        Section(
            "Latency",
            [
                Graph(
                    "95th percentile, by service and pool",
                    "s",
                    [Line("companion:request_seconds:p95_5m", "{{service}} {{pool}}")],
                    "To the end of the answer: a stream takes as long as it lasts.",
                ),
                Graph(
                    "Letting a turn in, 95th percentile",
                    "s",
                    [
                        Line(
                            "histogram_quantile(0.95, sum by (tier, le) "
                            "(rate(companion_chat_admission_seconds_bucket[5m])))",
                            "{{tier}}",
                        )
                    ],
                ),
                Graph(
                    "First token, 95th percentile",
                    "s",
                    [
                        Line(
                            "histogram_quantile(0.95, sum by (tier, le) "
                            "(rate(companion_chat_first_token_seconds_bucket[5m])))",
                            "{{tier}}",
                        )
                    ],
                ),
            ],
        ),
        Section(
            "Saturation",
            [
                Graph(
                    "CPU, by process",
                    CORES,
                    [Line("companion:cpu:rate5m", "{{process}}")],
                    width=12,
                    many=True,
                ),
                Graph(
                    "Memory, by process",
                    "bytes",
                    [Line("max by (process) (process_resident_memory_bytes)", "{{process}}")],
                    "Of each the replica with the most.",
                    width=12,
                    many=True,
                ),
                Graph(
                    "Requests in flight",
                    "short",
                    [Line("companion:requests_in_flight", "{{service}} {{pool}}")],
                    width=6,
                ),
                Graph(
                    "Connections to databases, lent",
                    "percentunit",
                    [
                        Line(
                            'max by (service) (companion_database_connections{state="lent"}'
                            " / on (process, instance, service)"
                            ' companion_database_connections{state="most"})',
                            "{{service}}",
                        )
                    ],
                    width=6,
                ),
                Graph(
                    "Workers, busy",
                    "percentunit",
                    [Line("companion:workers_busy:ratio5m", "{{process}}")],
                    width=6,
                ),
                Graph(
                    "Open sockets",
                    "short",
                    [
                        Line(
                            "sum by (service, pool) (companion_open_sockets)",
                            "{{service}} {{pool}}",
                        )
                    ],
                    width=6,
                ),
            ],
        ),
        Section(
            "Events and jobs",
            [
                Graph(
                    "Messages in queues, but for usage",
                    "short",
                    [
                        Line(
                            'companion_queue_messages{queue!~"billing[.]usage[.].+"} > 0',
                            "{{queue}}",
                        )
                    ],
                    "As RabbitMQ tells; usage is on the dashboard about money.",
                    empty="none",
                ),
                Graph(
                    "Events handled",
                    A_SECOND,
                    [Line("sum by (type) (rate(companion_events_handled_total[5m]))", "{{type}}")],
                ),
                Graph(
                    "From an event to its effect, 95th percentile",
                    "s",
                    [
                        Line(
                            "histogram_quantile(0.95, sum by (service, le) "
                            "(rate(companion_event_age_seconds_bucket[5m])))",
                            "{{service}}",
                        )
                    ],
                ),
                Graph(
                    "Jobs that failed",
                    "short",
                    [
                        Line(
                            f"sum by (service, job_name) ({_FAILED_JOBS}) > 0",
                            "{{service}} {{job_name}}",
                        )
                    ],
                    width=12,
                    empty="none",
                ),
                Graph(
                    "Jobs that miss their turns, for how long",
                    "s",
                    [
                        Line(
                            "time()"
                            " - max by (service, job_name) (companion_job_done_at_seconds > 0)"
                            " - 2 * max by (service, job_name) (companion_job_interval_seconds)"
                            " > 60",
                            "{{service}} {{job_name}}",
                        )
                    ],
                    width=12,
                    empty="none",
                ),
            ],
        ),
    ],
)
