"""No statement of the core reads a whole table or sorts what an index has in order.

Method: every reading method runs once on the writing connection while SQLite reports what it executes;
the plan of each statement is then looked at.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from pathlib import Path

from photinus_core.store import SqliteStore

from tests.support.store_calls import BATCH, CALLS, MESSAGE, Call
from tests.support.store_records import NS

# Sorted by something no index has, on purpose: few rows by then.
SORTS = {
    "messages",
    "messages of data",
    "data",
    "blobs",
    "batches",
    "batches_of",
    "pins_of_batches",
    "pins_by_hash",
    "next_pins",
    "verifiers_of",
    "events?reference",
    "messages?cid",
    "data?blob.path",
    "batches?id",
    "messages?id",
    "data?id",
    "transactions?id",
    "transactions?idempotencykey",
    "change_operations",
    "lock_operations",
    "histogram",
    "histogram of events",
}


# Statements over everything that an index of few rows holds: the index must be that one.
SMALL = {
    "ready_messages": "messages_ready",
    "open_batches": "batches_open",
    "own_batches_off_chain": "batches_undecided",
    "undispatched_pins": "pins_undecided",
    "pins_by_hash": "pins_masked",
    "unsubmitted_operations": "operations_unfinished",
    "unfinished_operations": "operations_unfinished",
    "delete_pins": "pins_",
}
# Lists without a filter read a namespace in the order of an index, as far as their limit; "newest" is its first row.
# What operators ask counts what waits and looks at all subscriptions.
WHOLE = re.compile(
    r"\w+\?$|wakeups|insert_pins|insert_messages|last_event_sequence|last_pin_sequence|namespace_row"
    r"|backlog|subscription_lags|prune_window"
)


class UndoneError(Exception):
    pass


async def executed_by(store: SqliteStore, call: Call) -> list[str]:
    """Runs one call in a transaction that is rolled back; gives the statements with their values."""
    executed: list[str] = []
    await store.write_job(lambda connection: connection.set_trace_callback(executed.append))
    with contextlib.suppress(UndoneError):
        async with store.write(NS) as tx:
            await call(tx)
            await tx.last_event_sequence()  # what is left to run runs before it
            raise UndoneError
    await store.write_job(lambda connection: connection.set_trace_callback(None))
    statements = [s for s in executed if re.match("SELECT|UPDATE|DELETE", s)]
    return statements if call is CALLS["last_event_sequence"] else statements[:-1]


def faults(name: str, plans: list[tuple[str, list[str]]]) -> list[tuple[str, list[str]]]:
    """Gives the plans that read or sort too much."""
    expected = SMALL.get(name, "")
    if not any(expected in step for _, plan in plans for step in plan):
        return plans
    wrong = []
    for statement, plan in plans:
        steps = [
            step
            for step in plan
            if not re.match(r"SCAN (json_each|(\d+ )?CONSTANT ROW|counted|b\d+|\(subquery)", step)
        ]
        scans = any(step.startswith("SCAN") for step in steps)
        whole = not WHOLE.match(name) and any(
            step.endswith("(namespace=?)") and (not expected or expected not in step)
            for step in steps
        )
        sorts = name.split("=", maxsplit=1)[0] not in SORTS and any(
            "TEMP B-TREE FOR ORDER" in step for step in steps
        )
        if scans or whole or sorts:
            wrong.append((statement, plan))
    return wrong


async def test_statements_use_indexes(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "core.db", readers=1)
    async with store.write(NS) as tx:
        await tx.insert_received(BATCH, [MESSAGE], [])
    statements = {name: await executed_by(store, call) for name, call in CALLS.items()}
    await store.aclose()
    wrong = {}
    with sqlite3.connect(tmp_path / "core.db") as connection:
        for name, executed in statements.items():
            assert executed or name.startswith("insert"), name
            plans = [
                (
                    statement,
                    [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")],
                )
                for statement in executed
            ]
            if plans and (found := faults(name, plans)):
                wrong[name] = found
    assert wrong == {}
