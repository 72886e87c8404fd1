"""What we promise, in numbers: THE table of objectives. Rules, dashboards and docs follow it."""

from __future__ import annotations

from collections.abc import Mapping

from shared.values import dataclass

_TIERED = "(chat|voice)-(.+)"
# The egress asks keyvault, too; what it is told is no answer to a user.
_SERVED = 'process="gateway",envoy_cluster_name=~"(chat|voice)-.+|auth|keyvault|billing"'
DAYS = 30


@dataclass(frozen=True, slots=True)
class Objective:
    """Over thirty days at most `budget` of all events may be bad, by tier. `all_` and `bad` are
    rates per second by tier, with {window} for the window."""

    slo: str
    alert: str
    promise: str
    budget: Mapping[str, float]
    all_: str
    bad: str
    # Few events say nothing: below so many in an hour nobody is woken.
    fewest_an_hour: int = 60


def _by_tier(rate: str) -> str:
    """Envoy calls a pool `chat-pro`; what all tiers share has the tier `all`."""
    return (
        f'sum by (tier) (label_replace(label_replace({rate}, "tier", "all", "", ""), '
        f'"tier", "$2", "envoy_cluster_name", "{_TIERED}"))'
    )


def _rate(series: str) -> str:
    return f"rate({series}[{{window}}])"


_ANSWERS = _by_tier(_rate(f"envoy_cluster_upstream_rq_xx{{{_SERVED}}}"))
_ERRORS = _by_tier(
    _rate(f'envoy_cluster_upstream_rq_xx{{{_SERVED},envoy_response_code_class="5"}}')
)
_OF_VENDORS = _by_tier(_rate(f'envoy_cluster_upstream_rq{{{_SERVED},envoy_response_code="502"}}'))
# With a vendor's own status, which the gateway can't tell from one of ours: the pools can.
_PASSED_ON = _rate("companion_http_vendor_failures_total")
_AS_VENDORS = f'sum by (tier) (label_replace({_PASSED_ON}, "tier", "$1", "pool", "(.+)"))'


def _slower_than(metric: str, bound: str) -> tuple[str, str]:
    total = f"sum by (tier) ({_rate(metric + '_count')})"
    within = "sum by (tier) (" + _rate(f'{metric}_bucket{{le="{bound}"}}') + ")"
    # Of series that have only just begun Prometheus guesses the start, of each by itself: what is
    # within the bound may then be more than all.
    return total, f"clamp_min({total} - {within}, 0)"


_ADMISSIONS, _SLOW_ADMISSIONS = _slower_than("companion_chat_admission_seconds", "0.25")
_FIRST_TOKENS, _SLOW_FIRST_TOKENS = _slower_than("companion_chat_first_token_seconds", "5.0")

OBJECTIVES = (
    Objective(
        "availability",
        "Availability",
        "The gateway answers; a vendor's own failure is not ours",
        {"free": 0.005, "pro": 0.001, "enterprise": 0.0005, "all": 0.001},
        _ANSWERS,
        # A status that was never seen has no series: it counts as none.
        f"clamp_min((({_ERRORS}) or 0 * ({_ANSWERS})) - (({_OF_VENDORS}) or 0 * ({_ANSWERS}))"
        f" - (({_AS_VENDORS}) or 0 * ({_ANSWERS})), 0)",
    ),
    Objective(
        "admission",
        "Admission",
        "A turn is let in within 250 ms",
        {"free": 0.02, "pro": 0.01, "enterprise": 0.01},
        _ADMISSIONS,
        _SLOW_ADMISSIONS,
    ),
    Objective(
        "first_token",
        "FirstToken",
        "The first of an answer is there within 5 s of admission, the vendor's share included",
        {"free": 0.1, "pro": 0.05, "enterprise": 0.05},
        _FIRST_TOKENS,
        _SLOW_FIRST_TOKENS,
    ),
    Objective(
        "ledger",
        "Ledger",
        "All usage that is older than two minutes is in the ledger; each moment counts",
        {"free": 0.001, "pro": 0.001, "enterprise": 0.001},
        # One moment a second: of these the late ones are the rate.
        "max by (tier) (companion:ledger_late * 0 + 1)",
        "max by (tier) (avg_over_time(companion:ledger_late[{window}]))",
        fewest_an_hour=0,
    ),
)
