"""Turns the API's `Query` into the core's, in all of its forms."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from photinus.api.v1 import common_pb2

from photinus_core.model.errors import Rejected
from photinus_core.model.fields import fields_of
from photinus_core.model.json_query import parse_json_query
from photinus_core.model.query import (
    CONDITIONS_MAX,
    AllOf,
    AnyOf,
    Filter,
    FilterBuilder,
    Operator,
    Query,
    QueryLimits,
    make_condition,
)
from photinus_core.model.query_string import parse_query_string, parse_value
from photinus_core.ports.store import Table

_OPERATORS: Final = {
    common_pb2.OPERATOR_UNSPECIFIED: Operator.EQUAL,
    common_pb2.OPERATOR_EQUAL: Operator.EQUAL,
    common_pb2.OPERATOR_CONTAINS: Operator.CONTAINS,
    common_pb2.OPERATOR_STARTS_WITH: Operator.STARTS_WITH,
    common_pb2.OPERATOR_ENDS_WITH: Operator.ENDS_WITH,
    common_pb2.OPERATOR_GREATER: Operator.GREATER,
    common_pb2.OPERATOR_GREATER_OR_EQUAL: Operator.GREATER_OR_EQUAL,
    common_pb2.OPERATOR_LESS: Operator.LESS,
    common_pb2.OPERATOR_LESS_OR_EQUAL: Operator.LESS_OR_EQUAL,
    common_pb2.OPERATOR_NULL: Operator.ABSENT,
}


def read_query(table: Table, query: common_pb2.Query, limits: QueryLimits) -> Query:
    """Reads what a client asks of a list.

    Raises:
        Rejected: an FF00 code, what is wrong with it.
    """
    if query.json:
        return parse_json_query(table, query.json, limits)
    if query.raw or not query.ByteSize():
        return parse_query_string(table, query.raw, limits)
    builder = FilterBuilder(table, limits)
    if len(query.filters) > CONDITIONS_MAX:
        raise Rejected("FF19012", CONDITIONS_MAX)
    limit = query.limit if query.HasField("limit") else None
    where = AllOf(tuple(_condition(table, f) for f in query.filters))
    return builder.query(
        where, sort=tuple(query.sort), skip=query.skip, limit=limit, count=query.count
    )


def _condition(table: Table, given: common_pb2.Filter) -> Filter:
    operator = _OPERATORS.get(given.operator)
    kind = fields_of(table).get(given.field)
    if operator is None:
        raise Rejected("FF19002", "operator", f"{given.operator} is not known")
    if kind is None:
        raise Rejected("FF00142", given.field)
    if len(given.values) > CONDITIONS_MAX:
        raise Rejected("FF19012", CONDITIONS_MAX)
    if operator is Operator.ABSENT:
        if given.values:
            raise Rejected("FF19002", "values", "must be empty with OPERATOR_NULL")
        return make_condition(table, given.field, operator, None, negated=given.negate)
    made = tuple(
        make_condition(
            table,
            given.field,
            operator,
            parse_value(given.field, kind, text),
            negated=given.negate,
            ignore_case=given.ignore_case,
        )
        for text in given.values
    )
    return AllOf(made) if given.negate else AnyOf(made)


def and_also(query: Query, condition: Filter) -> Query:
    """The same list, narrowed by one more condition."""
    return replace(query, where=AllOf((query.where, condition)))
