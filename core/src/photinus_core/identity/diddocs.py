"""DID documents: what FireFly shows of an identity and its keys, spelling mistakes included."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from photinus_core.model import canonical
from photinus_core.model.network import IdentityBase, Verifier, VerifierType

_CONTEXTS: Final = (
    "https://www.w3.org/ns/did/v1",
    "https://w3id.org/security/suites/ed25519-2020/v1",
)

# By kind of key: the method's type, and the member that holds the key (clients read FireFly's
# `blockchainAcountId`).
_METHODS: Final = {
    VerifierType.ETHEREUM_ADDRESS: ("EcdsaSecp256k1VerificationKey2019", "blockchainAcountId"),
    VerifierType.TEZOS_ADDRESS: ("Ed25519VerificationKey2018", "blockchainAcountId"),
    VerifierType.CARDANO_ADDRESS: ("Ed25519VerificationKey2018", "blockchainAcountId"),
    VerifierType.FABRIC_MSP_ID: ("HyperledgerFabricMSPIdentity", "mspIdentityString"),
    VerifierType.DX_PEER_ID: ("FireFlyDataExchangePeerIdentity", "dataExchangePeerID"),
}


def did_document(identity: IdentityBase, verifiers: Iterable[Verifier]) -> str:
    """Writes the DID document of an identity as JSON text."""
    quote = canonical.quote
    listed = list(verifiers)
    authentication = ",".join(quote(f"#{v.hash}") for v in listed)
    methods = ",".join(_method(identity.did, v) for v in listed)
    contexts = ",".join(map(quote, _CONTEXTS))
    return (
        f'{{"@context":[{contexts}],"id":{quote(identity.did)},'
        f'"authentication":[{authentication}],"verificationMethod":[{methods}]}}'
    )


def _method(did: str, verifier: Verifier) -> str:
    quote = canonical.quote
    kind, member = _METHODS[verifier.type]
    return (
        f'{{"id":"{verifier.hash}","type":{quote(kind)},"controller":{quote(did)},'
        f'"{member}":{quote(verifier.value)}}}'
    )
