"""What must hold where a suite runs: `companion doctor` beside a running one, or with --deployment.

Nothing here changes anything; each check is made for itself, and one that can't be made says why.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from datetime import timedelta
from pathlib import Path
from typing import Any

from psycopg2.extensions import cursor as Cursor  # noqa: N812 - it is a class

from deploy.companion.backup.estate import Estate
from deploy.companion.care_checks import ROTATED_WITHIN, too_old
from deploy.companion.checks import Finding, Level, not_looked_at
from deploy.companion.databases import connect
from deploy.companion.errors import CompanionError
from deploy.companion.installation import Installation
from deploy.companion.programs import SERVICES, Kind
from deploy.companion.queue_names import all_queues
from shared.values import dataclass

# Events are told within a second; whoever waits for a minute waits for somebody who is gone.
_OUTBOX_LATE_SECONDS, _OUTBOX_STUCK_SECONDS = 60, 600
# Tokens allow ten seconds of skew, and leases last thirty.
_SKEW_WARNING_SECONDS, _SKEW_PROBLEM_SECONDS = 2.0, 8.0
_CONNECTIONS_WARNING = 0.8
_LONG_QUEUE = 10_000
_SEALED = "docs/runbooks/VaultSealed.md says what to do."
_PREPARE = "Run `companion migrate`, or in containers each service's prepare."
_OLDEST_POSTGRES, _OLDEST_VALKEY, _OLDEST_RABBITMQ = 17, 7, 4


@dataclass(frozen=True, slots=True)
class Site:
    """A running installation, as its operator reaches it."""

    server_url: str = field(repr=False)
    """PostgreSQL as somebody who may see everybody's connections."""
    databases: Mapping[str, str] = field(repr=False)
    cache_url: str = field(repr=False)
    broker_url: str = field(repr=False)
    secrets: Path
    most_connections: int | None = None
    """How many its processes open at most, where we know all of them."""

    @classmethod
    def embedded(cls, installation: Installation) -> Site:
        addresses = installation.addresses()
        pooled = [role for role in installation.roles if role.kind in (Kind.WEB, Kind.WORKER)]
        told = installation.settings.inherited.get("DATABASE_CONNECTIONS", "10")
        embeds = installation.settings.embeds_postgres
        return cls(
            installation.postgres().superuser_url if embeds else addresses.database_url,
            Estate.embedded(installation).databases,
            addresses.cache_url,
            addresses.broker_url,
            installation.data.secrets,
            # What is no number stops the services with a sentence of their own.
            len(pooled) * int(told) + len(SERVICES) if told.isdecimal() else None,
        )

    @classmethod
    def deployment(cls, secrets: Path) -> Site:
        """What the operator's own user may see. Raises CompanionError."""
        estate = Estate.of_deployment(secrets)
        try:
            server, cache, broker = (
                (secrets / "operator" / name).read_text("utf-8").strip()
                for name in ("database_url", "cache_url", "broker_url")
            )
        except (OSError, UnicodeDecodeError) as error:
            raise CompanionError(
                f"The operator's addresses can't be read from {secrets / 'operator'}.",
                "`companion deployment check` says what is missing.",
            ) from error
        return cls(server, estate.databases, cache, broker, secrets)


SiteCheck = Callable[[Site], Iterator[Finding]]


def examine_site(site: Site, checks: tuple[SiteCheck, ...] | None = None) -> list[Finding]:
    """Run the checks; one that can't be made is a problem itself."""
    return [finding for check in checks or ALL for finding in _run(check, site)]


def _run(check: SiteCheck, site: Site) -> list[Finding]:
    subject = check.__name__.replace("_", " ")
    try:
        return list(check(site))
    except CompanionError as error:
        return [Finding(subject, "problem", error.message, error.remedy)]
    except Exception as error:
        return [not_looked_at(subject, error)]


def postgres(site: Site) -> Iterator[Finding]:
    """Its version, and the settings by which nothing that was committed is lost."""
    with _server(site) as cursor:
        version = int(_value(cursor, "show server_version_num")) // 10_000
        level: Level = "ok" if version >= _OLDEST_POSTGRES else "problem"
        remedy = "" if level == "ok" else f"Use PostgreSQL {_OLDEST_POSTGRES} or later."
        yield Finding("postgres", level, f"PostgreSQL {version} answers", remedy)
        for name, wanted in (("fsync", "on"), ("full_page_writes", "on")):
            if (found := _value(cursor, f"show {name}")) != wanted:
                said = f"{name} is {found}: a crash of the machine may cost the whole cluster."
                yield Finding("postgres", "problem", said, f"Set {name} = {wanted}.")
        if (found := _value(cursor, "show synchronous_commit")) == "off":
            said = "synchronous_commit is off: what was confirmed may be lost in a crash."
            yield Finding("postgres", "problem", said, "Set synchronous_commit = on.")
        if _value(cursor, "show data_checksums") != "on":
            said = "data_checksums is off: a damaged disk is not noticed."
            yield Finding("postgres", "warning", said, "Switch it on with pg_checksums.")


def connections(site: Site) -> Iterator[Finding]:
    """Room for all pools."""
    with _server(site) as cursor:
        reserved = "current_setting('superuser_reserved_connections')::int"
        room = int(_value(cursor, f"select current_setting('max_connections')::int - {reserved}"))
        used = int(
            _value(
                cursor,
                "select count(*) from pg_stat_activity where backend_type = 'client backend'",
            )
        )
    wanted = site.most_connections
    remedy = "Raise max_connections, lower DATABASE_CONNECTIONS, or put a pooler in between."
    if wanted is not None and wanted > room:
        said = f"All pools together may open {wanted} connections, and there is room for {room}."
        yield Finding("connections", "problem", said, remedy)
    elif used > room * _CONNECTIONS_WARNING:
        yield Finding("connections", "warning", f"{used} of {room} are in use.", remedy)
    else:
        most = f", at most {wanted} by its pools" if wanted is not None else ""
        yield Finding("connections", "ok", f"{used} of {room} in use{most}")


def clocks(site: Site) -> Iterator[Finding]:
    """That this machine and the database agree on the time."""
    with _server(site) as cursor:
        before = time.time()
        then = float(_value(cursor, "select extract(epoch from clock_timestamp())"))
        after = time.time()
    off = then - (before + after) / 2
    text = f"{abs(off):.2f} s apart (PostgreSQL is {'ahead' if off > 0 else 'behind'})"
    if abs(off) < _SKEW_WARNING_SECONDS:
        yield Finding("clocks", "ok", text)
        return
    level: Level = "problem" if abs(off) >= _SKEW_PROBLEM_SECONDS else "warning"
    yield Finding("clocks", level, text, "Let both follow a time server (chrony, timesyncd).")


def migrations(site: Site) -> Iterator[Finding]:
    """That each database is at the newest revision of this release, or of a newer one."""
    from deploy.companion.backup.restore import known_revisions

    for service in site.databases:
        known = known_revisions(service)
        with _asked(site, service) as cursor:
            found = _value(cursor, "select version_num from alembic_version")
            is_older = found in known[1:]
            missing = [] if is_older else _lacking(cursor, service)
        if missing:
            text = f"{service} is at {found} and has no {missing[0]}."
            yield Finding("migrations", "problem", text, "Is it the database of another service?")
        elif found == known[0]:
            yield Finding("migrations", "ok", f"{service} is at {found}")
        elif is_older:
            text = f"{service} is at {found}, and {known[0]} is the newest."
            yield Finding("migrations", "problem", text, _PREPARE)
        else:
            text = f"{service} is at {found}: a newer release migrated it, and this one runs on it."
            yield Finding("migrations", "warning", text, "Go on to that release, or a later one.")


def _lacking(cursor: Cursor, service: str) -> list[str]:
    from importlib import import_module

    from shared.db.migrations import COLUMNS, lacking

    cursor.execute(COLUMNS)
    metadata = import_module(f"services.{service}.storage.tables").metadata
    return lacking(metadata, cursor.fetchall())


def events(site: Site) -> Iterator[Finding]:
    """What waits to be sent, and what has died."""
    for service in site.databases:
        with _asked(site, service) as cursor:
            cursor.execute(
                "select count(*), coalesce(extract(epoch from now() - min(created_at)), 0)::float"
                " from outbox"
            )
            ((waiting, oldest),) = cursor.fetchall()
            dead = int(_value(cursor, "select count(*) from dead_event where replayed_at is null"))
        if oldest > _OUTBOX_LATE_SECONDS:
            level: Level = "problem" if oldest > _OUTBOX_STUCK_SECONDS else "warning"
            text = f"{service}: {waiting} events wait, the oldest for {oldest:,.0f} s."
            yield Finding("outbox", level, text, f"See the relay of {service}, and the broker.")
        else:
            yield Finding("outbox", "ok", f"{service}: {waiting} wait")
        if dead:
            text = f"{service}: {dead} events could not be handled."
            yield Finding(
                "dead events", "warning", text, f"`companion events list {service}` shows why."
            )


def cache(site: Site) -> Iterator[Finding]:
    """Valkey as the cache."""
    yield from _valkey("cache", site.cache_url, must_keep=False)


def broker(site: Site) -> Iterator[Finding]:
    """RabbitMQ, or Valkey in its place, and everybody's queues."""
    from shared.messaging.broker import is_rabbitmq

    if is_rabbitmq(site.broker_url):
        yield from _rabbitmq(site.broker_url)
    else:
        yield from _valkey("broker", site.broker_url, must_keep=True)
        yield from _lists(site.broker_url)


def keyring(site: Site) -> Iterator[Finding]:
    """That the keys open what is in the vault."""
    import asyncio

    from deploy.companion.key_rotation import status

    try:
        found = asyncio.run(status())
    except CompanionError as error:
        yield Finding("keyring", "problem", error.message, error.remedy or _SEALED)
        return
    if found.keys is None or found.trouble:
        yield Finding("keyring", "problem", found.trouble, _SEALED)
        return
    active, data_keys = found.keys.active, found.rotation.data_keys
    kept = sum(data_keys.values())
    yield Finding("keyring", "ok", f"opens; version {active} wraps, {kept} data keys")
    yield from _rotation_of_keyring(site, active)
    old = sum(count for version, count in data_keys.items() if version < active)
    if old:
        text = f"{old} data keys are still wrapped with an older version."
        yield Finding("keyring", "warning", text, "Run `companion keyring rewrap`.")


def _rotation_of_keyring(site: Site, active: int) -> Iterator[Finding]:
    """When the active version was first known to a keyvault, which it can't be used before."""
    if "keyvault" not in site.databases:
        return
    with _asked(site, "keyvault") as cursor:
        cursor.execute(
            "select extract(epoch from now() - created_at)::float from keyring_canary"
            " where purpose = 'wrapping' and version = %s",
            (active,),
        )
        ages = [timedelta(seconds=max(0.0, seconds)) for (seconds,) in cursor.fetchall()]
    for age in ages:
        if age > ROTATED_WITHIN["keyring"]:
            yield too_old("keyring", age)
        else:
            yield Finding("rotation", "ok", f"keyring {age.days} d")


def _valkey(subject: str, url: str, *, must_keep: bool) -> Iterator[Finding]:
    import redis

    with redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5) as client:
        told: Mapping[str, Any] = client.info()
    version = str(told.get("valkey_version") or told.get("redis_version"))
    level: Level = "ok" if int(version.partition(".")[0]) >= _OLDEST_VALKEY else "problem"
    remedy = "" if level == "ok" else f"Use Valkey {_OLDEST_VALKEY} or later."
    yield Finding(subject, level, f"Valkey {version} answers", remedy)
    policy = told.get("maxmemory_policy")
    if policy != "noeviction":
        said = f"maxmemory-policy is {policy}: a full server throws limits or queues away."
        yield Finding(subject, "problem", said, "Set maxmemory-policy noeviction.")
    if not told.get("aof_enabled"):
        lost = "queues" if must_keep else "counts of limits"
        said = f"appendonly is off: a restart loses {lost}."
        yield Finding(subject, "problem" if must_keep else "warning", said, "Set appendonly yes.")
    most, used = int(told.get("maxmemory", 0)), int(told.get("used_memory", 0))
    if most and used > most * _CONNECTIONS_WARNING:
        said = f"{used / most:.0%} of its memory is in use; a full server refuses writes."
        yield Finding(subject, "warning", said, "Raise maxmemory.")


def _lists(url: str) -> Iterator[Finding]:
    import redis

    waiting = {}
    with redis.Redis.from_url(url, socket_timeout=5, decode_responses=True) as client:
        for queue in all_queues(url):
            waiting[queue.name] = int(client.llen(queue.name))
    yield from _told_lengths(waiting)


def _rabbitmq(url: str) -> Iterator[Finding]:
    import kombu
    from amqp.exceptions import NotFound

    waiting: dict[str, int] = {}
    missing, silent = [], []
    with kombu.Connection(url, connect_timeout=5) as connection:
        connection.connect()
        version = str(connection.connection.server_properties.get("version", "?"))
        level: Level = (
            "ok" if int(version.partition(".")[0] or 0) >= _OLDEST_RABBITMQ else "problem"
        )
        remedy = "" if level == "ok" else f"Use RabbitMQ {_OLDEST_RABBITMQ} or later."
        yield Finding("broker", level, f"RabbitMQ {version} answers", remedy)
        for queue in all_queues(url):
            name = queue.name
            channel: Any = connection.channel()
            try:
                told = channel.queue_declare(name, passive=True)
            except NotFound:
                missing.append(name)
                continue
            channel.close()
            waiting[name] = told.message_count
            if not told.consumer_count:
                silent.append(name)
        yield from _other_kind(connection, url, set(waiting))
    yield from _alarm(url)
    if missing:
        text = f"There are no queues {', '.join(missing)}: events for them wait in the outbox."
        yield Finding("queues", "problem", text, _PREPARE)
    if silent:
        text = f"Nobody listens to {', '.join(silent)}."
        yield Finding("queues", "problem", text, "Start the workers of these services.")
    yield from _told_lengths(waiting)


def _alarm(url: str) -> Iterator[Finding]:
    """Whoever publishes while memory or disk run out is told that it is blocked."""
    import kombu

    reasons: list[str] = []
    # Of its own: the broker reads nothing more from a connection that it has blocked.
    with contextlib.closing(kombu.Connection(url, connect_timeout=5)) as connection:
        inner: Any = connection.connection
        inner.on_blocked = lambda reason: reasons.append(str(reason))
        channel: Any = connection.channel()
        # To no queue at all: it is thrown away.
        nowhere = f"companion.doctor.{time.time()}"
        channel.basic_publish(channel.prepare_message(b"doctor"), "", nowhere)
        with contextlib.suppress(OSError):
            inner.drain_events(timeout=0.5)
        if reasons:
            # Not even a goodbye would be read.
            inner.collect()
    if reasons:
        text = f"The broker takes no messages: {reasons[0]}."
        yield Finding("broker", "problem", text, "Free memory or disk of the broker.")


def _other_kind(connection: Any, url: str, names: set[str]) -> Iterator[Finding]:
    """A queue that is there as another kind, or with other limits, than ours are made."""
    from amqp.exceptions import PreconditionFailed

    for queue in all_queues(url):
        if queue.name not in names:
            continue
        channel = connection.channel()
        try:
            channel.queue_declare(
                queue.name, durable=True, auto_delete=False, arguments=queue.queue_arguments
            )
        except PreconditionFailed:
            text = f"{queue.name} is no quorum queue with our limits: a node's loss may lose it."
            yield Finding("queues", "problem", text, "Drain it, delete it, `companion migrate`.")
        else:
            channel.close()


def _told_lengths(waiting: Mapping[str, int]) -> Iterator[Finding]:
    total = sum(waiting.values())
    long = {name: count for name, count in waiting.items() if count > _LONG_QUEUE}
    for name, count in long.items():
        text = f"{count:,} messages wait in {name}."
        yield Finding("queues", "warning", text, "Add workers, or see why they are slow.")
    if not long:
        yield Finding("queues", "ok", f"{len(waiting)} queues, {total} messages wait")


@contextlib.contextmanager
def _server(site: Site) -> Iterator[Cursor]:
    connection = connect(site.server_url)
    with contextlib.closing(connection), connection.cursor() as cursor:
        yield cursor


@contextlib.contextmanager
def _asked(site: Site, service: str) -> Iterator[Cursor]:
    connection = connect(site.databases[service])
    with contextlib.closing(connection), connection.cursor() as cursor:
        yield cursor


def _value(cursor: Cursor, sql: str) -> str:
    cursor.execute(sql)
    return str(cursor.fetchall()[0][0])


ALL: tuple[SiteCheck, ...] = (
    postgres,
    connections,
    clocks,
    migrations,
    events,
    cache,
    broker,
    keyring,
)
