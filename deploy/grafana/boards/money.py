"""Whether all that was used is in the ledger. Of what a database tells, the largest, not a sum."""

from __future__ import annotations

from deploy.grafana.panels import A_SECOND, Board, Graph, Line, Number, Section

MONEY = Board(
    "money",
    "money",
    "Whether all that was used is in the ledger, once and unchanged, and whether customers get it.",
    [
        Section(
            "Is it complete, and is it sound?",
            [
                Number(
                    "Usage missing",
                    "short",
                    "sum(max by (producer) (companion_billing_missing_events))",
                    1,
                ),
                Number(
                    "Hours that differ",
                    "short",
                    "sum(max by (producer) (companion_billing_mismatched_hours))",
                    1,
                ),
                Number("Dead usage events", "short", "max(companion_billing_dead_events)", 1),
                Number(
                    "Chains broken",
                    "short",
                    "sum(max by (chain) (companion_chain_broken)) or vector(0)",
                    1,
                ),
                Number("Sums that drifted", "short", "max(companion_billing_rollup_drifts)", 1),
                Number("Silent producers", "short", "max(companion_billing_silent_producers)", 1),
            ],
        ),
        Section(
            "On its way",
            [
                Graph(
                    "Usage not recorded",
                    "short",
                    [Line('companion_queue_messages{queue=~"billing[.]usage[.].+"}', "{{queue}}")],
                    "Committed by a producer, and not in the ledger.",
                ),
                Graph(
                    "Oldest usage not recorded",
                    "s",
                    [Line("companion_queue_oldest_seconds", "{{queue}}")],
                ),
                Graph(
                    "The ledger is complete up to so long ago",
                    "s",
                    [Line("max by (tier) (companion_ledger_lag_seconds)", "{{tier}}")],
                    "Producers tell their ends every 15 seconds, so up to 20 are usual.",
                ),
                Graph(
                    "Written and recorded",
                    A_SECOND,
                    [
                        Line(
                            "sum by (service) (rate(companion:usage_written[5m]))",
                            "written {{service}}",
                        ),
                        Line(
                            "sum by (service) (rate(companion:usage_received[5m]))",
                            "recorded {{service}}",
                        ),
                    ],
                ),
                Graph(
                    "Oldest event in an outbox",
                    "s",
                    [
                        Line(
                            "max by (service) (companion_outbox_oldest_seconds)",
                            "{{service}}",
                        )
                    ],
                ),
                Graph(
                    "Oldest gap",
                    "s",
                    [
                        Line(
                            "max by (producer) (companion_ledger_oldest_gap_seconds)",
                            "{{producer}}",
                        )
                    ],
                ),
                Graph(
                    "Billing's batches, 95th percentile",
                    "s",
                    [
                        Line(
                            "histogram_quantile(0.95, sum by (process, le) "
                            '(rate(companion_event_batch_seconds_bucket{service="billing"}[5m])))',
                            "{{process}}",
                        )
                    ],
                ),
                Graph(
                    "Relays in trouble",
                    A_SECOND,
                    [
                        Line(
                            "sum by (service, reason) (rate(companion_relay_failures_total[5m]))",
                            "{{service}} {{reason}}",
                        )
                    ],
                    empty="none",
                ),
                Graph(
                    "Dead events, by service",
                    "short",
                    [Line("max by (service) (companion_dead_events)", "{{service}}")],
                ),
            ],
        ),
        Section(
            "Waits for somebody",
            [
                Number(
                    "Held usage",
                    "short",
                    "sum(max by (code) (companion_billing_held_usage_events)) or vector(0)",
                    1,
                ),
                Number(
                    "Aged usage, for two people",
                    "short",
                    "max(companion_billing_aged_usage_events)",
                    1,
                ),
                Number("Without a price", "short", "max(companion_billing_unpriced_requests)", 1),
                Number(
                    "Records without a link, oldest",
                    "s",
                    "max(companion_billing_oldest_unlinked_seconds)",
                    60,
                ),
                Number(
                    "Webhooks not taken, oldest",
                    "s",
                    "max(companion_billing_webhooks_oldest_seconds)",
                    3600,
                ),
                Number(
                    "Invoices being made for",
                    "s",
                    "max(companion_billing_unfinished_invoices_seconds)",
                    3600,
                ),
                Number(
                    "Payments past due",
                    "short",
                    "max(companion_billing_past_due_subscriptions)",
                    50,
                ),
                Number(
                    "Since the end of the last exported day",
                    "s",
                    "time() - (max(companion_billing_last_exported_day_seconds) > 0)",
                    129600,
                    empty="no export",
                ),
                Number(
                    "Ledger that should be in a file, for",
                    "s",
                    "max(companion_billing_archive_overdue_seconds)",
                    172800,
                ),
                Number(
                    "Since the last backup",
                    "s",
                    "time() - max(companion_backup_last_success_timestamp_seconds)",
                    93600,
                    "Told by node_exporter, of the file that `companion backup create` writes.",
                    empty="not told",
                ),
                Number(
                    "Since the ledger was last walked along",
                    "s",
                    'time() - max(companion_chain_verified_at_seconds{chain="ledger"})',
                    86400,
                ),
            ],
        ),
    ],
)
