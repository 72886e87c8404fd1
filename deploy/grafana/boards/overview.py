"""Traffic, errors, latency and saturation of every service."""

from __future__ import annotations

from deploy.grafana.panels import Board, Graph, Line, Number, Section

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
                    1e9,
                ),
                Number(
                    "Errors of ours",
                    "percentunit",
                    'max(companion:slo_bad:ratio5m{slo="availability"})',
                    0.01,
                ),
                Number(
                    "Oldest usage not recorded", "s", "max(companion_queue_oldest_seconds)", 120
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
                    "Statuses 5xx without 502, which is a vendor's failure.",
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
                    "CPU, by process", "percentunit", [Line("companion:cpu:rate5m", "{{process}}")]
                ),
                Graph(
                    "Requests in flight",
                    "short",
                    [Line("companion:requests_in_flight", "{{service}} {{pool}}")],
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
                ),
                Graph(
                    "Memory, by process",
                    "bytes",
                    [Line("max by (process) (process_resident_memory_bytes)", "{{process}}")],
                ),
                Graph(
                    "Workers, busy",
                    "percentunit",
                    [Line("companion:workers_busy:ratio5m", "{{process}}")],
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
                ),
            ],
        ),
        Section(
            "Events and jobs",
            [
                Graph(
                    "Events handled",
                    "short",
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
                            "sum by (service, job_name)"
                            " (increase(companion_job_failures_total[30m]))",
                            "{{service}} {{job_name}}",
                        )
                    ],
                ),
            ],
        ),
    ],
)
