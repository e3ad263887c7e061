"""Goal: what outsiders put on the chain or send to a data exchange harms only its own contexts.

Method: a network of its own. Hostile pins are sent straight to the contract, from an account that
no identity has registered; hostile messages go straight to a member's data exchange, from a stranger
and with a registered peer's own certificate. Afterwards honest messages on other topics must be
confirmed on both members, and `explain` must name what holds the others.
"""

from __future__ import annotations

import hashlib
import json
import os
import ssl
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak
from photinus_core.app.devnet.layout import DEV_ADDRESSES

from tests.integration.dx.firefly_peer import certified, context_of
from tests.support.network import Member, RunningNetwork, network_up
from tests.support.rest import wait_until

STRANGER: Final = "0x9965507d1a55bcc2695c58ba16fb37d819b0a4dc"
ABSENT: Final = "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG"
"""Content that nobody has."""
PIN_BATCH: Final = keccak(text="pinBatch(bytes32,bytes32,string,bytes32[])")[:4]


@pytest.fixture(scope="module")
def hostile_network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNetwork]:
    with network_up(tmp_path_factory.mktemp("hostile") / "net") as network:
        yield network


@pytest.fixture
def attacked(hostile_network: RunningNetwork) -> Iterator[RunningNetwork]:
    """The network; afterwards both members still agree on honest messages."""
    yield hostile_network
    for member, other in (hostile_network.members, hostile_network.members[::-1]):
        topic = new("honest")
        sent = broadcast(member, topic)
        private = member.post(
            "/messages/private",
            {
                "header": {"topics": [topic]},
                "group": {"members": [{"identity": other.org}]},
                "data": [{"value": 1}],
            },
        )
        for each in (sent, private):
            assert other.wait_message(each["header"]["id"])["hash"] == each["hash"]
            member.wait_message(each["header"]["id"])


def new(name: str) -> str:
    return f"{name}-{uuid.uuid4().hex[:8]}"


def broadcast(member: Member, topic: str) -> dict[str, Any]:
    sent: dict[str, Any] = member.post(
        "/messages/broadcast", {"header": {"topics": [topic]}, "data": [{"value": topic}]}
    )
    return sent


def context_of_topic(topic: str) -> bytes:
    return hashlib.sha256(topic.encode()).digest()


def call(network: RunningNetwork, method: str, *params: Any) -> Any:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    request = urllib.request.Request(
        network.chain_url, data=body, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=20) as response:
        answer = json.load(response)
    assert "error" not in answer, answer
    return answer["result"]


def pin(
    network: RunningNetwork,
    contexts: list[bytes],
    *,
    uuids: bytes = b"",
    batch_hash: bytes = b"",
    payload: str = "",
    sender: str = STRANGER,
) -> uuid.UUID:
    """Pins whatever is given; gives the batch id that the pin names."""
    ids = uuids or uuid.uuid4().bytes + uuid.uuid4().bytes
    arguments = encode(
        ["bytes32", "bytes32", "string", "bytes32[]"],
        [ids, batch_hash or os.urandom(32), payload, contexts],
    )
    sent = call(
        network,
        "eth_sendTransaction",
        {
            "from": sender,
            "to": network.contract,
            "data": "0x" + (PIN_BATCH + arguments).hex(),
            "gas": hex(2_000_000),
        },
    )
    receipts: list[Any] = [None]

    def mined() -> bool:
        receipts[0] = call(network, "eth_getTransactionReceipt", sent)
        return receipts[0] is not None

    wait_until(mined)
    assert receipts[0]["status"] == "0x1"
    return uuid.UUID(bytes=ids[16:])


def pins_of(member: Member, batch: uuid.UUID) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = member.wait_for(f"/pins?batch={batch}", bool)
    return found


def explained(member: Member, batch: uuid.UUID, words: str) -> dict[str, Any]:
    """Waits until the explanation of a batch's pin has some words."""
    sequence = pins_of(member, batch)[-1]["sequence"]
    found: dict[str, Any] = member.wait_for(
        f"/pins/{sequence}/explain", lambda said: words in json.dumps(said)
    )
    return found


def held(member: Member, batch: uuid.UUID) -> None:
    """Waits until the explanation of a pin says what it waits for."""
    sequence = pins_of(member, batch)[-1]["sequence"]
    said = member.wait_for(f"/pins/{sequence}/explain", lambda found: found.get("reason"))
    assert said["state"] == "waiting"
    assert said["detail"]


@pytest.mark.parametrize("payload", [ABSENT, ""], ids=["broadcast", "masked"])
def test_garbage_from_nobody_holds_up_no_topic(attacked: RunningNetwork, payload: str) -> None:
    topic = new("open")
    contexts = [context_of_topic(topic), os.urandom(32)]
    batch = pin(attacked, contexts, payload=payload)
    for member in attacked.members:
        assert len(pins_of(member, batch)) == 2
        held(member, batch)
    sent = broadcast(attacked.members[0], topic)
    for member in attacked.members:
        member.wait_message(sent["header"]["id"])


def test_garbage_from_a_member_holds_up_only_its_own_contexts(attacked: RunningNetwork) -> None:
    """The member's own connector must get over the nonce that was taken from it, too."""
    topic = new("held")
    batch = pin(attacked, [context_of_topic(topic)], payload=ABSENT, sender=DEV_ADDRESSES[1])
    free = broadcast(attacked.members[1], new("free"))
    waiting = broadcast(attacked.members[0], topic)["header"]["id"]
    for member in attacked.members:
        member.wait_message(free["header"]["id"])
        held(member, batch)
        said = member.wait_for(
            f"/messages/{waiting}/explain", lambda found: found.get("reason") == "behind pin"
        )
        assert "Position(" not in json.dumps(said), "an operator cannot read that"


@pytest.mark.parametrize(
    ("uuids", "payload", "contexts"),
    [
        (bytes(32), "", [bytes(32)]),
        (b"\xff" * 32, "x" * 5000, [os.urandom(32)] * 3),
        (b"", "../../etc/passwd", [os.urandom(32)]),
        (b"", "\0\ud7ff\n", []),
        (b"", ABSENT, [os.urandom(32)] * 200),
    ],
    ids=["zeros", "ones", "path", "text", "many"],
)
def test_odd_pins_change_nothing_else(
    attacked: RunningNetwork, uuids: bytes, payload: str, contexts: list[bytes]
) -> None:
    pin(attacked, contexts, uuids=uuids, payload=payload)


def test_pin_of_another_members_batch_under_another_hash(attacked: RunningNetwork) -> None:
    """The payload is real, the pin's hash is not its hash: refused, and said so."""
    topic = new("copied")
    sent = broadcast(attacked.members[0], topic)
    done = attacked.members[1].wait_message(sent["header"]["id"])
    events = attacked.members[1].get(f"/transactions/{done['txid']}/blockchainevents")
    reference = events[0]["output"]["payloadRef"]
    batch = pin(attacked, [os.urandom(32)], payload=reference)
    for member in attacked.members:
        said = explained(member, batch, "batch missing")
        assert said["state"] == "waiting"
    again = uuid.UUID(done["batch"]).bytes
    pin(attacked, [os.urandom(32)], uuids=uuid.uuid4().bytes + again, payload=reference)
    for member in attacked.members:
        assert member.get(f"/messages/{sent['header']['id']}")["state"] == "confirmed"


def test_true_hash_pinned_by_another_signer_is_rejected_alike(attacked: RunningNetwork) -> None:
    """A replayed batch (real hash, real payload) from a stranger changes nothing anywhere."""
    topic = new("replayed")
    sent = broadcast(attacked.members[0], topic)
    done = attacked.members[1].wait_message(sent["header"]["id"])
    batch = attacked.members[0].get(f"/batches/{done['batch']}")
    events = attacked.members[1].get(f"/transactions/{done['txid']}/blockchainevents")
    ids = bytes.fromhex(events[0]["output"]["uuids"][2:])
    pin(
        attacked,
        [context_of_topic(topic)],
        uuids=ids,
        batch_hash=bytes.fromhex(batch["hash"]),
        payload=events[0]["output"]["payloadRef"],
    )
    later = broadcast(attacked.members[1], topic)
    for member in attacked.members:
        member.wait_message(later["header"]["id"])
        found = member.get(f"/messages/{sent['header']['id']}/events")
        assert [event["type"] for event in found] == ["message_confirmed"]


def endpoint(network: RunningNetwork, member: Member) -> tuple[str, str]:
    """Where a member's data exchange listens, and its certificate."""
    profile = network.members[0].get(f"/network/nodes/{member.node}")["profile"]
    return profile["endpoint"], profile["cert"]


def send_as(context: ssl.SSLContext, url: str, sender: str, to: str, text: str) -> int:
    """Sends one message in FireFly's peer format; gives the status."""
    boundary = uuid.uuid4().hex
    fields = {"senderDestination": sender, "recipientDestination": to, "message": text}
    body = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    )
    request = urllib.request.Request(
        f"{url}/api/v1/messages",
        data=f"{body}--{boundary}--\r\n".encode(),
        headers={"Content-Type": f"multipart/form-data; boundary={boundary}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=20, context=context) as answer:
            status: int = answer.status
            return status
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code


def test_stranger_cannot_even_speak_to_a_data_exchange(
    attacked: RunningNetwork, tmp_path: Path
) -> None:
    member = attacked.members[0]
    url, certificate = endpoint(attacked, member)
    before = member.get("/messages?count&limit=1")["total"]
    context = context_of(certified("mallory"), tmp_path, certificate)
    with pytest.raises(OSError, match=r"(?i)ssl|certificate|reset|alert|closed"):
        send_as(context, url, "node_m", member.node, '{"batch":{}}')
    assert member.get("/messages?count&limit=1")["total"] == before


def peer_context(network: RunningNetwork) -> ssl.SSLContext:
    """TLS as member 1's own data exchange has it."""
    _, certificate = endpoint(network, network.members[0])
    folder = next((network.members[1].folder / "connectors").rglob("certificate.pem")).parent
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    context.load_verify_locations(cadata=certificate)
    return context


def test_peer_that_sends_too_much_is_told_so(attacked: RunningNetwork) -> None:
    first, second = attacked.members
    url, _ = endpoint(attacked, first)
    huge = json.dumps({"batch": "x" * 40_000_000})
    try:
        status = send_as(peer_context(attacked), url, second.node, first.node, huge)
    except OSError:
        status = 413  # it closed before the end of what it does not want
    assert status == 413


@pytest.mark.parametrize(
    "text",
    [
        "not json",
        "{}",
        '{"batch":{}}',
        '{"batch":' + "[" * 100_000,
        '{"batch":{"id":"zz","type":"private","hash":"zz","payload":{"tx":{}}}}',
    ],
    ids=range(5),
)
def test_registered_peer_that_sends_nonsense_is_refused(
    attacked: RunningNetwork, text: str
) -> None:
    first, second = attacked.members
    url, _ = endpoint(attacked, first)
    before = {c: first.get(f"/{c}?count&limit=1")["total"] for c in ("messages", "batches", "data")}
    status = send_as(peer_context(attacked), url, second.node, first.node, text)
    assert status in {204, 400, 422}
    after = {c: first.get(f"/{c}?count&limit=1")["total"] for c in ("messages", "batches", "data")}
    assert after == before
