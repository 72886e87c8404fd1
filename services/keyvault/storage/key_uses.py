"""Notes the use of a key and fetches what is to be opened: one statement, and so one transaction.

Every call to a vendor waits for this, hence one round trip and no unit of work around it. Uses that
come at the same time share a statement.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import orjson

from services.keyvault.domain.audit import AuditEntry
from services.keyvault.domain.errors import ServiceStopped, UserRateReached
from services.keyvault.domain.key_use import FoundKey, KeyUse
from services.keyvault.domain.organisation import ClaimedSeat
from services.keyvault.domain.own_server import NO_KEY
from services.keyvault.domain.owner import Owner
from services.keyvault.domain.provider_key import Status
from services.keyvault.domain.secret import DataKey, SecretName
from services.keyvault.storage import audit
from shared.db.database import Database, Row
from shared.db.together import Together
from shared.ids import first_id_at
from shared.values import dataclass

# Beside the key, it looks whether the service is stopped, and counts the user's last uses up to the
# limit: in the trail itself, so that all processes count alike and no counter is fought over.
_GATE = """
with gate as (
    select
        exists (select from service_stop where service = $1 and resumed_at is null) as is_stopped,
        $4 > 0 and $4 <= (
            select count(*) from (
                (select from audit_entry
                 where owner_id = $2 and owner_type = 'user' and id >= $3 and kind = 'used'
                 limit $4)
                union all
                (select from audit_entry
                 where owner_type = 'organisation' and user_id = $2 and id >= $3
                     and kind = 'used'
                 limit $4)
            ) lately
        ) as is_too_fast
), """

_NOTE = (
    _GATE  # noqa: S608 - both halves stand here
    + """found as (
    select k.owner_type, k.owner_id, k.id, k.version, k.status, k.envelope,
           d.id as data_key_id, d.kek_version, d.wrapped
    from (
        select * from provider_key
        where owner_id = $2 and owner_type = $7 and provider = $8
        union all
        -- The token or later news of the seat, whichever is newer, decides.
        select * from provider_key
        where owner_id = $14 and owner_type = 'organisation' and provider = $8 and coalesce(
            (select is_taken from seat
             where user_id = $2 and organisation_id = $14 and at >= $16), $15)
            -- An access token outlives its account.
            and not exists (select from forgotten_user where user_id = $2)
    ) k left join data_key d on d.id = k.data_key_id
    order by k.status = any(string_to_array($12, ' ')) desc, k.status <> 'revoked' desc,
        k.owner_type = $7 desc
    limit 1
), noted as (
    insert into audit_entry
        (id, kind, owner_type, owner_id, provider, key_id, key_version, service, request_id,
         grant_id, at, user_id)
    select $5, $6, owner_type, owner_id, $8, id, version, $1, $9, $10, $11, $17 from found, gate
    where not is_stopped and not is_too_fast
        and status = any(string_to_array($12, ' ')) and ($13::int is null or version = $13)
    on conflict (grant_id) do nothing
    returning id
)
select gate.*, found.*, exists (select from noted) as is_noted from gate left join found on true
"""
)

# The same for several uses at once, each judged by itself; of one user's earlier ones count too.
# Grants are taken in one order by all, so that no two processes wait for each other.
_NOTE_ALL = """
with asked as (
    select * from json_to_recordset($1) as asked(
        place int, use_id uuid, kind text, service text, user_id uuid, owner_type text,
        owner_id uuid, provider text, request_id text, grant_id uuid, at timestamptz, since uuid,
        most bigint, if_status text, version int, organisation_id uuid, is_seated bool,
        news_from timestamptz)
), gate as (
    select asked.*,
        exists (select from service_stop where service = asked.service and resumed_at is null)
            as is_stopped,
        most > 0 and most < row_number() over (partition by owner_id order by place) + (
            select count(*) from (
                (select from audit_entry a
                 where a.owner_id = asked.owner_id and a.owner_type = 'user'
                     and a.id >= asked.since and a.kind = 'used'
                 limit asked.most)
                union all
                (select from audit_entry a
                 where a.owner_type = 'organisation' and a.user_id = asked.owner_id
                     and a.id >= asked.since and a.kind = 'used'
                 limit asked.most)
            ) lately
        ) as is_too_fast
    from asked
), found as (
    select gate.place, gate.is_stopped, gate.is_too_fast, gate.use_id, gate.kind, gate.service,
           gate.request_id, gate.grant_id, gate.at, gate.user_id, gate.provider,
           not gate.is_stopped and not gate.is_too_fast
               and k.status = any(string_to_array(gate.if_status, ' '))
               and (gate.version is null or k.version = gate.version) as fits,
           k.*
    from gate left join lateral (
        select k.owner_type, k.owner_id, k.id, k.version, k.status, k.envelope,
               d.id as data_key_id, d.kek_version, d.wrapped
        from (
            select * from provider_key p
            where p.owner_id = gate.owner_id and p.owner_type = gate.owner_type
                and p.provider = gate.provider
            union all
            select * from provider_key p
            where p.owner_id = gate.organisation_id and p.owner_type = 'organisation'
                and p.provider = gate.provider and coalesce(
                (select is_taken from seat
                 where user_id = gate.owner_id and organisation_id = gate.organisation_id
                     and at >= gate.news_from), gate.is_seated)
                and not exists (select from forgotten_user where user_id = gate.owner_id)
        ) k left join data_key d on d.id = k.data_key_id
        order by k.status = any(string_to_array(gate.if_status, ' ')) desc,
            k.status <> 'revoked' desc, k.owner_type = gate.owner_type desc
        limit 1
    ) k on true
), noted as (
    insert into audit_entry
        (id, kind, owner_type, owner_id, provider, key_id, key_version, service, request_id,
         grant_id, at, user_id)
    select use_id, kind, owner_type, owner_id, provider, id, version, service, request_id,
           grant_id, at, user_id
    from found where fits order by grant_id
    on conflict (grant_id) do nothing
    returning id
)
select found.place, found.is_stopped, found.is_too_fast, found.owner_type, found.owner_id,
       found.id, found.version, found.status, found.envelope, found.data_key_id,
       found.kek_version, found.wrapped, noted.id is not null as is_noted
from found left join noted on noted.id = found.use_id order by found.place
"""

# The owner is the user, though the key is nobody's.
_NOTE_KEYLESS = (
    _GATE  # noqa: S608 - both halves stand here
    + """noted as (
    insert into audit_entry
        (id, kind, owner_type, owner_id, provider, key_id, key_version, service, request_id,
         grant_id, at, user_id)
    select $5, $6, 'user', $2, $7, $8, 0, $1, $9, $10, $11, $2 from gate
    where not is_stopped and not is_too_fast
        -- An access token outlives its account.
        and not exists (select from forgotten_user where user_id = $2)
    on conflict (grant_id) do nothing
    returning id
)
select gate.*, exists (select from noted) as is_noted from gate
"""
)
_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A use, and on what conditions it is noted."""

    use: KeyUse
    if_status: str
    most: int


class SqlKeyUses:
    """The way to a sealed secret: alone, or in one statement with others that came meanwhile."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._note = Together(self._note_one, self._note_all)

    async def note(
        self, use: KeyUse, *, if_status: Collection[Status], most: int = 0
    ) -> FoundKey | None:
        # The statuses as one text: of an array the driver asks each member whether it is one
        # itself.
        row = _let_through(await self._note(_Asked(use, " ".join(if_status), most)))
        return _found(row, use) if row["id"] is not None else None

    async def _note_one(self, asked: _Asked) -> Row | None:
        use = asked.use
        return await self._database.fetchrow(
            _NOTE,
            *_gate(use, asked.most),
            use.id,
            use.kind.value,
            use.owner.type,
            use.provider,
            use.request_id,
            use.grant_id,
            use.at,
            asked.if_status,
            use.version,
            *_seat(use.seat),
            use.owner.user_id,
        )

    async def _note_all(self, asked: Sequence[_Asked]) -> Sequence[Row | None]:
        uses = [_to_json(place, each) for place, each in enumerate(asked)]
        rows = await self._database.fetch(_NOTE_ALL, orjson.dumps(uses, default=str).decode())
        by_place = {row["place"]: row for row in rows}
        return [by_place[place] for place in range(len(asked))]

    async def note_keyless(self, use: KeyUse, *, most: int = 0) -> bool:
        row = await self._database.fetchrow(
            _NOTE_KEYLESS,
            *_gate(use, most),
            use.id,
            use.kind.value,
            use.provider,
            NO_KEY,
            use.request_id,
            use.grant_id,
            use.at,
        )
        return bool(_let_through(row)["is_noted"])

    async def note_broken(self, entry: AuditEntry) -> None:
        await self._database.execute(audit.ADD, *audit.to_row(entry))


def _to_json(place: int, asked: _Asked) -> Mapping[str, object]:
    use = asked.use
    service, owner_id, since, most = _gate(use, asked.most)
    organisation_id, is_seated, news_from = _seat(use.seat)
    return {
        "place": place,
        "use_id": use.id,
        "kind": use.kind,
        "service": service,
        "user_id": use.owner.user_id,
        "owner_type": use.owner.type,
        "owner_id": owner_id,
        "provider": use.provider,
        "request_id": use.request_id,
        "grant_id": use.grant_id,
        "at": use.at,
        "since": since,
        "most": most,
        "if_status": asked.if_status,
        "version": use.version,
        "organisation_id": organisation_id,
        "is_seated": is_seated,
        "news_from": news_from,
    }


def _gate(use: KeyUse, most: int) -> tuple[str, UUID, UUID, int]:
    return use.service, use.owner.id, first_id_at(use.at - _MINUTE), most


def _let_through(row: Row | None) -> Row:
    assert row is not None
    if row["is_stopped"]:
        raise ServiceStopped
    if row["is_too_fast"]:
        raise UserRateReached
    return row


def _seat(seat: ClaimedSeat | None) -> tuple[UUID | None, bool, datetime | None]:
    if seat is None:
        return None, False, None
    return seat.organisation_id, seat.is_taken, seat.news_counts_from


def _found(row: Row, use: KeyUse) -> FoundKey:
    data_key, owner = None, Owner(row["owner_type"], row["owner_id"])
    if row["data_key_id"] is not None:
        data_key = DataKey(row["data_key_id"], owner, row["kek_version"], row["wrapped"])
    return FoundKey(
        name=SecretName(row["id"], owner, use.provider, row["version"]),
        status=Status(row["status"]),
        data_key=data_key,
        envelope=row["envelope"],
        is_noted=row["is_noted"],
    )
