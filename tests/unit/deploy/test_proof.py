"""The proof's own judgement: what it takes for lost, double, undocumented or late."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import yaml

from deploy.companion.compose_settings import SettingsFiles
from deploy.companion.errors import CompanionError
from deploy.companion.settings import ROOT
from deploy.k8s.processes import processes
from deploy.proof import cluster, compose
from deploy.proof.answers import Attempt, Kind, broken_promise, documented_codes
from deploy.proof.books import account
from deploy.proof.deployment import THREE_BROKERS, Deployment
from deploy.proof.engine import NoEngine, an_engine
from deploy.proof.faults import OF_THREE_BROKERS
from deploy.proof.kubectl import Kubectl
from deploy.proof.load import _in_turn, pause_after
from deploy.proof.namespace import Namespace
from deploy.proof.people import SHARES, Person, how_many
from deploy.proof.reconcile import Acknowledged, Entry, Served, reconcile
from deploy.proof.replacing import NEXT, change_a_setting, renew_proxies
from deploy.proof.report import MARK, Check, Result, keep, table
from deploy.proof.rounds import Bounds, Round, figures, unfinished
from deploy.proof.ways import Question, attempt
from shared.tiers import tier_named

ADA, GRACE = "ada openai", "grace openai"
TOKENS = {"input_tokens": 3, "output_tokens": 5}


def served(name: str, *, owner: str = ADA, at: float = 10.0, whole: bool = True) -> Served:
    return Served(name, owner, at, whole, TOKENS)


def entry(name: str, *, owner: str = ADA, at: float = 10.0, **parts: Any) -> Entry:
    found = Entry(f"event of {name}", owner, at, f"request of {name}", name, "done", "provider", 7)
    return replace(found, usage=TOKENS, **parts)


def lost_replica(owner: str = ADA, at: float = 10.0) -> Entry:
    return entry("", owner=owner, at=at, outcome="replica_lost", source="estimated")


def kinds(account: Any) -> list[str]:
    return [finding.kind for finding in account.findings]


def test_each_served_call_is_one_entry() -> None:
    found = reconcile([served("a"), served("b")], [entry("a"), entry("b")], [])
    assert found.is_exact
    assert (found.served, found.entries, list(found.estimates)) == (2, 2, [])


def test_a_served_call_without_an_entry_is_lost() -> None:
    assert kinds(reconcile([served("a"), served("b")], [entry("a")], [])) == ["lost"]


def test_an_entry_twice_or_of_nothing_is_double() -> None:
    assert kinds(reconcile([served("a")], [entry("a"), entry("a")], [])) == ["double"]
    assert kinds(reconcile([], [entry("a")], [])) == ["double"]


def test_a_lost_replica_stands_for_one_call_of_its_user() -> None:
    assert reconcile([served("a", whole=False)], [lost_replica()], []).is_exact
    of_somebody_else = reconcile([served("a")], [lost_replica(GRACE)], [])
    assert kinds(of_somebody_else) == ["lost"]
    two_calls = reconcile([served("a"), served("b")], [lost_replica()], [])
    assert kinds(two_calls) == ["lost"]


def test_an_estimate_without_a_call_is_told_and_a_count_without_one_is_double() -> None:
    estimated = reconcile([], [lost_replica()], [])
    assert estimated.is_exact
    assert len(estimated.estimates) == 1
    counted = replace(lost_replica(), outcome="done")
    assert kinds(reconcile([], [counted], [])) == ["double"]
    from_the_vendor = replace(lost_replica(), source="provider")
    assert kinds(reconcile([], [from_the_vendor], [])) == ["double"]


def test_other_counts_than_the_vendors_are_wrong() -> None:
    other = entry("a")
    other = replace(other, usage={**TOKENS, "output_tokens": 6})
    assert kinds(reconcile([served("a")], [other], [])) == ["wrong"]
    # Of an answer that broke off the vendor told nothing: then it is an estimate.
    assert reconcile([served("a", whole=False)], [replace(other, source="estimated")], []).is_exact


def test_what_users_hold_stands_in_the_ledger_once_at_the_price_they_were_told() -> None:
    told = Acknowledged("request of a", ADA, 10.0, 7)
    assert reconcile([served("a")], [entry("a")], [told]).is_exact
    assert kinds(reconcile([], [], [told])) == ["lost"]
    assert kinds(reconcile([served("a")], [entry("a")], [replace(told, cost_microusd=8)])) == [
        "wrong"
    ]
    again = entry("b", request_id="request of a")
    assert kinds(reconcile([served("a"), served("b")], [entry("a"), again], [told])) == ["double"]


def tried(kind: Kind, **parts: Any) -> Attempt:
    return replace(Attempt(1, "pro", "live", 10.0, 10.5, kind), **parts)


def refused(status: int, code: str, **parts: Any) -> Attempt:
    said = {"media_type": "application/problem+json", "retry_after": 2.0, **parts}
    return tried(Kind.REFUSED, status=status, code=code, **said)


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        (tried(Kind.ANSWERED), True),
        (refused(503, "dependency_unavailable"), True),
        (refused(503, "unavailable", retry_after=None), False),
        (refused(503, "answer_lost", retry_after=None), True),
        (refused(503, "unavailable", media_type="text/html"), False),
        (refused(503, "made_up"), False),
        (refused(500, "internal_error"), False),
        (refused(404, "session_not_found"), False),
        (refused(504, "service_timeout", retry_after=None), True),
        (tried(Kind.BROKEN_OFF, code="answer_lost"), True),
        (tried(Kind.BROKEN_OFF, code="made_up"), False),
        (tried(Kind.HUNG), False),
        (tried(Kind.WRONG), False),
        (tried(Kind.CUT), False),
    ],
    ids=lambda value: value.label if isinstance(value, Attempt) else "",
)
def test_what_a_user_may_be_told(told: Attempt, kept: bool) -> None:
    assert (broken_promise(told, may_cut=False) == "") is kept


def test_a_connection_may_be_cut_where_its_process_died() -> None:
    assert broken_promise(tried(Kind.CUT), may_cut=True) == ""
    assert broken_promise(tried(Kind.HUNG), may_cut=True)


def test_codes_come_from_services_and_proxies() -> None:
    assert {"answer_lost", "already_spoken", "vendor_unreachable", "service_timeout"} <= set(
        documented_codes()
    )
    assert "internal_error" not in documented_codes()


ROUND = Round("kill it", Bounds(errors=1, recovery_seconds=3), 10.0, 13.0, 15.0, 30.0)


def test_a_round_counts_what_began_within_it() -> None:
    attempts = [
        tried(Kind.ANSWERED, turn=1, began=11.0, ended=12.0),
        refused(503, "unavailable", turn=2, began=14.0, ended=14.1),
        tried(Kind.ANSWERED, turn=2, began=16.0, ended=18.5),
        refused(409, "turn_running", turn=3, began=17.0, ended=17.1),
        tried(Kind.HUNG, turn=4, began=31.0, ended=80.0),
    ]
    found = figures(ROUND, attempts, reconcile([], [], []))
    assert (found.turns, found.answered, found.waiting) == (3, 2, 1)
    assert found.errors == {"503 unavailable": 1}
    assert (found.slowest_seconds, found.recovery_seconds) == (2.5, 0.0)
    assert found.broken == ()


def test_bounds_that_are_broken_are_named() -> None:
    attempts = [refused(503, "unavailable", turn=n, began=18.5, ended=18.6) for n in (1, 2)]
    found = figures(ROUND, attempts, reconcile([served("a", at=12.0)], [], []))
    assert found.recovery_seconds == 3.5
    assert [what.partition(",")[0] for what in found.broken] == [
        "2 errors",
        "recovered after 3.5 s",
        "a stands in no entry",
    ]


def test_a_turn_needs_a_last_word() -> None:
    attempts = [
        tried(Kind.CUT, turn=1, began=1.0),
        tried(Kind.BROKEN_OFF, turn=1, code="answer_lost", began=2.0),
        refused(503, "unavailable", turn=2, began=3.0),
        refused(503, "answer_lost", turn=3, began=4.0),
    ]
    assert unfinished(attempts) == 1


def test_nobody_comes_near_their_limit() -> None:
    for tier, share in SHARES.items():
        allowance = tier_named(tier).allowance("openai")
        assert allowance is not None
        assert allowance.requests_per_minute is not None
        for rate in (8.0, 20.0):
            each_a_minute = rate * share * 60 / how_many(tier, rate)
            assert each_a_minute < allowance.requests_per_minute


def test_a_client_waits_as_it_is_told_and_longer_each_time() -> None:
    told = refused(503, "unavailable", retry_after=2.0)
    waits = [pause_after(told, tries) for tries in range(8)]
    assert waits[0] == 2.0
    assert waits == sorted(waits)
    assert waits[-1] == 6.0
    assert pause_after(tried(Kind.CUT), 0) == 1.0


def test_tiers_come_by_their_shares() -> None:
    tiers = _in_turn()
    first = [next(tiers) for _ in range(100)]
    assert {tier: first.count(tier) for tier in SHARES} == {"free": 15, "pro": 50, "enterprise": 35}
    assert set(first[:7]) == set(SHARES)


def answering(*, status: int = 200, headers: Mapping[str, str] | None = None, text: str) -> Any:
    def answer(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, headers=headers, text=text)

    return httpx.AsyncClient(base_url="http://gateway", transport=httpx.MockTransport(answer))


def question(way: Any) -> Question:
    ada = Person("pro", "ada", {"openai": "a key"}, "token", "refresh", 0.0)
    return Question(1, way, ada, "mark1", "once", "session")


def message(status: str = "done", content: str = "You said: mark1") -> dict[str, Any]:
    said = {"status": status, "content": content, "cost_microusd": 7, "finish_reason": "stop"}
    return {"message": said}


@pytest.mark.parametrize(
    ("text", "kind", "code"),
    [
        (f"event: done\ndata: {json.dumps(message())}\n\n", Kind.ANSWERED, ""),
        (f"event: done\ndata: {json.dumps(message(content='else'))}\n\n", Kind.WRONG, ""),
        ('event: error\ndata: {"code": "answer_lost"}\n\n', Kind.BROKEN_OFF, "answer_lost"),
        (
            'event: interrupted\ndata: {"problem": {"code": "vendor_failed"}}\n\n',
            Kind.BROKEN_OFF,
            "vendor_failed",
        ),
        ('event: delta\ndata: {"text": "mark1"}\n\n', Kind.CUT, ""),
        ('event: done\ndata: {"mess', Kind.CUT, ""),
    ],
)
async def test_how_a_live_answer_ended(text: str, kind: Kind, code: str) -> None:
    async with answering(text=text, headers={"x-request-id": "r"}) as client:
        told = await attempt(client, question("live"))
    assert (told.kind, told.code, told.request_id) == (kind, code, "r")


async def test_how_a_refusal_is_noted() -> None:
    headers = {"content-type": "application/problem+json", "retry-after": "2"}
    text = '{"code": "dependency_unavailable"}'
    async with answering(status=503, headers=headers, text=text) as client:
        told = await attempt(client, question("whole"))
    assert told.label == "503 dependency_unavailable"
    assert broken_promise(told, may_cut=False) == ""


class Shelf:
    """Two books of one user, as they are read."""

    KEY = sha256(b"a key").hexdigest()[:16]

    def rows(self, service: str, sql: str) -> list[Mapping[str, Any]]:
        row = dict.fromkeys(("cache_read_tokens", "cache_write_tokens", "characters"), 0)
        other = {
            "event_id": "e",
            "user_id": "ada",
            "provider": "openai",
            "request_id": "r",
            "provider_request_id": "chat-1",
            "outcome": "done",
            "source": "provider",
            "cost_microusd": 7,
            "occurred_at": "2026-11-28T12:00:00+00:00",
            "input_tokens": 3,
            "output_tokens": 5,
            "output_reasoning_tokens": 0,
        }
        return [row | other, row | other | {"user_id": "somebody else"}]

    def served(self) -> list[Mapping[str, Any]]:
        call = {
            "key_sha256": self.KEY,
            "response_id": "chat-1",
            "status": 200,
            "outcome": "completed",
            "usage": TOKENS,
            "started_at": 1.0,
        }
        return [call, call | {"key_sha256": "of another"}, call | {"response_id": ""}]


def test_the_books_of_these_people_alone_are_compared() -> None:
    answered = tried(Kind.ANSWERED, request_id="r", cost_microusd=7)
    told_again = replace(answered, request_id="r2", replayed=True)
    found = account(Shelf(), [question("whole").person], [answered, told_again])
    assert (found.served, found.entries, list(found.findings)) == (1, 1, [])


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("2.26.1-4\n", (2, 26, 1)), ("v2.40.3", (2, 40, 3)), ("docker-compose version", None)],
)
def test_versions_of_compose(text: str, numbers: tuple[int, ...] | None) -> None:
    assert compose.parsed(text) == numbers


@pytest.mark.parametrize(("version", "is_taken"), [("2.23.3", False), ("2.24.0", True)])
def test_a_client_that_can_not_read_our_file_is_not_taken(
    version: str, is_taken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = tmp_path / "docker-compose"
    client.write_text(f"#!/bin/sh\necho {version}\n")
    client.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    monkeypatch.setattr(compose, "_HERE", [("docker-compose",)])
    assert (compose.installed() is not None) is is_taken
    page = (ROOT / "docs" / "compose.md").read_text("utf-8")
    assert f"Compose {'.'.join(map(str, compose.OLDEST))} or newer" in page


def test_a_client_that_is_not_there_has_no_version() -> None:
    assert compose.version_of(("/nowhere/docker-compose",)) is None


def test_an_engine_that_was_named_and_is_away_is_no_reason_to_start_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    with pytest.raises(NoEngine, match="DOCKER_HOST is set"), an_engine():
        pass


def test_the_table_is_kept_in_the_place_of_the_last_one(tmp_path: Path) -> None:
    path = tmp_path / "proof.md"
    path.write_text(f"# Proof\n\nHow.\n\n{MARK}\n\nold")
    line = figures(ROUND, [tried(Kind.ANSWERED, began=11.0)], reconcile([], [], []))
    result = Result(date(2026, 11, 28), {"Docker": "28"}, [Check("up", "20 s", True)], [line])
    keep(result, path)
    kept = path.read_text()
    assert kept.startswith(f"# Proof\n\nHow.\n\n{MARK}\n\n## Measured on 2026-11-28\n")
    assert "old" not in kept
    assert "\n".join(table(result)) in kept
    assert result.good
    assert not replace(result, rounds=[replace(line, broken=("late",))]).good


def test_three_brokers_are_broken_one_by_one() -> None:
    there = yaml.safe_load(THREE_BROKERS.read_text("utf-8"))["services"]
    struck = {fault.service for fault in OF_THREE_BROKERS}
    assert struck <= there.keys() and struck <= {"rabbitmq-2", "rabbitmq-3"}
    assert all(fault.bounds.errors == 0 for fault in OF_THREE_BROKERS)


_RECORDER = """
import json, os, sys
with open(os.environ["RECORD"], "a") as file:
    file.write(json.dumps([os.environ.get("COMPANION_VERSION"), *sys.argv[1:]]) + chr(10))
"""


def _recorded(tmp_path: Path) -> tuple[Deployment, Any, list[str]]:
    """A deployment whose compose only writes down what it is told, and the engine's tags."""
    tags: list[str] = []
    record, settings = tmp_path / "record", tmp_path / "settings"
    record.touch()
    settings.mkdir()
    environment = {"RECORD": str(record), "COMPANION_SETTINGS": str(settings)}
    program = (sys.executable, "-c", _RECORDER)
    processes_seen = itertools.count(1)
    images = SimpleNamespace(
        get=lambda name: SimpleNamespace(tag=lambda *to: tags.append(f"{name} = {':'.join(to)}")),
        remove=lambda name, **_: tags.append(f"-{name}"),
    )
    containers: Any = SimpleNamespace(
        client=SimpleNamespace(images=images),
        one=lambda name: SimpleNamespace(
            attrs={"Config": {"Image": f"here:1/companion/{name.partition('-')[0]}:dev"}},
            # Asked which Envoy takes requests, it is another one each time.
            exec_run=lambda *_, **__: (0, (str(next(processes_seen)).encode(), b"")),
        ),
        wait_healthy=lambda _seconds: 0.0,
    )
    made = Deployment(compose.Compose(program, "p", (), environment), containers, "http://x")

    def told() -> list[list[str | None]]:
        lines = [json.loads(line) for line in record.read_text().splitlines()]
        return [[version, *words] for version, _, _, *words in lines]

    return made, told, tags


def test_proxies_are_renewed_as_the_docs_say(tmp_path: Path) -> None:
    made, told, tags = _recorded(tmp_path)
    renew_proxies(made)
    once = ("run", "--rm", "--no-deps", "--no-TTY")
    assert told()[:3] == [
        [NEXT, *once, "chat-prepare"],
        [NEXT, *once, "gateway-config"],
        [NEXT, *once, "egress-config"],
    ]
    # What `up envoy` does where the image has another program.
    assert [line[:-1] for line in told()[3:]] == [[NEXT, *once, "envoy"]]
    assert sorted(tags) == [
        "-here:1/companion/chat:proof-next",
        "-here:1/companion/gateway:proof-next",
        "here:1/companion/chat:dev = here:1/companion/chat:proof-next",
        "here:1/companion/gateway:dev = here:1/companion/gateway:proof-next",
    ]
    text = (ROOT / "docs" / "compose.md").read_text("utf-8")
    for _, *words in told()[:3]:
        said = [word for word in words if word != "--no-TTY"]
        assert f"docker compose {' '.join(said)}" in text


def test_a_setting_is_changed_as_the_docs_say(tmp_path: Path) -> None:
    made, told, _ = _recorded(tmp_path)
    change_a_setting(made)
    assert told() == [[None, "up", "--detach", "--no-deps", "gateway-config"]]
    text = (ROOT / "docs" / "compose.md").read_text("utf-8")
    assert "docker compose up --detach --no-deps gateway-config" in text
    # One that the gateway reads from there.
    settings = tmp_path / "settings"
    assert "GATEWAY_STREAM_IDLE_SECONDS=890" in (settings / "gateway.env").read_text()
    assert list(SettingsFiles(settings, settings / ".env").troubles()) == []


# In a cluster.

ENGINES = {"postgres", "valkey", "rabbitmq"}


def test_what_is_broken_in_a_cluster_runs_there() -> None:
    known = {process.name for process in processes()}
    assert {loss.name for loss in cluster.LOSSES} <= known | ENGINES
    assert {cluster.POOL, *cluster.PROXIES} <= known
    assert {*cluster.ROLLOUTS, "proxy"} == {str(process.kind) for process in processes()}


def test_the_page_of_a_clusters_proof_has_a_place_for_it() -> None:
    assert cluster.MARK in cluster.KEPT.read_text("utf-8")


def a_cluster(folder: Path, said: str, *, code: int = 0) -> Namespace:
    """One whose kubectl says this, and keeps what it was asked."""
    program = folder / "kubectl"
    (folder / "said").write_text(said)
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {folder}/asked\ncat {folder}/said\n'
        f"echo 'no such thing' >&2\nexit {code}\n"
    )
    program.chmod(0o755)
    return Namespace(Kubectl(program=str(program)), "http://x")


def workload(name: str, *, ready: int, updated: int, generation: int = 2) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "generation": 2},
        "spec": {"replicas": 2},
        "status": {
            "observedGeneration": generation,
            "replicas": 2,
            "updatedReplicas": updated,
            "readyReplicas": ready,
        },
    }


def test_a_cluster_is_healthy_when_all_new_pods_are_ready(tmp_path: Path) -> None:
    found = [
        workload("chat-pro", ready=2, updated=2),
        workload("chat-free", ready=1, updated=2),
        workload("voice-pro", ready=2, updated=1),
        workload("voice-free", ready=2, updated=2, generation=1),
    ]
    suite = a_cluster(tmp_path, json.dumps({"items": found}))
    assert suite.unhealthy() == ["chat-free (1 of 2)", "voice-free (2 of 2)", "voice-pro (2 of 2)"]


def test_a_pod_that_leaves_is_none_to_lose(tmp_path: Path) -> None:
    leaving = {"metadata": {"name": "egress-1", "deletionTimestamp": "2026-11-29T00:00:00Z"}}
    suite = a_cluster(
        tmp_path, json.dumps({"items": [leaving, {"metadata": {"name": "egress-2"}}]})
    )
    suite.delete("egress", at_once=True)
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked[-1] == "delete pod egress-2 --grace-period=0 --force"


def test_what_kubectl_says_last_is_told(tmp_path: Path) -> None:
    suite = a_cluster(tmp_path, "", code=1)
    with pytest.raises(CompanionError, match="kubectl scale failed: no such thing"):
        suite.scale("chat-pro", 3)
    with pytest.raises(CompanionError, match="kubectl is not installed"):
        Kubectl(program=str(tmp_path / "nowhere")).run("get")
