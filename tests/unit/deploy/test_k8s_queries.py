"""What autoscalers ask, put to Prometheus' own evaluation."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from deploy.k8s.processes import Process, processes
from deploy.k8s.scaling import Question, questions_of

PROMTOOL = shutil.which("promtool")

pytestmark = pytest.mark.skipif(PROMTOOL is None, reason="there is no promtool on this machine")

ADMISSIONS = "companion_chat_admission_seconds_bucket"
RATE = "0+15x20"  # a count that grows by one a second; scraped every 15 s


def _process(name: str) -> Process:
    [found] = [one for one in processes() if one.name == name]
    return found


def _question(process: str, name: str) -> Question:
    [found] = [one for one in questions_of(_process(process)) if one.name == name]
    return found


def _answer_is(
    question: Question, series: Mapping[str, str], value: float | None, folder: Path
) -> None:
    """Raises when Prometheus answers otherwise after four minutes of these numbers; None is no
    answer, which KEDA takes as an error."""
    (folder / "rules.yml").write_text(
        yaml.safe_dump(
            {"groups": [{"name": "q", "rules": [{"record": "q", "expr": question.query}]}]}
        ),
        "utf-8",
    )
    given = [{"series": name, "values": values} for name, values in series.items()]
    expected = {
        "expr": "q",
        "eval_time": "4m",
        "exp_samples": [] if value is None else [{"labels": "q", "value": value}],
    }
    test = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "15s",
        "tests": [{"interval": "15s", "input_series": given, "promql_expr_test": [expected]}],
    }
    (folder / "test.yml").write_text(yaml.safe_dump(test), "utf-8")
    assert PROMTOOL is not None
    done = subprocess.run(
        [PROMTOOL, "test", "rules", str(folder / "test.yml")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def _in_flight(process: str, *replicas: int) -> dict[str, str]:
    return {
        f'companion_http_requests_in_flight{{process="{process}",instance="{number}"}}': f"{one}x20"
        for number, one in enumerate(replicas)
    }


def _admissions(process: str, within: str) -> dict[str, str]:
    """All took more than a tenth of a second, and less than a whole one."""
    return {
        f'{ADMISSIONS}{{process="{process}",le="0.1"}}': "0x20",
        f'{ADMISSIONS}{{process="{process}",le="1"}}': within,
        f'{ADMISSIONS}{{process="{process}",le="+Inf"}}': within,
    }


def test_requests_are_counted_over_replicas_and_sockets_as_a_part(tmp_path: Path) -> None:
    sockets = {'companion_open_sockets{process="chat-pro",instance="0"}': "50x20"}
    others = _in_flight("chat-free", 900)
    series = _in_flight("chat-pro", 30, 40) | sockets | others
    _answer_is(_question("chat-pro", "in-flight"), series, 75, tmp_path)


def test_slow_and_busy_is_too_few(tmp_path: Path) -> None:
    series = _in_flight("chat-pro", 80, 90) | _admissions("chat-pro", RATE)
    # Between 0.1 and 1 second, all of them: Prometheus supposes them spread evenly.
    _answer_is(_question("chat-pro", "latency-p95"), series, 0.955, tmp_path)


def test_slow_and_idle_is_somebody_elses_trouble(tmp_path: Path) -> None:
    series = _in_flight("chat-pro", 8, 9) | _admissions("chat-pro", RATE)
    _answer_is(_question("chat-pro", "latency-p95"), series, 0, tmp_path)


@pytest.mark.parametrize("process", ["chat-enterprise", "voice-enterprise"])
def test_a_pool_that_nobody_asks_is_not_slow(process: str, tmp_path: Path) -> None:
    series = _in_flight(process, 0, 0) | _admissions(process, "7x20")
    _answer_is(_question(process, "latency-p95"), series, 0, tmp_path)


def test_usage_that_waits_is_its_own_tiers(tmp_path: Path) -> None:
    series = {
        'companion_queue_messages{queue="billing.usage.pro"}': "70000x20",
        'companion_queue_messages{queue="billing.usage.free"}': "900000x20",
        'companion_queue_oldest_seconds{queue="billing.usage.pro"}': "120x20",
        'companion_queue_oldest_seconds{queue="billing.usage.free"}': "600x20",
    }
    _answer_is(_question("billing-worker-pro", "waiting"), series, 70_000, tmp_path)
    _answer_is(_question("billing-worker-pro", "oldest"), series, 120, tmp_path)


def test_a_tier_that_nobody_has_used_waits_for_nothing(tmp_path: Path) -> None:
    series = {'companion:ledger_late{tier="free"}': "1x20"}
    _answer_is(_question("billing-worker-pro", "waiting"), series, 0, tmp_path)
    _answer_is(_question("billing-worker-pro", "oldest"), series, 0, tmp_path)


def test_a_prometheus_without_our_rules_is_not_an_empty_queue(tmp_path: Path) -> None:
    scraped = {'companion_ledger_lag_seconds{tier="pro"}': "1x20"}
    _answer_is(_question("billing-worker-pro", "waiting"), scraped, None, tmp_path)
    _answer_is(_question("billing-worker-pro", "oldest"), scraped, None, tmp_path)


def test_of_other_queues_the_broker_tells_and_the_handled_facts(tmp_path: Path) -> None:
    ages = 'companion_event_age_seconds_bucket{process="auth-worker",le='
    series = {
        'companion_queue_messages{queue="auth.mails.free"}': "3x20",
        'companion_queue_messages{queue="auth.users.pro"}': "4x20",
        'companion_queue_messages{queue="chat.keys.pro"}': "50x20",
        f'{ages}"30"}}': "0x20",
        f'{ages}"60"}}': RATE,
        f'{ages}"+Inf"}}': RATE,
    }
    _answer_is(_question("auth-worker", "waiting"), series, 7, tmp_path)
    _answer_is(_question("auth-worker", "oldest"), series, 58.5, tmp_path)


def test_of_a_broker_that_nobody_watches_nothing_waits(tmp_path: Path) -> None:
    scraped = {'up{process="auth-worker",instance="0"}': "1x20"}
    _answer_is(_question("auth-worker", "waiting"), scraped, 0, tmp_path)
    _answer_is(_question("auth-worker", "oldest"), scraped, 0, tmp_path)


def test_a_prometheus_that_reaches_none_of_our_pods_has_no_answer(tmp_path: Path) -> None:
    away = {'up{process="auth-worker",instance="0"}': "0x20", 'up{process="chat-pro"}': "0x20"}
    for name in ("waiting", "oldest"):
        _answer_is(_question("auth-worker", name), away, None, tmp_path)
    _answer_is(_question("chat-pro", "in-flight"), away, None, tmp_path)
