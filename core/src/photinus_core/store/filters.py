"""Turns a checked `Query` into SQL: columns come from the tables below, values are parameters.

An absent text is '' in the database, an absent number NULL; both satisfy only "is absent" and
negated comparisons (`model.query`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, assert_never

from photinus_core.model.errors import InternalBug
from photinus_core.model.fields import FieldType, fields_of
from photinus_core.model.query import (
    CONDITIONS_MAX,
    AllOf,
    AnyOf,
    Condition,
    Filter,
    Operator,
    Page,
    Query,
    SortKey,
)
from photinus_core.ports.store import Table
from photinus_core.store import (
    batch_reads,
    dead_letter_rows,
    event_rows,
    ledger_rows,
    message_reads,
    network_rows,
)
from photinus_core.store.session import Row, Session

_COMPARISONS: Final = {
    Operator.EQUAL: "=",
    Operator.GREATER: ">",
    Operator.GREATER_OR_EQUAL: ">=",
    Operator.LESS: "<",
    Operator.LESS_OR_EQUAL: "<=",
}
_EMPTY: Final = "''"
"""In place of a column: a field that FireFly lists but that nothing has."""


@dataclass(frozen=True, slots=True)
class Listing:
    """How one collection is listed.

    Attributes:
        table: The table.
        columns: What is read.
        decode: Reads a row of these columns.
        renamed: Columns of fields that are not called like them.
        indexed: Columns whose index leaves out absent values: equality says so, to use it.
        nullable: Columns that may be NULL.
        related: What else the core itself narrows a list by, with the name of a condition that no client can make.
        order: What orders by age.
        visible: Which rows are listed at all: received data and batches nobody has decided on are
            not, for anyone can send them under an id that another uses (hard case 16). Messages are:
            their state tells.
    """

    table: str
    columns: str
    decode: Callable[[Row], Any]
    renamed: Mapping[str, str] = field(default_factory=dict)
    indexed: frozenset[str] = frozenset()
    nullable: frozenset[str] = frozenset()
    related: Mapping[str, str] = field(default_factory=dict)
    order: str = "sequence"
    visible: str = "TRUE"

    def column(self, name: str) -> str:
        """The column of a field."""
        return self.renamed.get(name, name)


LISTINGS: Final[Mapping[Table, Listing]] = MappingProxyType(
    {
        Table.MESSAGES: Listing(
            "messages",
            message_reads.MESSAGE_COLUMNS,
            message_reads.decode_message,
            {
                "key": "signing_key",
                "group": "group_hash",
                "idempotencykey": "idempotency_key",
                "rejectreason": "reject_reason",
                "txparent.type": "txparent_type",
                "txparent.id": "txparent_id",
            },
            frozenset({"cid", "group_hash", "batch", "idempotency_key", "tag"}),
            frozenset({"confirmed"}),
            {
                "data": "id IN (SELECT message_id FROM message_data WHERE namespace = $1 AND data_id = {}) "
                "AND (own = TRUE OR state IN ('confirmed', 'rejected', 'cancelled'))"
            },
        ),
        Table.DATA: Listing(
            "data",
            message_reads.DATA_COLUMNS,
            message_reads.decode_data,
            {
                "datatype.name": "datatype_name",
                "datatype.version": "datatype_version",
                "blob.hash": "blob_hash",
                "blob.public": "blob_public",
                "blob.name": "blob_name",
                "blob.path": "blob_path",
                "blob.size": "blob_size",
            },
            frozenset({"blob_hash", "blob_path"}),
            frozenset({"value"}),
            visible="visible = TRUE",
        ),
        Table.DATATYPES: Listing(
            "datatypes",
            network_rows.DATATYPE_COLUMNS,
            network_rows.decode_datatype,
            {"validator": "'json'"},
        ),
        Table.BATCHES: Listing(
            "batches",
            batch_reads.BATCH_COLUMNS,
            batch_reads.decode_batch,
            {
                "key": "signing_key",
                "group": "group_hash",
                "payloadref": "payload_ref",
                "tx.type": "tx_type",
                "tx.id": "tx_id",
            },
            nullable=frozenset({"confirmed"}),
            visible="(own = TRUE OR confirmed IS NOT NULL)",
        ),
        Table.PINS: Listing(
            "pins", batch_reads.PIN_COLUMNS, batch_reads.decode_pin, {"index": "pin_index"}
        ),
        Table.NEXT_PINS: Listing(
            "next_pins",
            batch_reads.NEXT_PIN_COLUMNS,
            batch_reads.decode_next_pin,
            order="context || identity",
        ),
        Table.GROUPS: Listing(
            "privacy_groups",
            batch_reads.GROUP_COLUMNS,
            batch_reads.decode_group,
            {"description": _EMPTY, "ledger": _EMPTY},
        ),
        Table.EVENTS: Listing("events", event_rows.EVENT_COLUMNS, event_rows.decode_event),
        Table.SUBSCRIPTIONS: Listing(
            "subscriptions",
            event_rows.SUBSCRIPTION_COLUMNS,
            event_rows.decode_subscription,
            {"filters": "filter_json", "options": "options_json"},
        ),
        Table.DEAD_LETTERS: Listing(
            "dead_letters",
            dead_letter_rows.DEAD_LETTER_COLUMNS,
            dead_letter_rows.decode_dead_letter,
        ),
        Table.TRANSACTIONS: Listing(
            "transactions",
            ledger_rows.TRANSACTION_COLUMNS,
            ledger_rows.decode_transaction,
            {"idempotencykey": "idempotency_key", "blockchainids": "blockchain_ids"},
            frozenset({"idempotency_key"}),
        ),
        Table.OPERATIONS: Listing(
            "operations", ledger_rows.OPERATION_COLUMNS, ledger_rows.decode_operation
        ),
        Table.BLOCKCHAIN_EVENTS: Listing(
            "blockchain_events",
            ledger_rows.BLOCKCHAIN_EVENT_COLUMNS,
            ledger_rows.decode_blockchain_event,
            {
                "protocolid": "protocol_id",
                "tx.type": "tx_type",
                "tx.id": "tx_id",
                "tx.blockchainid": "tx_blockchain_id",
            },
            frozenset({"tx_id"}),
        ),
        Table.IDENTITIES: Listing(
            "identities",
            network_rows.IDENTITY_COLUMNS,
            network_rows.decode_identity,
            {
                "messages.claim": "claim",
                "messages.verification": "verification",
                "messages.update": "update_message",
            },
        ),
        Table.VERIFIERS: Listing(
            "verifiers", network_rows.VERIFIER_COLUMNS, network_rows.decode_verifier
        ),
    }
)


class _Conditions:
    """Writes one filter as SQL and collects its parameters; `$1` is the namespace."""

    def __init__(self, listing: Listing, fields: Mapping[str, FieldType]) -> None:
        self._listing = listing
        self._fields = fields
        self.args: list[object] = []

    def parameter(self, value: object) -> str:
        self.args.append(value)
        return f"${len(self.args) + 1}"

    def write(self, where: Filter) -> str:
        match where:
            case Condition():
                return self._condition(where)
            case AllOf(parts):
                return " AND ".join(map(self._nested, parts)) if parts else "TRUE"
            case AnyOf(parts) if len(parts) > CONDITIONS_MAX:
                # Only the core asks for so many. SQLite nests each one deeper than the last, to a limit.
                starts = range(0, len(parts), CONDITIONS_MAX)
                return self.write(
                    AnyOf(tuple(AnyOf(parts[n : n + CONDITIONS_MAX]) for n in starts))
                )
            case AnyOf(parts):
                return " OR ".join(map(self._nested, parts)) if parts else "FALSE"
            case _:
                assert_never(where)

    def _nested(self, where: Filter) -> str:
        return f"({self.write(where)})"

    def _condition(self, condition: Condition) -> str:
        if condition.field in self._listing.related:
            return self._listing.related[condition.field].format(self.parameter(condition.value))
        column = self._listing.column(condition.field)
        is_text = self._fields[condition.field].is_text
        if condition.operator is Operator.ABSENT:
            return self._absent(column, is_text=is_text, negated=condition.negated)
        positive = self._comparison(column, condition, is_text=is_text)
        if not condition.negated:
            return positive
        return f"NOT ({positive}) OR {self._absent(column, is_text=is_text, negated=False)}"

    @staticmethod
    def _absent(column: str, *, is_text: bool, negated: bool) -> str:
        if not is_text:
            return f"{column} IS NOT NULL" if negated else f"{column} IS NULL"
        # The one nullable text is a data item's value.
        blank = f"coalesce({column}, '') = ''"
        return f"NOT ({blank})" if negated else blank

    def _comparison(self, column: str, condition: Condition, *, is_text: bool) -> str:
        value = condition.value
        if is_text and isinstance(value, str):
            # Texts compare as texts only when they are there: '' would be less than everything.
            present = f" AND {column} <> ''"
            if condition.operator not in _COMPARISONS:
                return (
                    self._like(column, condition.operator, value, condition.ignore_case) + present
                )
            if condition.ignore_case:
                return f"lower({column}) = lower({self.parameter(value)}){present}"
            if condition.operator is Operator.EQUAL and column not in self._listing.indexed:
                present = ""
            return f"{column} {_COMPARISONS[condition.operator]} {self.parameter(value)}{present}"
        return f"{column} {_COMPARISONS[condition.operator]} {self.parameter(value)}"

    def _like(self, column: str, operator: Operator, value: str, ignore_case: bool) -> str:
        escaped = value.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        before = "" if operator is Operator.STARTS_WITH else "%"
        after = "" if operator is Operator.ENDS_WITH else "%"
        parameter = self.parameter(f"{before}{escaped}{after}")
        if ignore_case:
            return f"lower({column}) LIKE lower({parameter}) ESCAPE '\\'"
        return f"{column} LIKE {parameter} ESCAPE '\\'"


@dataclass(frozen=True, slots=True)
class Statements:
    """A query in SQL: the page and the total, with the parameters from `$2` on."""

    page: str
    page_args: tuple[object, ...]
    total: str
    total_args: tuple[object, ...]


def to_sql(table: Table, query: Query) -> Statements:
    """Writes a query for one table.

    Raises:
        InternalBug: the query was made for another collection.
    """
    if query.collection != table.value:
        raise InternalBug("FF19000", f"a query for {query.collection} was sent to {table.value}")
    listing = LISTINGS[table]
    conditions = _Conditions(listing, fields_of(table.value))
    where = f"namespace = $1 AND {listing.visible} AND ({conditions.write(query.where)})"
    total = f"SELECT count(*) FROM {listing.table} WHERE {where}"
    total_args = tuple(conditions.args)
    order = [_sort_term(listing, key) for key in query.sort]
    order = [term for term in order if term] + [f"{listing.order} DESC"]
    page = (
        f"SELECT {listing.columns} FROM {listing.table} WHERE {where} "
        f"ORDER BY {', '.join(order)} "
        f"LIMIT {conditions.parameter(query.limit)} OFFSET {conditions.parameter(query.skip)}"
    )
    return Statements(page, tuple(conditions.args), total, total_args)


def _sort_term(listing: Listing, key: SortKey) -> str:
    column = listing.column(key.field)
    if column.startswith("'"):
        return ""
    direction = "DESC" if key.descending else "ASC"
    if column not in listing.nullable:
        return f"{column} {direction}"
    # PostgreSQL's order, and so FireFly's; SQLite has it the other way round.
    return f"{column} {direction} NULLS {'FIRST' if key.descending else 'LAST'}"


class Querying(Session):
    """Lists collections with clients' filters."""

    async def query(self, table: Table, query: Query) -> Page[Any]:
        statements = to_sql(table, query)
        rows = await self.fetch(statements.page, *statements.page_args)
        items = [LISTINGS[table].decode(row) for row in rows]
        if not query.count:
            return Page(items)
        totals = await self.fetch(statements.total, *statements.total_args)
        return Page(items, int(totals[0][0]))
