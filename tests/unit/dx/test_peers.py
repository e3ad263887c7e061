"""Goal: who a certificate may speak for, and where a peer is found, follows from the registrations alone.

Method: registries of a few peers, with certificates made once.
"""

from functools import cache
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from photinus_dx.certificates import PinnedCertificate, own_identity, self_signed
from photinus_dx.model import Peer, PeerId, Scope
from photinus_dx.peers import PeerRegistry
from photinus_sdk import Rejected

ONE, TWO = Scope("c1", "one"), Scope("c1", "two")


@cache
def pem(organization: str, generation: int = 1) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    return self_signed(key, organization, str(generation), "h").decode()


def peer(
    text: str, scope: Scope = ONE, network: str = "net1", generation: int = 1, port: int = 1
) -> Peer:
    """The unit in the subject is the generation: peer ids here are `<name>-<generation>`."""
    name = text.partition("/")[0].rpartition("-")[0]
    document = {"id": text, "endpoint": f"https://h:{port}/", "cert": pem(name, generation)}
    return Peer.parse(scope, network, msgspec.json.encode(document).decode())


@pytest.fixture
def registry(tmp_path: Path) -> PeerRegistry:
    return PeerRegistry(own_identity(tmp_path, "me", "", "h"), [])


def print_of(one: Peer) -> str:
    return one.pins[0].fingerprint


def test_ids_have_a_form() -> None:
    assert PeerId.parse("org1") == PeerId("org1", "")
    assert PeerId.parse("My Org, Inc./node_1") == PeerId("My Org, Inc.", "node_1")
    for text in ("", "/n", "a/", "a/b/c", "a/..", "a\x00", "a\n", "é" * 200, "a/-x"):
        with pytest.raises(Rejected):
            PeerId.parse(text)


def test_a_peer_needs_a_certificate_of_its_name() -> None:
    with pytest.raises(Rejected):
        peer("alice-2/n")


def test_the_endpoint_loses_its_last_slash() -> None:
    assert peer("alice-1").endpoint == "https://h:1"


def test_a_registered_certificate_proves_its_name(registry: PeerRegistry) -> None:
    alice = peer("alice-1/n1")
    assert registry.proved(print_of(alice)) == ""
    registry.put(alice)
    assert registry.proved(print_of(alice)) == "alice-1"
    registry.remove(ONE, alice.id)
    assert registry.proved(print_of(alice)) == ""


def test_a_peer_speaks_in_its_networks_only(registry: PeerRegistry) -> None:
    alice = peer("alice-1/n1")
    registry.put(alice)
    assert registry.may_speak(print_of(alice), "net1", alice.id)
    assert not registry.may_speak(print_of(alice), "net2", alice.id)
    registry.put(peer("alice-1/n1", TWO, "net2"))
    assert registry.may_speak(print_of(alice), "net2", alice.id)


def test_a_node_belongs_to_the_certificate_that_registered_it(registry: PeerRegistry) -> None:
    alice = peer("alice-1/n1")
    twin = Peer(ONE, "net1", PeerId("alice-1", "n2"), "https://h:2", peer_pins("other"), "")
    registry.put(alice)
    registry.put(twin)
    assert not registry.may_speak(print_of(alice), "net1", twin.id)
    assert not registry.may_speak(print_of(twin), "net1", alice.id)
    # A node nobody registered may be named: the core decides what to make of it.
    assert registry.may_speak(print_of(alice), "net1", PeerId("alice-1", "n9"))
    assert registry.may_speak(print_of(alice), "net1", PeerId("alice-1", ""))


def peer_pins(name: str) -> tuple[PinnedCertificate, ...]:
    return peer(f"{name}-1/x").pins


def test_a_replaced_certificate_counts_no_more(registry: PeerRegistry) -> None:
    old = peer("alice-1/n1")
    new = Peer(ONE, "net1", old.id, old.endpoint, peer_pins("other"), "")
    registry.put(old)
    registry.put(new)
    assert registry.proved(print_of(old)) == ""
    assert registry.proved(print_of(new)) == "alice-1"


def test_a_peer_is_found_by_node_or_by_name(registry: PeerRegistry) -> None:
    one, two = peer("alice-1/n1", port=1), peer("alice-1/n2", port=2)
    registry.put(one)
    registry.put(two)
    assert registry.find("net1", PeerId("alice-1", "n2")) == two
    assert registry.find("net1", PeerId("alice-1", "n9")) in {one, two}
    assert registry.find("net2", PeerId("alice-1", "n1")) is None
    assert registry.count(ONE) == 2
    assert registry.count(TWO) == 0
    assert registry.get(TWO, one.id) is None


def test_changes_are_told(registry: PeerRegistry) -> None:
    told: list[tuple[Scope, PeerId]] = []
    registry.on_change(lambda scope, peer_id: told.append((scope, peer_id)))
    alice = peer("alice-1/n1")
    registry.put(alice)
    registry.remove(ONE, alice.id)
    registry.remove(ONE, alice.id)
    assert told == [(ONE, alice.id)] * 2
