"""One call of every reading and writing method of the store, for tests that look at its statements."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from photinus_core.model.ids import Nanoseconds, new_uuid
from photinus_core.model.ledger import OperationType, ReceivedBatchKey
from photinus_core.model.messages import MessageState
from photinus_core.model.network import IdentityType, VerifierType
from photinus_core.model.query import Condition, Operator, Query
from photinus_core.model.query_string import parse_query_string
from photinus_core.ports.store import (
    Charted,
    Decision,
    OperationChange,
    Prunable,
    Table,
    WriteTransaction,
)

from tests.support.store_records import (
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

MESSAGES_OF_DATA = Query(Table.MESSAGES, Condition("data", Operator.EQUAL, ID))

CALLS: dict[str, Call] = {
    "messages": lambda tx: tx.messages([ID]),
    "ready_messages": lambda tx: tx.ready_messages(0, 10),
    "batch_messages": lambda tx: tx.batch_messages(ID),
    "messages of data": lambda tx: tx.query(Table.MESSAGES, MESSAGES_OF_DATA),
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
    "cancel_batch": lambda tx: tx.cancel_batch(ID),
    "blob_paths": lambda tx: tx.blob_paths("/a", 10),
    "histogram": lambda tx: tx.histogram(
        Charted.MESSAGES, [Nanoseconds(1), Nanoseconds(2), Nanoseconds(3)], 10
    ),
    "histogram of events": lambda tx: tx.histogram(
        Charted.EVENTS, [Nanoseconds(1), Nanoseconds(2)], 10
    ),
    "set_value_public": lambda tx: tx.set_value_public({ID: "Qm"}),
    "undecided_message_of": lambda tx: tx.undecided_message_of(ID),
    "set_data_public": lambda tx: tx.set_data_public({ID: "Qm"}),
    "delete_data": lambda tx: tx.delete_data(ID),
    "add_blockchain_ids": lambda tx: tx.add_blockchain_ids({ID: "0x1"}),
    "lock_operations": lambda tx: tx.lock_operations([ID]),
    "change_operations": lambda tx: tx.change_operations(
        [OperationChange(ID, make_operation(ID).status, Nanoseconds(1))]
    ),
    "set_operation_retry": lambda tx: tx.set_operation_retry(ID, ID),
    "insert_blockchain_events": lambda tx: tx.insert_blockchain_events(
        [make_blockchain_event("1")]
    ),
    "save_subscription": lambda tx: tx.save_subscription(make_subscription("s"), 1),
    "delete_subscription": lambda tx: tx.delete_subscription(ID),
    "dead_letter": lambda tx: tx.dead_letter(ID, ID),
    "queued_dead_letters": lambda tx: tx.queued_dead_letters(ID, 10),
    "dead_letter_count": lambda tx: tx.dead_letter_count(ID),
    "queue_dead_letters": lambda tx: tx.queue_dead_letters(ID, None, Nanoseconds(1)),
    "queue_dead_letters of one": lambda tx: tx.queue_dead_letters(ID, ID, Nanoseconds(1)),
    "delete_dead_letter": lambda tx: tx.delete_dead_letter(ID, ID),
    "backlog": lambda tx: tx.backlog(),
    "subscription_lags": lambda tx: tx.subscription_lags(10),
    "prune_window events": lambda tx: tx.prune_window(Prunable.EVENTS, 0, 5),
    "prune_window blockchainevents": lambda tx: tx.prune_window(Prunable.BLOCKCHAIN_EVENTS, 0, 5),
    "prune_window operations": lambda tx: tx.prune_window(Prunable.OPERATIONS, 0, 5),
    "prune_window transactions": lambda tx: tx.prune_window(Prunable.TRANSACTIONS, 0, 5),
    "prune": lambda tx: tx.prune(Prunable.EVENTS, (1, 2)),
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
    Table.DEAD_LETTERS: [f"subscription={ID}"],
    Table.TRANSACTIONS: ["", f"id={ID}", "idempotencykey=k"],
    Table.OPERATIONS: ["", f"tx={ID}"],
    Table.BLOCKCHAIN_EVENTS: ["", f"tx.id={ID}"],
}


def listing(table: Table, raw: str) -> Call:
    query = parse_query_string(table, raw)
    return lambda tx: tx.query(table, query)


CALLS |= {f"{table}?{raw}": listing(table, raw) for table, raws in QUERIES.items() for raw in raws}
