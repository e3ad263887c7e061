"""DID documents: the recorded ones, byte for byte."""

import json
from pathlib import Path
from typing import Any

from photinus_core.identity.diddocs import did_document
from photinus_core.model import canonical
from photinus_core.model.ids import Did, Namespace, Nanoseconds, new_uuid
from photinus_core.model.network import IdentityBase, IdentityType, Verifier, VerifierType

GOLDEN = Path(__file__).resolve().parents[2] / "data" / "golden"


def recorded() -> list[dict[str, Any]]:
    found = []
    for area in ("network", "identities"):
        for line in (GOLDEN / f"{area}.jsonl").read_text().splitlines():
            exchange = json.loads(line)
            if "/diddocs/" in str(exchange.get("path")) and exchange["status"] == 200:
                found.append(exchange["response_body"])
    assert found
    return found


def test_documents_are_the_recorded_ones() -> None:
    kinds = set()
    for document in recorded():
        (method,) = document["verificationMethod"]
        is_node = "dataExchangePeerID" in method
        kind = VerifierType.DX_PEER_ID if is_node else VerifierType.ETHEREUM_ADDRESS
        kinds.add(kind)
        value = method["dataExchangePeerID" if is_node else "blockchainAcountId"]
        identity = IdentityBase(new_uuid(), Did(document["id"]), IdentityType.ORG, "default", "x")
        verifier = Verifier(
            canonical.verifier_hash("default", kind, value),
            identity.id,
            Namespace("default"),
            kind,
            value,
            Nanoseconds(1),
        )
        assert did_document(identity, [verifier]) == json.dumps(document, separators=(",", ":"))
    assert kinds == {VerifierType.DX_PEER_ID, VerifierType.ETHEREUM_ADDRESS}


def test_an_identity_without_keys_has_an_empty_document() -> None:
    identity = IdentityBase(new_uuid(), Did("did:firefly:x"), IdentityType.CUSTOM, "", "x")
    document = json.loads(did_document(identity, []))
    assert document["authentication"] == []
    assert document["verificationMethod"] == []
