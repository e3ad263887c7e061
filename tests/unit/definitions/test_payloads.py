"""Definition payloads: FireFly's bytes out, FireFly's shapes in.

Method: the recorded network's payloads (vectors with their exact bytes) are parsed and written
    again and must come out the same; shapes that FireFly writes differently by version are read
    alike.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from photinus_core.definitions import rules
from photinus_core.definitions.payloads import (
    DatatypeDefinition,
    IdentityClaim,
    IdentityUpdate,
    IdentityVerification,
    decode_definition,
    encode_claim,
    encode_datatype,
    encode_update,
    encode_verification,
    normalize_profile,
    profile_member,
)
from photinus_core.model import canonical
from photinus_core.model.errors import Rejected
from photinus_core.model.ids import Did, Uuid, new_uuid
from photinus_core.model.messages import SystemTag
from photinus_core.model.network import IdentityBase, IdentityType

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).resolve().parents[2] / "data" / "golden" / "vectors.json").read_text()
)["vectors"]


def vectors(kind: str) -> list[dict[str, Any]]:
    return [vector for vector in VECTORS if vector["kind"] == kind]


MESSAGE = Uuid("00000000-0000-4000-8000-000000000000")


def recorded(*members: str) -> list[str]:
    """Recorded data values that are objects with these members."""
    found = []
    for vector in vectors("data.hash"):
        text = vector.get("input", "")
        if text.startswith("{") and all(member in json.loads(text) for member in members):
            found.append(text)
    assert found
    return found


def test_claims_are_written_as_firefly_wrote_them() -> None:
    claims = [text for text in recorded("identity") if '"claim":null' in text]
    assert len(claims) >= 8
    for text in claims:
        claim = decode_definition(SystemTag.IDENTITY_CLAIM, MESSAGE, text)
        assert isinstance(claim, IdentityClaim)
        assert encode_claim(claim) == text
        if claim.profile:
            assert normalize_profile(claim.profile) == claim.profile
        rules.check_base(claim.base, "default")


def test_verifications_and_updates_are_written_as_firefly_wrote_them() -> None:
    for text in recorded("claim", "identity"):
        verification = decode_definition(SystemTag.IDENTITY_VERIFICATION, MESSAGE, text)
        assert isinstance(verification, IdentityVerification)
        assert encode_verification(verification) == text
    for text in recorded("identity", "updates"):
        update = decode_definition(SystemTag.IDENTITY_UPDATE, MESSAGE, text)
        assert isinstance(update, IdentityUpdate)
        assert encode_update(update, "default") == text


def test_datatypes_are_written_as_firefly_wrote_them() -> None:
    for text in recorded("validator", "version", "value"):
        datatype = decode_definition(SystemTag.DEFINE_DATATYPE, MESSAGE, text)
        assert isinstance(datatype, DatatypeDefinition)
        assert encode_datatype(datatype) == text
        assert canonical.hash_text(datatype.value) == datatype.hash


def test_topics_are_those_recorded() -> None:
    for vector in vectors("identity.topic"):
        assert canonical.identity_topic(vector["ref"]) == vector["sha256"]
    datatypes = [v for v in vectors("definition.topic") if v["ref"].startswith("datatype/")]
    for vector in datatypes:
        assert rules.datatype_topic(vector["ref"].partition("/")[2]) == vector["sha256"]
    assert datatypes


@pytest.mark.parametrize(
    "members",
    [
        {"parent": None, "name": "x", "profile": None, "description": None},
        {"name": "x"},
        {"name": "x", "unknown": [1], "namespace": "ignored", "messages": {}, "created": "now"},
    ],
)
def test_absent_null_and_unknown_members_are_read_alike(members: dict[str, Any]) -> None:
    base = {"id": MESSAGE, "did": "did:firefly:org/x", "type": "org", **members}
    claim = decode_definition(SystemTag.IDENTITY_CLAIM, MESSAGE, json.dumps({"identity": base}))
    assert isinstance(claim, IdentityClaim)
    assert (claim.base.name, claim.base.parent, claim.profile, claim.description) == (
        "x",
        None,
        "",
        "",
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        '{"identity":null}',
        '{"identity":{"id":"x","type":"org"}}',
        '{"identity":{"id":"00000000-0000-4000-8000-000000000000","type":"king"}}',
        '{"identity":{"id":"00000000-0000-4000-8000-000000000000","type":"org","profile":[]}}',
        '{"identity":{"id":"00000000-0000-4000-8000-000000000000","type":"org","profile":"p"}}',
        '{"identity":' + "[" * 5000 + "]" * 5000 + "}",
    ],
)
def test_what_is_no_claim_is_refused(text: str) -> None:
    with pytest.raises(Rejected, match=f"FF10400: Rejected identity claim message '{MESSAGE}'"):
        decode_definition(SystemTag.IDENTITY_CLAIM, MESSAGE, text)


def test_profiles_keep_the_spelling_of_their_members() -> None:
    assert normalize_profile('{"b": 1.0, "a": {"z":1, "y":"<"}}', id="n") == (
        '{"a":{"z":1,"y":"\\u003c"},"b":1.0,"id":"n"}'
    )
    assert normalize_profile("") == ""
    assert profile_member('{"id":"p","n":1}', "id") == "p"
    assert profile_member('{"id":"p","n":1}', "n") == ""
    assert profile_member("broken", "n") == ""
    for wrong in ("[]", "{", '"x"'):
        with pytest.raises(Rejected, match="FF00127"):
            normalize_profile(wrong)
    with pytest.raises(Rejected, match="FF00135"):
        normalize_profile(json.dumps({"x": "y" * 70_000}))


@pytest.mark.parametrize(
    ("kind", "name", "did", "parent", "code"),
    [
        ("org", "o", "did:firefly:org/o", False, ""),
        ("org", "o", "did:firefly:org/p", False, "FF00120"),
        ("org", "", "did:firefly:org/", False, "FF00140"),
        ("node", "n", "did:firefly:node/n", False, "FF00124"),
        ("node", "n", "did:firefly:node/n", True, ""),
        ("custom", "c", "did:firefly:c", True, ""),
        ("custom", "c", "did:firefly:ns/net/c", True, ""),
        ("custom", "c", "did:firefly:ns/other/c", True, "FF00120"),
        ("custom", "c", "did:firefly:c", False, "FF00124"),
        ("org", "o", "did:firefly:ns/net/o", False, "FF00120"),
    ],
)
def test_what_a_well_formed_identity_is(
    kind: str, name: str, did: str, parent: bool, code: str
) -> None:
    base = IdentityBase(
        new_uuid(), Did(did), IdentityType(kind), "", name, new_uuid() if parent else None
    )
    if not code:
        rules.check_base(base, "net")
        return
    with pytest.raises(Rejected, match=code):
        rules.check_base(base, "net")
