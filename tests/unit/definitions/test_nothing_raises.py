"""Whatever a definition contains, judging it gives a verdict: it must never raise.

Method: Hypothesis builds payloads out of FireFly's member names, near-miss values and wrong types,
and judges them one after the other in one view, which is rebuilt from its effects in between.
"""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from photinus_core.definitions.payloads import KINDS
from photinus_core.model import canonical

from tests.unit.definitions.test_view import ROOT, Ledger

NAMES = st.sampled_from(
    [
        *("identity", "claim", "updates", "id", "did", "type", "parent", "name", "namespace"),
        *("profile", "description", "hash", "version", "validator", "created", "value", "messages"),
    ]
)
TEXTS = st.one_of(
    st.sampled_from(
        [
            *(str(ROOT.id), ROOT.did, "root", "org", "node", "custom", "json", "none", "", "1"),
            *("did:firefly:org/x", "did:firefly:node/x", "did:firefly:x", "x", "0" * 64),
            *("2024-01-01T00:00:00Z", "9999-01-01T00:00:00Z", "0000-01-01T00:00:00Z", "\0"),
        ]
    ),
    st.text(max_size=8),
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXTS
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=8)),
    max_leaves=25,
)
BASES = st.fixed_dictionaries(
    {
        "id": TEXTS,
        "did": TEXTS,
        "type": st.sampled_from(["org", "node", "custom", "king"]),
        "name": TEXTS,
    },
    optional={
        "parent": TEXTS,
        "profile": st.one_of(VALUES, st.fixed_dictionaries({"id": TEXTS})),
        "description": st.one_of(TEXTS, st.just("y" * 5000)),
    },
)
REFS = st.fixed_dictionaries({"id": TEXTS, "hash": TEXTS})
PAYLOADS = st.one_of(
    VALUES.filter(lambda value: value is not None),
    st.fixed_dictionaries(
        {"identity": BASES}, optional={"claim": REFS, "updates": st.one_of(BASES, VALUES)}
    ),
    st.fixed_dictionaries(
        {"id": TEXTS, "name": TEXTS, "version": TEXTS, "hash": TEXTS},
        optional={"validator": TEXTS, "created": TEXTS, "value": VALUES},
    ),
)
KEYS = st.sampled_from(["0xroot", "0xa", ""])
AUTHORS = st.sampled_from([ROOT.did, "did:firefly:org/x", "did:firefly:x", ""])


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.sampled_from(sorted(KINDS)), PAYLOADS, AUTHORS, KEYS), max_size=6),
    st.booleans(),
)
def test_every_payload_gets_a_verdict(
    messages: list[tuple[str, Any, str, str]], restart: bool
) -> None:
    ledger = Ledger()
    assert ledger.claim(ROOT, "0xroot") == ""
    for tag, payload, author, key in messages:
        text = canonical.compact(json.dumps(payload))
        reason = ledger.judge(tag, text, author, key)
        assert reason == "" or reason.startswith("FF")
        if restart:
            ledger.restart()
