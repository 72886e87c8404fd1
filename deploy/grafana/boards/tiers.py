"""What each tier gets."""

from __future__ import annotations

from deploy.grafana.panels import A_SECOND, CORES, PER_CENT, Board, Graph, Line, Section

_POOLS = 'envoy_cluster_name=~"(chat|voice)-.+|auth|keyvault|billing"'

TIERS = Board(
    "tiers",
    "tiers",
    "What each tier gets: objectives, pools, turns, speeches, vendors.",
    [
        Section(
            "Objectives",
            [
                Graph(
                    "Error budget, burn over an hour",
                    "short",
                    [Line("companion:slo_burn:1h", "{{slo}} {{tier}}")],
                    "1 spends the budget of thirty days in thirty days.",
                    12,
                ),
                Graph(
                    "Error budget, burn over three days",
                    "short",
                    [Line("companion:slo_burn:3d", "{{slo}} {{tier}}")],
                    width=12,
                ),
            ],
        ),
        Section(
            "Pools, as the gateway sees them",
            [
                Graph(
                    "Requests",
                    "reqps",
                    [
                        Line(
                            "sum by (envoy_cluster_name) "
                            f"(rate(envoy_cluster_upstream_rq_xx{{{_POOLS}}}[5m]))",
                            "{{envoy_cluster_name}}",
                        )
                    ],
                ),
                Graph(
                    "Under way",
                    "short",
                    [
                        Line(
                            "sum by (envoy_cluster_name) "
                            f"(envoy_cluster_upstream_rq_active{{{_POOLS}}})",
                            "{{envoy_cluster_name}}",
                        )
                    ],
                ),
                Graph(
                    "Replicas that the gateway knows",
                    "short",
                    [
                        Line(
                            "max by (envoy_cluster_name) "
                            f"(envoy_cluster_membership_healthy{{{_POOLS}}})",
                            "{{envoy_cluster_name}}",
                        )
                    ],
                ),
                Graph(
                    "Errors",
                    "reqps",
                    [
                        Line(
                            "sum by (envoy_cluster_name, envoy_response_code) "
                            f'(rate(envoy_cluster_upstream_rq{{{_POOLS},envoy_response_code=~"5.."}}[5m]))',
                            "{{envoy_cluster_name}} {{envoy_response_code}}",
                        )
                    ],
                    empty="none",
                ),
                Graph(
                    "Refused by limits",
                    "reqps",
                    [
                        Line(
                            "sum by (service, pool) "
                            '(rate(companion_http_requests_total{status="429"}[5m]))',
                            "{{service}} {{pool}}",
                        )
                    ],
                    empty="none",
                ),
                Graph(
                    "CPU, by pool",
                    CORES,
                    [Line("sum by (pool) (companion:cpu:rate5m)", "{{pool}}")],
                ),
            ],
        ),
        Section(
            "Turns and speeches",
            [
                Graph(
                    "Turns settled",
                    A_SECOND,
                    [Line("sum by (tier) (rate(companion_chat_turns_total[5m]))", "{{tier}}")],
                ),
                Graph(
                    "Turns that run",
                    "short",
                    [Line("sum by (tier) (companion_chat_turns_running)", "{{tier}}")],
                ),
                Graph(
                    "How turns end",
                    A_SECOND,
                    [
                        Line(
                            "sum by (outcome) (rate(companion_chat_turns_total[5m]))", "{{outcome}}"
                        )
                    ],
                ),
                Graph(
                    "Speeches settled",
                    A_SECOND,
                    [Line("sum by (tier) (rate(companion_voice_speeches_total[5m]))", "{{tier}}")],
                ),
                Graph(
                    "Speeches that run",
                    "short",
                    [Line("sum by (tier) (companion_voice_speeches_running)", "{{tier}}")],
                ),
                Graph(
                    "Credits of speech",
                    A_SECOND,
                    [
                        Line(
                            "sum by (tier) (rate(companion_voice_characters_total[5m]))", "{{tier}}"
                        )
                    ],
                ),
            ],
        ),
        Section(
            "Vendors",
            [
                Graph("Calls", "reqps", [Line("companion:vendor_calls:rate5m", "{{provider}}")]),
                Graph(
                    "Failures",
                    "percentunit",
                    [Line("companion:vendor_errors:ratio5m", "{{provider}}")],
                    "5xx, no answer, or one that broke off.",
                ),
                Graph(
                    "Budget of thirty days, spent",
                    PER_CENT,
                    [Line("100 * companion:vendor_budget_spent:ratio30d", "{{provider}}")],
                ),
                Graph(
                    "Rate limited by the vendor",
                    "percentunit",
                    [Line("companion:vendor_rate_limited:ratio5m", "{{provider}}")],
                ),
                Graph(
                    "How calls end",
                    "reqps",
                    [
                        Line(
                            "sum by (outcome) (rate(companion_vendor_calls_total[5m]))",
                            "{{outcome}}",
                        )
                    ],
                ),
                Graph(
                    "First token, by vendor, 95th percentile",
                    "s",
                    [
                        Line(
                            "histogram_quantile(0.95, sum by (provider, le) "
                            "(rate(companion_chat_first_token_seconds_bucket[5m])))",
                            "{{provider}}",
                        )
                    ],
                ),
            ],
        ),
    ],
)
