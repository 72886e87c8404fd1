"""What the keyvault does by itself, without a gateway: `python -m bench.keyvault [PART …]`.

rewrap   data keys of users brought under a new version of the keyring, a second, by one process;
         with two at once beside it. The database waits for its disk as a deployment's does.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any
from uuid import uuid4

from services.keyvault.actions import ActivateKeyringVersion, ExamineVault, RewrapDataKeys
from services.keyvault.domain.keyring import new_keyring_document
from services.keyvault.domain.owner import Owner
from services.keyvault.domain.rotation import with_standby
from services.keyvault.domain.secret import new_data_key
from services.keyvault.domain.vault import Vault
from services.keyvault.providers.keyring_book import KeyringBook
from services.keyvault.providers.keyring_file import KeyringFile
from services.keyvault.storage.unit_of_work import SqlWork
from shared.db.database import Database, open_database
from shared.db.migrations import upgrade
from shared.ids import UserId
from shared.settings import service_database_url
from tests.support.engines import running_postgres
from tests.support.keyvault import write_keyring

_FILL = """
insert into data_key (id, owner_type, owner_id, kek_version, wrapped)
select id, 'user', owner_id, version, wrapped
from unnest($1::uuid[], $2::uuid[], $3::int[], $4::bytea[]) as key (id, owner_id, version, wrapped)
"""


def main() -> None:
    """Run the parts that were asked for, or all, and print their tables."""
    parser = argparse.ArgumentParser(prog="python -m bench.keyvault", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--users", type=int, default=20_000, help="data keys to rewrap a round")
    arguments = parser.parse_args()
    for name in arguments.parts or PARTS:
        print(asyncio.run(PARTS[name](arguments)))


async def rewrap(arguments: argparse.Namespace) -> str:
    """Users a second, by one run and by two at once."""
    async with _database() as (database, folder):
        rotation = _Rotation(database, folder)
        await rotation.begin(arguments.users)
        alone, beside = list[float](), list[float]()
        for number in range(arguments.rounds):
            print(f"round {number + 1} of {arguments.rounds} ...", file=sys.stderr)
            alone.append(await rotation.rewrapped(at_once=1))
            beside.append(await rotation.rewrapped(at_once=2))
    return _table(
        [f"rewrap of {arguments.users} data keys", "users/s", "slowest round"],
        [
            ["one run", f"{median(alone):.0f}", f"{min(alone):.0f}"],
            ["two at once in one process", f"{median(beside):.0f}", f"{min(beside):.0f}"],
        ],
    )


class _Rotation:
    def __init__(self, database: Database, folder: Path) -> None:
        path = write_keyring(folder / "keyring.json", new_keyring_document())
        self.database, self.vault, self.book = database, Vault(), KeyringBook(path)
        self.examine = ExamineVault(KeyringFile(path), self.work, self.vault, may_begin=True)
        self.activate = ActivateKeyringVersion(self.book, self.work, self.examine, self.vault)
        self.rewrap = RewrapDataKeys(self.work, self.examine, self.vault)

    def work(self) -> SqlWork:
        return SqlWork(self.database)

    async def begin(self, users: int) -> None:
        """A vault with data keys of many users."""
        await self.examine()
        roots = self.vault.roots
        keys = [await new_data_key(roots, Owner.user(UserId(uuid4()))) for _ in range(users)]
        await self.database.execute(
            _FILL,
            [key.id for key in keys],
            [key.owner.id for key in keys],
            [key.kek_version for key in keys],
            [key.wrapped for key in keys],
        )
        await self.database.execute("analyze data_key")

    async def rewrapped(self, *, at_once: int) -> float:
        """How many a second came under a new version."""
        await self.book.change(with_standby)
        await self.activate()
        began = time.perf_counter()
        runs = await asyncio.gather(*(self.rewrap() for _ in range(at_once)))
        seconds = time.perf_counter() - began
        assert all(run.is_complete for run in runs)
        return sum(run.rewrapped for run in runs) / seconds


@asynccontextmanager
async def _database() -> AsyncIterator[tuple[Database, Path]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        with running_postgres(folder, hasty=False) as server:
            server.create_database("companion_keyvault")
            url = service_database_url(server.url, "keyvault")
            upgrade("keyvault", url)
            async with open_database(url, connections=5, application="bench") as database:
                yield database, folder


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(["", *(f"| {' | '.join(line)} |" for line in lines)])


PARTS: Mapping[str, Callable[[argparse.Namespace], Coroutine[Any, Any, str]]] = {"rewrap": rewrap}

if __name__ == "__main__":
    main()
