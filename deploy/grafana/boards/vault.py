"""Users' keys, and our own."""

from __future__ import annotations

from deploy.grafana.panels import Board, Graph, Line, Number, Section, increased

_REFUSED = 'companion_keyvault_key_uses_total{outcome=~"grant_invalid|grant_replayed|not_your_key"}'

VAULT = Board(
    "vault",
    "vault",
    "Users' keys: can they be used, by whom are they used, and are our own keys young enough?",
    [
        Section(
            "Now",
            [
                Number(
                    "Replicas that are sealed",
                    "short",
                    'sum(companion_keyvault_sealed{process="keyvault"})',
                    1,
                ),
                Number(
                    "Services stopped",
                    "short",
                    "sum(max by (peer) (companion_keyvault_service_stopped))",
                    1,
                ),
                Number(
                    "Proofs that are none, in an hour",
                    "short",
                    f"sum({increased(_REFUSED, '1h')}) or vector(0)",
                    1,
                ),
                Number(
                    "Versions of the keyring in use",
                    "short",
                    "count(max by (version) (companion_keyvault_data_keys) > 0)",
                    2,
                ),
                Number(
                    "Age of the signing key",
                    "s",
                    "max(companion_auth_signing_key_age_seconds)",
                    15552000,
                ),
                Number(
                    "Audit events without a link, oldest",
                    "s",
                    "max(companion_auth_audit_longest_wait_seconds)",
                    60,
                ),
            ],
        ),
        Section(
            "Uses",
            [
                Graph(
                    "Questions for keys",
                    "reqps",
                    [
                        Line(
                            "sum by (peer) (rate(companion_keyvault_key_uses_total[5m]))",
                            "{{peer}}",
                        )
                    ],
                ),
                Graph(
                    "What became of them, but for given",
                    "reqps",
                    [
                        Line(
                            "sum by (outcome) "
                            '(rate(companion_keyvault_key_uses_total{outcome!="given"}[5m]))',
                            "{{outcome}}",
                        )
                    ],
                    empty="none",
                ),
                Graph(
                    "Users within the window",
                    "short",
                    [Line("max by (peer) (companion_keyvault_users)", "{{peer}}")],
                ),
                Graph(
                    "By vendor",
                    "reqps",
                    [
                        Line(
                            "sum by (provider) (rate(companion_keyvault_key_uses_total[5m]))",
                            "{{provider}}",
                        )
                    ],
                ),
                Graph(
                    "Calls that got no key",
                    "reqps",
                    [
                        Line(
                            "sum by (service, outcome) (rate(companion_vendor_calls_total"
                            '{outcome=~"key_refused|withheld"}[5m]))',
                            "{{service}} {{outcome}}",
                        )
                    ],
                    empty="none",
                ),
                Graph(
                    "Latency of keyvault, 95th percentile",
                    "s",
                    [Line('companion:request_seconds:p95_5m{service="keyvault"}', "{{pool}}")],
                ),
            ],
        ),
        Section(
            "The keyring, and sign-in",
            [
                Graph(
                    "Data keys, by version",
                    "short",
                    [
                        Line(
                            "max by (version) (companion_keyvault_data_keys)", "version {{version}}"
                        )
                    ],
                ),
                Graph(
                    "Rewrapped",
                    "short",
                    [
                        Line(
                            "max by (version) (companion_keyvault_data_keys_rewrapped)",
                            "version {{version}}",
                        )
                    ],
                    empty="none yet",
                ),
                Graph(
                    "Sign-ins refused",
                    "reqps",
                    [
                        Line(
                            "sum by (status) (rate(companion_http_requests_total"
                            '{service="auth",status=~"401|403|429"}[5m]))',
                            "{{status}}",
                        ),
                        Line(
                            "sum by (code) (rate(companion_auth_forms_shown_again_total[5m]))",
                            "page: {{code}}",
                        ),
                    ],
                ),
            ],
        ),
    ],
)
