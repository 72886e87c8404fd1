"""`companion up`: from nothing to a gateway that answers, and back."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import NoReturn

from deploy.companion import checks, identities, prepare, previous_run
from deploy.companion.console import Console
from deploy.companion.data_dir import replace_private
from deploy.companion.databases import database_name, existing_databases
from deploy.companion.embedded_settings import WHERE_IT_IS_SAID, idle_here
from deploy.companion.environment import ready_file
from deploy.companion.errors import CompanionError
from deploy.companion.installation import Installation
from deploy.companion.log_files import Follower
from deploy.companion.ports import LOOPBACK
from deploy.companion.previous_run import MARK, RunRecord, sole_run
from deploy.companion.programs import Stage
from deploy.companion.readiness import http_status
from deploy.companion.signals import StopAsked, ignore_signals, stop_on_signals
from deploy.companion.starting import start_together
from deploy.companion.supervision.session import Session
from deploy.companion.tour import printed_tour
from deploy.companion.watching import Watch

_POLL_SECONDS = 0.05


def up(installation: Installation, console: Console, *, follow: bool = False) -> None:
    """Start everything, watch it until a signal comes, stop it. Raises CompanionError."""
    console.say(f"ToolTip Companion, data in {installation.data.root}")
    installation.data.create()
    with sole_run(installation.data), stop_on_signals():
        run = _Run(installation, console, follow=follow)
        try:
            run.start()
            run.watch()
        except StopAsked:
            pass
        finally:
            ignore_signals()
            run.stop()


class _Run:
    """One run, while the lock on its data directory is held."""

    def __init__(self, installation: Installation, console: Console, *, follow: bool) -> None:
        self._installation = installation
        self._data = installation.data
        self._console = console
        self._follow = follow
        self._follower: Follower | None = None
        self._session: Session | None = None
        self._url = f"http://{LOOPBACK}:{installation.settings.port}"
        self._record = RunRecord.of_this_process(self._url, installation.settings.choices)
        self._warnings: list[str] = []

    def start(self) -> None:
        """From nothing to a gateway that answers."""
        began = time.monotonic()
        self._clean_up_after_previous_run()
        checks.require(self._installation)
        if idle := idle_here(self._installation.settings.inherited):
            self._console.warn(f"{idle} {WHERE_IT_IS_SAID}")
        self._make_secrets()
        self._installation.assign_ports()
        previous_run.write_record(self._data, self._record)
        self._make_engines()
        session = self._open_session()
        for stage in Stage:
            self._start_stage(session, stage)
        if "gateway" in session.programs:
            with self._step("health"):
                self._await_gateway()
        self._report_ready(time.monotonic() - began)

    def watch(self) -> NoReturn:
        """Until a signal comes."""
        assert self._session is not None
        watch = Watch(
            self._session, self._console, lambda pid: previous_run.end_group(pid, self._data)
        )
        watch.forever(meanwhile=self._show_logs)

    def stop(self) -> None:
        """Back to nothing, whatever state the start was in."""
        began = time.monotonic()
        if self._session is not None:
            self._console.say("Stopping …")
            self._session.close()
        previous_run.end(previous_run.leftovers(self._data), patience_seconds=5)
        previous_run.forget_record(self._data)
        if self._session is not None:
            self._console.say(f"Stopped in {time.monotonic() - began:.1f} s.")

    def _clean_up_after_previous_run(self) -> None:
        orphans = previous_run.leftovers(self._data)
        if orphans:
            self._console.warn(
                "The previous run ended without cleaning up; stopping the "
                f"{len(orphans)} processes it left."
            )
            previous_run.end(orphans)

    def _make_secrets(self) -> None:
        if self._data.unfinished_restore.exists():
            raise CompanionError(
                f"A restore into {self._data.root} did not come to its end; something is missing.",
                "Delete this data directory, and restore again.",
            )
        if self._data.is_new:
            with self._step("secrets"):
                # An outside server may hold what another keyring sealed: then none is made.
                with_keyring = not self._server_has_vault()
                prepare.create_secrets(self._data.root, with_keyring=with_keyring)
        lost = identities.missing_identities(self._data)
        if lost:
            self._console.warn(f"New identity keys are made for {', '.join(lost)}.")
            identities.create_identities(self._data, lost)
        if prepare.create_webhook_keys(self._data):
            self._console.warn("A new key for the secrets of webhooks is made.")
        prepare.create_utterance_keys(self._data)
        self._warnings = prepare.lost_secrets(self._data)
        for warning in self._warnings:
            self._console.warn(warning)

    def _server_has_vault(self) -> bool:
        url = self._installation.settings.database_url
        return url is not None and database_name("keyvault") in existing_databases(url)

    def _make_engines(self) -> None:
        is_first = self._installation.settings.embeds_postgres and not self._data.has_database
        with self._step("postgres cluster") if is_first else contextlib.nullcontext():
            self._installation.prepare_engines()

    def _open_session(self) -> Session:
        installation = self._installation
        installation.render_proxies()
        programs = {role.name: installation.program(role) for role in installation.roles}
        for program in programs.values():
            ready_file(program.role, self._data).unlink(missing_ok=True)
        if self._follow:
            self._follower = Follower({name: p.log for name, p in programs.items()})
        self._session = session = Session(installation.supervisor(), programs)
        configuration = self._data.run / "supervisord.conf"
        replace_private(configuration, session.configuration)
        mark = {MARK: str(self._data.root)}
        session.open(configuration, {**installation.machine_environment(), **mark})
        return session

    def _start_stage(self, session: Session, stage: Stage) -> None:
        start_together(
            session.of_stage(stage),
            session.client,
            self._installation,
            self._console,
            while_waiting=self._show_logs,
        )
        if stage is Stage.ENGINES:
            self._prepare_services()

    def _prepare_services(self) -> None:
        installation = self._installation
        if installation.settings.embeds_postgres:
            installation.postgres().ensure_role()
        services, addresses = installation.services, installation.addresses()
        if services:
            with self._step("databases"):
                prepare.migrate(addresses.database_url, services)
            with self._step("queues"):
                prepare.declare_queues(addresses.broker_url)

    def _await_gateway(self) -> None:
        patience_seconds = self._installation.settings.start_seconds
        deadline = time.monotonic() + patience_seconds
        while time.monotonic() < deadline:
            status = http_status(self._installation.settings.port, "/health")
            # What is missing was said above; the rest works, so do not wait for it.
            if status == 200 or (status == 503 and self._warnings):
                return
            self._show_logs()
            time.sleep(_POLL_SECONDS)
        raise CompanionError(
            f"{self._url}/health does not answer 200 after {patience_seconds} s.",
            f"`companion status` tells who is not ready; the logs are in {self._data.logs}.",
        )

    def _report_ready(self, seconds: float) -> None:
        ready = replace(self._record, ready_after_seconds=round(seconds, 3))
        previous_run.write_record(self._data, ready)
        say = self._console.say
        say(f"\nReady in {seconds:.1f} s: {self._url}\n")
        if self._installation.settings.sandbox:
            say("  Sandbox   vendors are simulated, and changing the tier needs no payment")
        say(f"  Docs      {self._url}/docs")
        say("  Tour      make demo, or step by step in another terminal as below")
        say("  Status    make status")
        say(f"  Logs      {self._data.logs}")
        say("  Stop      Ctrl-C\n")
        say(printed_tour(self._url))

    def _show_logs(self) -> None:
        if self._follower is not None:
            for name, line in self._follower.new_lines():
                self._console.say(f"{name:>16} | {line}")

    @contextlib.contextmanager
    def _step(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self._console.done(name, time.monotonic() - began)
