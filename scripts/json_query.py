"""The schemas of a JSON query in the OpenAPI document; `model/json_query.py` of the core reads such queries."""

from __future__ import annotations

from typing import Any, Final

Json = dict[str, Any]

MODIFIED: Final = ("equal", "eq", "neq", "contains", "startsWith", "endsWith")
ORDERED: Final = (
    *("lessThan", "lt", "lessThanOrEqual", "lte"),
    *("greaterThan", "gt", "greaterThanOrEqual", "gte"),
)
OF_SEVERAL: Final = ("in", "nin")
NULL: Final = "null"

_FIELD: Final = {
    "field": {"type": "string", "description": "Name of the field, as in a query string"}
}
_VALUE: Final = {
    "description": "Value in the type of the field; a time also as text",
    "oneOf": [{"type": "string"}, {"type": "number"}, {"type": "boolean"}],
}
_NOT: Final = {"not": {"type": "boolean", "description": "Turns the condition around"}}
_CASE: Final = {"caseInsensitive": {"type": "boolean", "description": "Texts only"}}


def schemas(text: str) -> Json:
    """The schemas by name; `text` describes the query."""
    value, values = {"value": _VALUE}, {"values": {"type": "array", "items": _VALUE}}
    lists: Json = {}
    for names, condition in (
        (MODIFIED, "JSONQueryCondition"),
        (ORDERED, "JSONQueryOrder"),
        (OF_SEVERAL, "JSONQueryValues"),
        ((NULL,), "JSONQueryNull"),
    ):
        items = {"$ref": f"#/components/schemas/{condition}"}
        lists |= {name: {"type": "array", "items": items} for name in names}
    lists["or"] = {
        "type": "array",
        "description": "One of these must hold",
        "items": {"$ref": "#/components/schemas/JSONFilter"},
    }
    paging: Json = {
        "sort": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Fields to sort by; `-` in front for descending",
        },
        "skip": {"type": "integer", "minimum": 0},
        "limit": {"type": "integer", "minimum": 0, "default": 25},
        "count": {"type": "boolean", "description": "Answer `{count, total, items}`"},
    }
    return {
        "JSONQuery": _object(lists | paging, description=text),
        "JSONFilter": _object(lists, description="Conditions that must all hold"),
        "JSONQueryCondition": _object(_FIELD | value | _NOT | _CASE, "field", "value"),
        "JSONQueryOrder": _object(_FIELD | value, "field", "value"),
        "JSONQueryValues": _object(_FIELD | values | _NOT, "field", "values"),
        "JSONQueryNull": _object(_FIELD | _NOT, "field"),
    }


def _object(properties: Json, *required: str, description: str = "") -> Json:
    made: Json = {"type": "object", "properties": properties, "additionalProperties": False}
    if required:
        made["required"] = list(required)
    return {"description": description, **made} if description else made
