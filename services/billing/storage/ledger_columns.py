"""The columns of a line of the ledger as the intake gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

COUNTS = {
    "input_tokens": "bigint",
    "cache_read_tokens": "bigint",
    "cache_write_tokens": "bigint",
    "output_tokens": "bigint",
    "output_reasoning_tokens": "bigint",
    "characters": "bigint",
}
# Each entry has its own.
OWN = {
    "event_id": "uuid",
    "user_id": "uuid",
    **COUNTS,
    "occurred_at": "timestamptz",
    "request_id": "text",
    "provider_request_id": "text",
    "session_id": "uuid",
    "sequence": "bigint",
    "cost_microusd": "bigint",
}
# What many entries of a batch have in common is given once for all of them: giving a value to the
# driver costs as much as storing it.
SHARED = {
    "tier": "text",
    "operation": "text",
    "provider": "text",
    "model": "text",
    "source": "text",
    "outcome": "text",
    "service_tier": "text",
    "sandbox": "boolean",
    "cached": "boolean",
    "key_organisation_id": "uuid",
    "producer": "text",
    "producer_epoch": "uuid",
    "stream": "text",
    "units": "bigint",
    "unit": "text",
    "price_version": "text",
}
FACTS = {**OWN, **SHARED}


def unnested(own: Mapping[str, str], shared: Mapping[str, str]) -> str:
    """Rows out of the arrays of `split`, as the source of a statement."""
    return f"""
    unnest($1::text::int[], {_arrays(own, 2)}) as own (shared, {", ".join(own)})
    join unnest({_arrays(shared, 2 + len(own))}) with ordinality
         as given ({", ".join(shared)}, number) on number = shared
    """


# An array as PostgreSQL writes it costs the driver a tenth of an array of values.
def _arrays(kinds: Mapping[str, str], first: int) -> str:
    return ", ".join(f"${i}::text::{kind}[]" for i, kind in enumerate(kinds.values(), first))


def split(columns: Any, own: Mapping[str, str], shared: Mapping[str, str]) -> list[str]:
    """Which of the shared values each row has, its own values, and the shared ones."""
    rows = list(zip(*(getattr(columns, name) for name in shared), strict=True))
    numbers = {row: number for number, row in enumerate(dict.fromkeys(rows), 1)}
    return [
        array([numbers[row] for row in rows]),
        *(_array(kind, getattr(columns, name)) for name, kind in own.items()),
        *map(_array, shared.values(), zip(*numbers, strict=True)),
    ]


def _array(kind: str, values: Sequence[Any]) -> str:
    return _quoted(values) if kind == "text" else array(values)


def array(values: Sequence[Any]) -> str:
    """Numbers, ids or times as one array in PostgreSQL's own notation."""
    return f"{{{','.join(map(str, values)).replace('None', 'NULL')}}}"


def _quoted(values: Sequence[str | None]) -> str:
    """Texts as one array in PostgreSQL's own notation."""
    present = "".join([value for value in values if value is not None])
    if '"' in present or "\\" in present:
        values = [value and value.replace("\\", "\\\\").replace('"', '\\"') for value in values]
    quoted = ["NULL" if value is None else f'"{value}"' for value in values]
    return f"{{{','.join(quoted)}}}"
