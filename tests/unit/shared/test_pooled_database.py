"""What a pooler between a service and PostgreSQL has to be told, as docs/capacity.md has it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from shared.db.database import open_database
from shared.errors import DependencyUnavailable

PAGE = Path(__file__).parents[3] / "docs" / "capacity.md"
TAKEN = {"application_name", "client_encoding", "DateStyle", "standard_conforming_strings"}
"""Of what a connection is opened with PgBouncer keeps these, and the time zone, by itself."""


async def test_a_pooler_is_told_of_all_that_it_would_refuse(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: dict[str, str] = {}

    async def connect(*, server_settings: dict[str, str], **_others: Any) -> Any:
        asked.update(server_settings)
        raise OSError("nobody is there")

    monkeypatch.setattr(asyncpg, "connect", connect)
    async with open_database("postgresql://nowhere", connections=1, application="a") as database:
        with pytest.raises(DependencyUnavailable):
            await database.check()
    [line] = re.findall(r"^ignore_startup_parameters = (.*)$", PAGE.read_text("utf-8"), re.M)
    assert asked.keys() - TAKEN - {"timezone"} == set(line.split(", "))
