"""The drill: a backup that was never restored is none.

A backup of the running sandbox is restored into a data directory of its own and started beside it,
on ports of its own, with simulated vendors and nothing that could reach a person: its mails go to a
folder, and waiting mails and webhooks are dropped before it starts.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

import httpx

from deploy.companion.backup import erasures
from deploy.companion.backup.create import Taken, create
from deploy.companion.backup.estate import Estate
from deploy.companion.backup.restore import Restored, restore_embedded
from deploy.companion.databases import connect
from deploy.companion.environment import machine_environment
from deploy.companion.errors import CompanionError
from deploy.companion.installation import Installation
from deploy.companion.ports import free_port
from deploy.companion.running import Running
from deploy.companion.settings import ROOT, Settings
from shared.values import dataclass

Tell = Callable[[str], None]

_START_SECONDS = 180
_PATIENCE_SECONDS = 60.0
_POLL_SECONDS = 0.1
_NOBODY_IS_TOLD = {
    "auth": ("delete from outgoing_mail",),
    "billing": ("delete from webhook_delivery", "delete from webhook_endpoint"),
}
_WAITING = "select count(*) from outbox"
_LEDGER = "select count(*) from ledger_entry"
_ENTERED = "select event_id from ledger_entry"
_TOLD = "select event_id from outbox_sent where starts_with(stream, 'usage.recorded')"
_UNCOUNTED = """
select (select count(*) from ledger_entry)
     - (select coalesce(sum(cardinality(ids)), 0) from ledger_uncounted)
     - (select coalesce(sum(requests), 0) from usage_hour)
"""
_DEAD = "select count(*) from dead_event"


@dataclass(frozen=True, slots=True)
class Row:
    """One promise, what was found, and whether it holds."""

    promise: str
    found: str
    holds: bool


@dataclass(slots=True)
class Report:
    """What the drill has found."""

    rows: list[Row] = field(default_factory=list)

    def add(self, promise: str, found: object, holds: bool = True) -> None:
        self.rows.append(Row(promise, str(found), holds))

    @property
    def all_hold(self) -> bool:
        return all(row.holds for row in self.rows)

    def table(self) -> str:
        width = max(len(row.promise) for row in self.rows)
        return "\n".join(
            f"{'ok' if row.holds else 'NO':3} {row.promise:{width}}  {row.found}"
            for row in self.rows
        )


def drill(installation: Installation, keep: Path | None, tell: Tell) -> Report:
    """Raises CompanionError when it can't be made at all."""
    running = Running.require(installation)
    if not installation.settings.sandbox:
        raise CompanionError(
            "The drill makes users and chats, so it wants a sandbox.",
            "Run it beside a suite with SANDBOX=1; check a production backup with "
            "`companion backup verify`, and restore it on a machine apart.",
        )
    if keep is not None and keep.exists():
        raise CompanionError(f"{keep} is there already.")
    folder = keep or Path(tempfile.mkdtemp(prefix="companion-drill-"))
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    folder.chmod(0o711)  # PostgreSQL may run as another user.
    try:
        return _Drill(installation, folder, tell).run(running.url)
    finally:
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)


class _Drill:
    def __init__(self, installation: Installation, folder: Path, tell: Tell) -> None:
        self._installation = installation
        self._folder = folder
        self._tell = tell
        self._report = Report()
        self._passphrase = secrets.token_urlsafe(24)

    def run(self, url: str) -> Report:
        with contextlib.ExitStack() as stack:
            kept, erased, late = (stack.enter_context(_person(url)) for _ in range(3))
            self._tell("Two users sign up, store a key and chat …")
            for one in (kept, erased):
                one.begin()
                one.chat(2)
            self._tell("Backing up …")
            taken = self._take(kept, erased)
            self._tell("Afterwards one is deleted, and another one comes …")
            late.begin()
            late.chat(1)
            erased.delete()
            deleted = self._folder / "erasures"
            erasures.keep(Estate.embedded(self._installation), deleted)
            self._tell("Restoring beside it …")
            restored, copy = self._restore(deleted)
            self._tell("Starting the copy …")
            began = time.monotonic()
            with _running(copy, self._folder / "output") as copied:
                started = time.monotonic() - began
                self._report.add(
                    "back to work (RTO)",
                    f"{restored.seconds:.1f} s restore + {started:.1f} s start",
                )
                self._prove(copy, copied, taken, restored, (kept, erased, late))
        return self._report

    def _take(self, *people: _Person) -> Taken:
        # While they chat: what is under way just then must not be lost either.
        for one in people:
            one.chat(1)
        estate = Estate.embedded(self._installation)
        taken = create(estate, self._folder / "backup", self._passphrase)
        first, last = taken.manifest.at, taken.manifest.until
        self._report.add(
            "backup, while it works", f"{taken.bytes / 1e6:.2f} MB in {taken.seconds:.1f} s"
        )
        self._report.add("one moment (RPO)", f"{first} to {last[-15:]}")
        return taken

    def _restore(self, deleted: Path) -> tuple[Restored, Installation]:
        settings = Settings.from_environment(
            {
                **machine_environment(self._installation.settings.inherited),
                "COMPANION_DATA_DIR": str(self._folder / "data"),
                "PORT": str(free_port()),
                "SANDBOX": "1",
            }
        )
        copy = Installation.open(settings)
        outcome: list[erasures.Replayed] = []

        def after(estate: Estate) -> None:
            for service, statements in _NOBODY_IS_TOLD.items():
                for statement in statements:
                    _rows(estate, service, statement)
            known = erasures.read(deleted)
            outcome.append(erasures.replay(erasures.settings_of(copy), known))

        restored = restore_embedded(
            self._folder / "backup", copy, self._passphrase, tell=self._tell, after=after
        )
        again = len(outcome[0].again)
        self._report.add("deleted since, deleted again", f"{again} of 1", again == 1)
        return restored, copy

    def _prove(
        self,
        copy: Installation,
        running: Running,
        taken: Taken,
        restored: Restored,
        people: tuple[_Person, _Person, _Person],
    ) -> None:
        estate = Estate.embedded(copy)
        kept, erased, late = (one.at(running.url) for one in people)
        waiting = _until(lambda: sum(_number(estate, s, _WAITING) for s in estate.databases), 0)
        self._report.add(
            "what was sent is sent once more",
            f"{restored.sent_again} events, {waiting} wait",
            restored.sent_again > 0 and waiting == 0,
        )
        self._prove_ledger(estate, taken)
        self._command(copy, "the ledger's chain verifies", "ledger", "verify", *_heads(taken))
        self._command(copy, "auth's audit chain verifies", "auth", "audit", "verify")
        self._people(kept, erased, late)
        dead = sum(_number(estate, service, _DEAD) for service in estate.databases)
        self._report.add("no event has died", dead, dead == 0)

    def _prove_ledger(self, estate: Estate, taken: Taken) -> None:
        def told() -> set[str]:
            return _ids(estate, "chat", _TOLD) | _ids(estate, "voice", _TOLD)

        # Some of it was under way when the backup was taken.
        lost = _until(lambda: len(told() - _ids(estate, "billing", _ENTERED)), 0)
        self._report.add("nothing lost", f"{len(told())} uses told, {lost} not entered", lost == 0)
        before, then = taken.manifest.ledger["entries"], _number(estate, "billing", _LEDGER)
        time.sleep(2)  # A repeat that counted twice would show by now.
        now = _number(estate, "billing", _LEDGER)
        self._report.add(
            "nothing counted twice",
            f"{before} entries at the backup, {now} after all was sent once more",
            before <= then == now,
        )
        off = _number(estate, "billing", _UNCOUNTED)
        self._report.add("hourly sums agree", f"{off} off", off == 0)

    def _people(self, kept: _Person, erased: _Person, late: _Person) -> None:
        self._report.add("users sign in", kept.sign_in(), kept.sign_in() == 200)
        requests = kept.requests()
        self._report.add("their usage is theirs", f"{requests} of 3 requests", requests == 3)
        key = kept.key_status()
        self._report.add("keys are there", key, key == "valid")
        answer = kept.ask()
        self._report.add("a key opens, by a chat through egress", answer, answer == 200)
        status = erased.sign_in()
        self._report.add("who was deleted stays deleted", status, status == 401)
        status = late.sign_in()
        self._report.add("after the backup: lost, as stated", f"sign-in {status}", status == 401)

    def _command(self, copy: Installation, promise: str, *words: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "deploy.companion", *words],
            cwd=ROOT,
            env=_environment(copy),
            capture_output=True,
            text=True,
            check=False,
        )
        said = [line for line in (done.stdout + done.stderr).splitlines() if "fit" in line]
        self._report.add(promise, said[-1][:80] if said else "no", done.returncode == 0)


class _Person:
    """A user who does what users do."""

    def __init__(self, client: httpx.Client, name: str, password: str) -> None:
        self._client = client
        self.name = name
        self._password = password
        self._session = ""

    def at(self, url: str) -> _Person:
        """The same person at another gateway, signed in nowhere."""
        return _Person(
            httpx.Client(base_url=url, timeout=30, trust_env=False), self.name, self._password
        )

    def begin(self) -> None:
        account = {"email": f"{self.name}@example.com", "username": self.name}
        self._done("POST", "/auth/register", 201, {**account, "password": self._password})
        self.sign_in()
        self._done("PUT", "/keys/openai", 202, {"api_key": f"sandbox-{secrets.token_hex(8)}"})
        _until(lambda: self.key_status() == "valid", True)
        self._session = self._done("POST", "/chat/sessions", 201, {})["id"]

    def sign_in(self) -> int:
        login = {"login": self.name, "password": self._password}
        answer = self._client.post("/auth/login", json=login)
        if answer.status_code == 200:
            token = answer.json()["access_token"]
            self._client.headers["authorization"] = f"Bearer {token}"
        return answer.status_code

    def chat(self, times: int) -> None:
        for _ in range(times):
            path = f"/chat/sessions/{self._session}/messages"
            self._done("POST", path, 200, {"content": "What is a tooltip?"})

    def ask(self) -> int:
        """A chat in a session of its own."""
        self._session = self._done("POST", "/chat/sessions", 201, {})["id"]
        path = f"/chat/sessions/{self._session}/messages"
        return self._client.post(path, json={"content": "Still here?"}).status_code

    def key_status(self) -> str:
        return str(self._client.get("/keys/openai").json().get("status"))

    def requests(self) -> int:
        return int(self._client.get("/billing/usage").json()["totals"]["requests"])

    def delete(self) -> None:
        answer = self._client.delete("/auth/me")
        if answer.status_code >= 300:
            raise CompanionError(f"The account can't be deleted: {answer.text[:300]}")

    def _done(self, method: str, path: str, status: int, body: Mapping[str, Any]) -> Any:
        answer = self._client.request(method, path, json=body)
        if answer.status_code != status:
            raise CompanionError(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
        return answer.json()


@contextlib.contextmanager
def _person(url: str) -> Iterator[_Person]:
    with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
        yield _Person(client, f"drill-{secrets.token_hex(5)}", secrets.token_urlsafe(18))


@contextlib.contextmanager
def _running(copy: Installation, output: Path) -> Iterator[Running]:
    """The copy at work, for the length of a block."""
    with output.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy.companion", "up"],
            cwd=ROOT,
            env=_environment(copy),
            stdout=stream,
            stderr=stream,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        yield _ready(copy, process, output)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def _ready(copy: Installation, process: subprocess.Popen[bytes], output: Path) -> Running:
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        running = Running.find(copy)
        if running is not None and running.ready_after_seconds is not None:
            return running
        time.sleep(_POLL_SECONDS)
    lines = output.read_text(errors="replace").splitlines()[-5:]
    raise CompanionError("The copy did not start: " + " / ".join(lines))


def _environment(copy: Installation) -> dict[str, str]:
    return {
        **copy.machine_environment(),
        "COMPANION_DATA_DIR": str(copy.data.root),
        "PORT": str(copy.settings.port),
        "SANDBOX": "1",
    }


def _heads(taken: Taken) -> Iterator[str]:
    for name, head in taken.manifest.ledger_heads.items():
        yield from ("--head", f"{name}={head}")


def _number(estate: Estate, service: str, sql: str) -> int:
    return int(str(_rows(estate, service, sql)[0][0]))


def _ids(estate: Estate, service: str, sql: str) -> set[str]:
    return {str(id_) for (id_,) in _rows(estate, service, sql)}


def _rows(estate: Estate, service: str, sql: str) -> list[tuple[object, ...]]:
    connection = connect(estate.databases[service])
    with contextlib.closing(connection), connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall() if cursor.description else []


def _until(look: Callable[[], int], wanted: int) -> int:
    """What is seen once it is as wanted, or at the end of our patience."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        seen = look()
        if seen == wanted or time.monotonic() > deadline:
            return seen
        time.sleep(_POLL_SECONDS)
