"""No statement of the core reads a whole table or sorts what an index has in order.

Method: every reading method runs once on the writing connection while SQLite reports what it executes;
the plan of each statement is then looked at.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from photinus_core.model.ids import Nanoseconds, new_uuid
from photinus_core.model.ledger import OperationType, ReceivedBatchKey
from photinus_core.model.messages import MessageState
from photinus_core.model.network import IdentityType, VerifierType
from photinus_core.model.query_string import parse_query_string
from photinus_core.ports.store import Decision, OperationChange, Table, WriteTransaction
from photinus_core.store import SqliteStore

from tests.support.store_records import (
    NS,
    make_batch,
    make_blockchain_event,
    make_data,
    make_message,
    make_operation,
    make_pin,
    make_subscription,
    new_hash,
    write,
)

Call = Callable[[WriteTransaction], Awaitable[Any]]

ID, HASH = new_uuid(), new_hash()
MESSAGE = make_message(make_data())
BATCH = make_batch(MESSAGE)

CALLS: dict[str, Call] = {
    "messages": lambda tx: tx.messages([ID]),
    "ready_messages": lambda tx: tx.ready_messages(0, 10),
    "batch_messages": lambda tx: tx.batch_messages(ID),
    "messages_of_data": lambda tx: tx.messages_of_data(ID, 10),
    "received_messages": lambda tx: tx.received_messages([ReceivedBatchKey(BATCH.id, BATCH.hash)]),
    "data": lambda tx: tx.data([ID]),
    "received_data": lambda tx: tx.received_data([(ID, HASH)]),
    "blobs": lambda tx: tx.blobs([ID]),
    "received_blobs": lambda tx: tx.received_blobs([(ID, HASH)]),
    "batches": lambda tx: tx.batches([ID]),
    "received_batches": lambda tx: tx.received_batches([ReceivedBatchKey(ID, HASH)]),
    "open_batches": lambda tx: tx.open_batches(),
    "batches_of": lambda tx: tx.batches_of(ID),
    "own_batches_off_chain": lambda tx: tx.own_batches_off_chain(),
    "undispatched_pins": lambda tx: tx.undispatched_pins(0, 10),
    "last_pin_sequence": lambda tx: tx.last_pin_sequence(),
    "pins_of_batches": lambda tx: tx.pins_of_batches([ID]),
    "pins_by_hash": lambda tx: tx.pins_by_hash([HASH]),
    "next_pins": lambda tx: tx.next_pins([HASH]),
    "nonces": lambda tx: tx.nonces([HASH]),
    "groups": lambda tx: tx.groups([HASH]),
    "parked_messages of one": lambda tx: tx.parked_messages("p", 10),
    "parked_size": lambda tx: tx.parked_size("p"),
    "wakeups": lambda tx: tx.wakeups(10),
    "identity": lambda tx: tx.identity(ID),
    "identity_by_did": lambda tx: tx.identity_by_did("did:a"),
    "identity_by_name": lambda tx: tx.identity_by_name(IdentityType.ORG, "o"),
    "verifier": lambda tx: tx.verifier(VerifierType.ETHEREUM_ADDRESS, "0x1"),
    "verifiers_of": lambda tx: tx.verifiers_of([ID]),
    "datatype": lambda tx: tx.datatype("w", "1"),
    "transactions": lambda tx: tx.transactions([ID]),
    "transaction_by_key": lambda tx: tx.transaction_by_key("k"),
    "operations": lambda tx: tx.operations([ID]),
    "operations_of": lambda tx: tx.operations_of(ID),
    "unsubmitted_operations": lambda tx: tx.unsubmitted_operations(10),
    "unfinished_operations": lambda tx: tx.unfinished_operations(list(OperationType), 10),
    "blockchain_events": lambda tx: tx.blockchain_events([ID]),
    "blockchain_events_of": lambda tx: tx.blockchain_events_of(ID),
    "notes": lambda tx: tx.notes("k"),
    "checkpoints": lambda tx: tx.checkpoints("c"),
    "namespace_row": lambda tx: tx.namespace_row(),
    "events": lambda tx: tx.events([ID]),
    "events_after": lambda tx: tx.events_after(0, 10),
    "events_after of types": lambda tx: tx.events_after(0, 10, ["message_confirmed"]),
    "last_event_sequence": lambda tx: tx.last_event_sequence(),
    "subscription": lambda tx: tx.subscription(ID),
    "subscription_by_name": lambda tx: tx.subscription_by_name("s"),
    "offset": lambda tx: tx.offset(ID),
    "insert_messages": lambda tx: tx.insert_messages([write(make_data(), key="k")]),
    "insert_received": lambda tx: tx.insert_received(make_batch(), [make_message()], [make_data()]),
    "decide": lambda tx: tx.decide([Decision(ID, HASH, MessageState.CONFIRMED, Nanoseconds(1))]),
    "seal_batch": lambda tx: tx.seal_batch(make_batch(), [(ID, ())], {HASH: 1}),
    "finish_batch": lambda tx: tx.finish_batch(ID, MessageState.SENT, Nanoseconds(1)),
    "confirm_batches": lambda tx: tx.confirm_batches([ReceivedBatchKey(ID, HASH)], Nanoseconds(1)),
    "set_batch_payload_ref": lambda tx: tx.set_batch_payload_ref(ID, "Qm"),
    "insert_pins": lambda tx: tx.insert_pins([make_pin(make_batch())]),
    "mark_dispatched": lambda tx: tx.mark_dispatched([1]),
    "delete_pins": lambda tx: tx.delete_pins(["1/2/3"]),
    "delete_wakeups": lambda tx: tx.delete_wakeups(1),
    "unpark_messages": lambda tx: tx.unpark_messages(["m"]),
    "set_data_public": lambda tx: tx.set_data_public({ID: "Qm"}),
    "delete_data": lambda tx: tx.delete_data(ID),
    "add_blockchain_ids": lambda tx: tx.add_blockchain_ids({ID: "0x1"}),
    "change_operations": lambda tx: tx.change_operations(
        [OperationChange(ID, make_operation(ID).status, Nanoseconds(1))]
    ),
    "set_operation_retry": lambda tx: tx.set_operation_retry(ID, ID),
    "insert_blockchain_events": lambda tx: tx.insert_blockchain_events(
        [make_blockchain_event("1")]
    ),
    "save_subscription": lambda tx: tx.save_subscription(make_subscription("s"), 1),
    "delete_subscription": lambda tx: tx.delete_subscription(ID),
}
QUERIES = {
    Table.MESSAGES: [
        "",
        f"id={ID}",
        "tag=a",
        "topics=a",
        f"group={HASH}",
        f"cid={ID}",
        "tag=a&state=ready",
    ],
    Table.DATA: ["", f"id={ID}", "blob.path=/p"],
    Table.BATCHES: ["", f"id={ID}"],
    Table.PINS: [""],
    Table.EVENTS: ["", f"reference={ID}", "sort=sequence&sequence=>5"],
    Table.TRANSACTIONS: ["", f"id={ID}", "idempotencykey=k"],
    Table.OPERATIONS: ["", f"tx={ID}"],
    Table.BLOCKCHAIN_EVENTS: ["", f"tx.id={ID}"],
}


def listing(table: Table, raw: str) -> Call:
    query = parse_query_string(table, raw)
    return lambda tx: tx.query(table, query)


CALLS |= {f"{table}?{raw}": listing(table, raw) for table, raws in QUERIES.items() for raw in raws}

# Sorted by something no index has, on purpose: few rows by then.
SORTS = {
    "messages",
    "messages_of_data",
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
WHOLE = re.compile(
    r"\w+\?$|wakeups|insert_pins|insert_messages|last_event_sequence|last_pin_sequence|namespace_row"
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
            step for step in plan if not re.match(r"SCAN json_each|SCAN \d+ CONSTANT ROW", step)
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
