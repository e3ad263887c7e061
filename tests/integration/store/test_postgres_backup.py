"""Goal: what pg_dump takes from a database in use is the core's database again, and goes on.

Method: the command itself, on a database with rows in it and a transaction open beside it; the dump
is restored into another database, which is opened as the core opens it.
"""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from photinus_core.model.ids import new_uuid
from photinus_core.store import PostgresSettings, PostgresStore

from tests.support.postgres import find_binaries
from tests.support.store_records import NS, make_data, make_event, make_transaction, write

COMMAND_S = 60.0


def run(program: str, *arguments: str) -> None:
    command = [str(find_binaries() / program), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_S, check=False)
    assert done.returncode == 0, done.stderr


async def new_database(url: str) -> str:
    """Makes an empty database beside another; gives its URL."""
    name = f"restored_{new_uuid()[:8]}_{new_uuid()[-4:]}"
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
    finally:
        await connection.close()
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


async def test_a_dump_taken_in_use_is_a_database_again(postgres_url: str, tmp_path: Path) -> None:
    file = tmp_path / "core.dump"
    committed, open_item, transaction = write(make_data()), write(make_data()), make_transaction()
    store = await PostgresStore.open(PostgresSettings(postgres_url))
    async with store.write(NS) as tx:
        await tx.insert_messages([committed])
        await tx.insert_transactions([transaction])
        tx.append_events([make_event() for _ in range(3)])
    epoch = await store.raise_epoch("namespace/alpha", None)
    async with store.write(NS) as tx:
        await tx.insert_messages([open_item])
        await tx.last_event_sequence()  # the transaction has begun
        await asyncio.to_thread(run, "pg_dump", "-Fc", "-f", str(file), postgres_url)
    cluster_id = store.cluster_id
    await store.aclose()

    url = await new_database(postgres_url)
    await asyncio.to_thread(run, "pg_restore", "--no-owner", "-d", url, str(file))
    restored = await PostgresStore.open(PostgresSettings(url))
    try:
        assert restored.cluster_id == cluster_id, "it is the same cluster's"
        ids = [w.message.header.id for w in (committed, open_item)]
        async with restored.read(NS) as reader:
            assert set(await reader.messages(ids)) == {ids[0]}
            assert set(await reader.transactions([transaction.id])) == {transaction.id}
            assert await reader.last_event_sequence() == 3
        async with restored.write(NS) as tx:
            assert await tx.insert_messages([open_item]) == [None], "sequences go on"
            tx.append_events([make_event()])
        async with restored.read(NS) as reader:
            assert await reader.last_event_sequence() == 4
        assert await restored.raise_epoch("namespace/alpha", None) > epoch
    finally:
        await restored.aclose()
