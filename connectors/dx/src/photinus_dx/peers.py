"""Who may talk to us: the registered peers in memory, and the TLS contexts that follow from them.

Pure bookkeeping; the durable copy is in the store. A change takes effect at once: new handshakes use the new pins, and
requests on open connections are checked against them one by one.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable

from photinus_dx.certificates import Identity, PinnedCertificate, client_context, server_context
from photinus_dx.model import Peer, PeerId, Scope


class PeerRegistry:
    """The registered peers of all scopes."""

    def __init__(self, identity: Identity, peers: Iterable[Peer]) -> None:
        self.identity = identity
        self._peers: dict[tuple[Scope, PeerId], Peer] = {}
        self._by_fingerprint: dict[str, list[Peer]] = {}
        self._listeners: list[Callable[[Scope, PeerId], None]] = []
        for peer in peers:
            self._peers[peer.scope, peer.id] = peer
        self._index()
        self._server_context: ssl.SSLContext | None = None

    def on_change(self, listener: Callable[[Scope, PeerId], None]) -> None:
        """Call back after a peer was added, replaced or removed."""
        self._listeners.append(listener)

    def put(self, peer: Peer) -> None:
        """Add a peer or replace what is known of it."""
        self._peers[peer.scope, peer.id] = peer
        self._changed(peer.scope, peer.id)

    def remove(self, scope: Scope, peer_id: PeerId) -> None:
        """Forget a peer; unknown ones are fine."""
        if self._peers.pop((scope, peer_id), None) is not None:
            self._changed(scope, peer_id)

    def get(self, scope: Scope, peer_id: PeerId) -> Peer | None:
        """What is known of a peer in a namespace."""
        return self._peers.get((scope, peer_id))

    def count(self, scope: Scope) -> int:
        """How many peers a namespace has."""
        return sum(1 for key in self._peers if key[0] == scope)

    def proved(self, fingerprint: str) -> str:
        """Peer name a presented certificate proves, empty when it is nobody's."""
        known = self._by_fingerprint.get(fingerprint)
        return known[0].id.peer if known else ""

    def may_speak(self, fingerprint: str, network: str, sender: PeerId) -> bool:
        """Whether a certificate may send as `sender` in a network.

        It must be a member's there, and the node it names must not be one that another certificate registered.
        A node nobody registered may be named: the core decides what to make of it.
        """
        mine = self._by_fingerprint.get(fingerprint, ())
        if not any(peer.network == network for peer in mine):
            return False
        return any(peer.network == network and peer.id == sender for peer in mine) or not any(
            peer.network == network and peer.id == sender for peer in self._peers.values()
        )

    def find(self, network: str, peer_id: PeerId) -> Peer | None:
        """A registration of a peer in a network: the node itself, else another node of the same peer."""
        same_peer = None
        for peer in self._peers.values():
            if peer.network == network and peer.id.peer == peer_id.peer:
                if peer.id == peer_id:
                    return peer
                same_peer = peer
        return same_peer

    def listening_context(self) -> ssl.SSLContext:
        """TLS for the listening socket; every handshake switches to the pins of its moment."""
        context = self._make_server_context()

        def switch(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
            if self._server_context is None:
                self._server_context = self._make_server_context()
            connection.context = self._server_context

        context.sni_callback = switch
        return context

    def dialling_context(self, peer: Peer) -> ssl.SSLContext:
        """TLS for connections to one peer."""
        return client_context(self.identity, list(peer.pins))

    def _changed(self, scope: Scope, peer_id: PeerId) -> None:
        self._index()
        self._server_context = None
        for listener in self._listeners:
            listener(scope, peer_id)

    def _index(self) -> None:
        self._by_fingerprint = {}
        for peer in self._peers.values():
            for pin in peer.pins:
                self._by_fingerprint.setdefault(pin.fingerprint, []).append(peer)

    def _make_server_context(self) -> ssl.SSLContext:
        pins: dict[str, PinnedCertificate] = {}
        for peer in self._peers.values():
            for pin in peer.pins:
                pins[pin.fingerprint] = pin
        return server_context(self.identity, list(pins.values()))
