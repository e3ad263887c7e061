"""A filter means the same in SQL as in plain Python, for every field type and operator.

Method: Hypothesis makes rows and filters over a small alphabet (with LIKE's wildcards and letters whose
case is not ASCII); a direct evaluation in Python is the oracle. Then all tables with all their fields.
"""

from __future__ import annotations

from typing import Any, assert_never

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from photinus_core.model.errors import InternalBug
from photinus_core.model.fields import FieldType, fields_of
from photinus_core.model.ids import Did, Namespace, Nanoseconds, new_uuid
from photinus_core.model.ledger import ReceivedBatchKey
from photinus_core.model.messages import Group, GroupMember, Message, MessageState, NextPin
from photinus_core.model.network import Datatype
from photinus_core.model.query import (
    ORDER,
    PARTIAL,
    AllOf,
    AnyOf,
    Condition,
    Filter,
    FilterBuilder,
    Operator,
    Query,
    SortKey,
    Value,
    make_condition,
)
from photinus_core.model.query_string import parse_query_string
from photinus_core.ports.store import Decision, MessageWrite, Store, Table

from tests.integration.store.conftest import OpenStore
from tests.support.query_rows import MESSAGE_FIELDS, messages
from tests.support.store_records import (
    NS,
    make_batch,
    make_blockchain_event,
    make_data,
    make_dead_letter,
    make_event,
    make_identity,
    make_message,
    make_operation,
    make_pin,
    make_subscription,
    make_transaction,
    make_verifier,
    new_hash,
    write,
)

TEXTS = st.text("aBb%_\\Üü", max_size=3)
NUMBERS = st.integers(0, 3)

MESSAGES = messages(TEXTS, st.sampled_from(["a", "b"]), NUMBERS)


@st.composite
def conditions(draw: st.DrawFn) -> Condition:
    name = draw(st.sampled_from(sorted(MESSAGE_FIELDS)))
    is_text = fields_of("messages")[name].is_text
    operator = draw(st.sampled_from([o for o in Operator if is_text or o not in PARTIAL]))
    value: Value = draw(TEXTS) if is_text else draw(NUMBERS)
    modified = operator not in ORDER
    return make_condition(
        "messages",
        name,
        operator,
        value,
        negated=modified and draw(st.booleans()),
        ignore_case=is_text and modified and draw(st.booleans()),
    )


FILTERS = st.recursive(
    conditions(),
    lambda parts: st.one_of(
        st.builds(AllOf, st.lists(parts, max_size=3).map(tuple)),
        st.builds(AnyOf, st.lists(parts, max_size=3).map(tuple)),
    ),
    max_leaves=6,
)


def holds(where: Filter, message: Message) -> bool:
    match where:
        case AllOf(parts):
            return all(holds(part, message) for part in parts)
        case AnyOf(parts):
            return any(holds(part, message) for part in parts)
        case Condition():
            actual = MESSAGE_FIELDS[where.field](message)
            return compare(where, actual) is not where.negated
        case _:
            assert_never(where)


def compare(condition: Condition, actual: Any) -> bool:
    value: Value = condition.value
    absent = actual is None or actual == ""
    if absent or condition.operator is Operator.ABSENT:
        return absent and condition.operator is Operator.ABSENT
    if condition.ignore_case:
        actual, value = actual.lower(), str(value).lower()
    match condition.operator:
        case Operator.EQUAL:
            return bool(actual == value)
        case Operator.CONTAINS:
            return value in actual
        case Operator.STARTS_WITH:
            return bool(actual.startswith(value))
        case Operator.ENDS_WITH:
            return bool(actual.endswith(value))
        case Operator.GREATER:
            return bool(actual > value)
        case Operator.GREATER_OR_EQUAL:
            return bool(actual >= value)
        case Operator.LESS:
            return bool(actual < value)
        case Operator.LESS_OR_EQUAL:
            return bool(actual <= value)


@settings(
    max_examples=20,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(MESSAGES, min_size=1, max_size=8), st.lists(FILTERS, min_size=1, max_size=20))
async def test_sql_selects_what_the_filter_says(
    open_store: OpenStore, rows: list[Message], filters: list[Filter]
) -> None:
    store = await open_store()
    namespace = Namespace(new_uuid())  # rows of other examples stay in the same database
    rows = [msgspec.structs.replace(row, namespace=namespace) for row in rows]
    try:
        async with store.write(namespace) as tx:
            await tx.insert_messages([MessageWrite(row) for row in rows])
        async with store.read(namespace) as reader:
            stored = (await reader.query(Table.MESSAGES, Query("messages", limit=100))).items
            assert {row.header.id for row in stored} == {row.header.id for row in rows}
            for where in filters:
                page = await reader.query(
                    Table.MESSAGES, Query("messages", where, limit=100, count=True)
                )
                assert page.items == [row for row in stored if holds(where, row)], where
                assert page.total == len(page.items)
    finally:
        await store.aclose()


@pytest.mark.parametrize("collection", list(Table))
@pytest.mark.parametrize("negated", [True, False])
async def test_every_field_of_every_collection_can_be_filtered_and_sorted(
    store: Store, collection: Table, negated: bool
) -> None:
    """With one row of each kind: a filter and its negation together find it exactly once."""
    await _fill(store)
    f = FilterBuilder(collection)
    async with store.read(NS) as reader:
        everything = (await reader.query(collection, f.query())).items
        assert everything
        for name, kind in fields_of(collection).items():
            value: Value = {FieldType.BOOLEAN: True}.get(kind, "x" if kind.is_text else 1)
            parts = [
                f.not_equal(name, value) if negated else f.equal(name, value),
                f.equal(name, None),
            ]
            if kind.is_text:
                parts += [
                    f.contains(name, "%", ignore_case=negated),
                    f.starts_with(name, "_", negated=negated),
                ]
                parts.append(f.ends_with(name, "\\"))
            parts.append(f.greater(name, value, or_equal=negated))
            parts.append(f.less(name, value, or_equal=negated))
            for part in parts:
                found = (
                    await reader.query(collection, f.query(part, sort=[name, f"-{name}"]))
                ).items
                assert all(item in everything for item in found)
            same = f.equal(name, value)
            other = f.not_equal(name, value)
            halves = [
                (await reader.query(collection, f.query(half))).items for half in (same, other)
            ]
            assert sorted(map(repr, halves[0] + halves[1])) == sorted(map(repr, everything))


async def _fill(store: Store) -> None:
    batch = make_batch()
    async with store.write(NS) as tx:
        await tx.insert_messages(
            [write(make_data(blob=True), tag="x", key="k"), write(make_data(None))]
        )
        await tx.seal_batch(batch, [], {})
        await tx.insert_pins([make_pin(batch), make_pin(batch, 1, masked=True)])
        await tx.insert_transactions([transaction := make_transaction("k")])
        await tx.insert_operations([make_operation(transaction.id)])
        await tx.insert_blockchain_events([make_blockchain_event("1", tx=transaction.id)])
        await tx.upsert_identity(identity := make_identity("o"))
        await tx.insert_verifiers([make_verifier(identity.base.id, "0x1")])
        await tx.save_subscription(make_subscription("s"), 0)
        await tx.save_dead_letters([make_dead_letter(new_uuid(), new_uuid())])
        tx.append_events([make_event()])
        await _fill_rest(tx)


async def _fill_rest(tx: Any) -> None:
    await tx.insert_datatype(Datatype(new_uuid(), NS, "w", "1", new_hash(), Nanoseconds(1), "{}"))
    await tx.set_next_pins([NextPin(NS, new_hash(), Did("did:a"), new_hash(), 1)])
    members = (GroupMember("did:a", new_uuid()),)
    await tx.insert_groups([Group(NS, "network", "g", members, new_hash(), Nanoseconds(1))])


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        ("tag=^A", "A%ü"),
        ("tag=^a", "a_Ü"),
        ("tag=:^A", "A%ü a_Ü"),
        ("tag=$ü", "A%ü"),
        ("tag=:$ü", "A%ü a_Ü"),
        ("tag=:A_Ü", "a_Ü"),
        ("tag=@%", "A%ü"),
        ("tag=@_", "a_Ü"),
        ("tag=!:@_ü", "A%ü"),
        ("tag=>B", "a_Ü"),
    ],
)
async def test_case_and_wildcards_as_in_postgresql(store: Store, raw: str, found: str) -> None:
    async with store.write(NS) as tx:
        await tx.insert_messages([write(tag=tag) for tag in ("a_Ü", "A%ü")])
    async with store.read(NS) as reader:
        encoded = raw.replace("%", "%25")
        page = await reader.query(Table.MESSAGES, parse_query_string("messages", encoded))
    assert [m.header.tag for m in page.items] == found.split()


async def test_pages_are_newest_first_and_ties_too(store: Store) -> None:
    writes = [write(tag=tag) for tag in ("b", "a", "b", "a")]
    async with store.write(NS) as tx:
        await tx.insert_messages(writes)
    ids = [w.message.header.id for w in writes]

    async def listed(raw: str) -> list[int]:
        async with store.read(NS) as reader:
            page = await reader.query(Table.MESSAGES, parse_query_string("messages", raw))
        return [ids.index(m.header.id) for m in page.items]

    assert await listed("") == [3, 2, 1, 0]
    assert await listed("sort=sequence") == [0, 1, 2, 3]
    assert await listed("sort=tag") == [3, 1, 2, 0]
    assert await listed("sort=-tag") == [2, 0, 3, 1]
    assert await listed("skip=1&limit=2") == [2, 1]
    assert await listed("tag=b") == [2, 0]


async def test_lists_leave_out_what_is_received_but_undecided(store: Store) -> None:
    data = make_data()
    message = make_message(data, state=MessageState.PENDING)
    batch = make_batch(message)

    async def listed() -> tuple[int | None, ...]:
        async with store.read(NS) as reader:
            tables = (Table.MESSAGES, Table.DATA, Table.BATCHES)
            pages = [await reader.query(t, FilterBuilder(t).query(count=True)) for t in tables]
        return tuple(page.total for page in pages)

    async with store.write(NS) as tx:
        await tx.insert_received(batch, [message], [data])
    assert await listed() == (1, 0, 0)
    async with store.write(NS) as tx:
        await tx.decide(
            [Decision(message.header.id, message.hash, MessageState.CONFIRMED, Nanoseconds(1))]
        )
        await tx.confirm_batches([ReceivedBatchKey(batch.id, batch.hash)], Nanoseconds(1))
    assert await listed() == (1, 1, 1)


async def test_a_query_for_another_collection_is_a_bug(store: Store) -> None:
    async with store.read(NS) as reader:
        with pytest.raises(InternalBug):
            await reader.query(Table.EVENTS, Query("messages", sort=(SortKey("tag"),)))
