"""Pins on the multiparty contract: calls encoded and events decoded by hand, because they are the hot path.

Knows versions 1 and 2 of FireFly's contract. Decides nothing about a pin beyond reading it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from eth_hash.auto import keccak
from photinus_sdk.errors import Rejected

from photinus_ethereum.hexes import WORD_BYTES, hexed

EVENT_SIGNATURE = "BatchPin(address,uint256,string,bytes32,bytes32,string,bytes32[])"
EVENT_TOPIC = hexed(keccak(EVENT_SIGNATURE.encode()))
ACTION_PREFIX = "firefly:"
INVOKE_PIN_ACTION = "firefly:contract_invoke_pin"
CONTEXTS_MAX = 10_000
PAYLOAD_REF_BYTES_MAX = 64 * 1024

_PIN_V2 = keccak(b"pinBatch(bytes32,bytes32,string,bytes32[])")[:4]
_PIN_V1 = keccak(b"pinBatch(string,bytes32,bytes32,string,bytes32[])")[:4]
_NETWORK_ACTION = keccak(b"networkAction(string,string)")[:4]
NETWORK_VERSION_CALL = keccak(b"networkVersion()")[:4]
_ZERO_WORD = bytes(WORD_BYTES)


@dataclass(frozen=True, slots=True)
class Pin:
    """What is pinned: ids as 16 bytes each, hashes as 32."""

    uuids: bytes
    batch_hash: bytes
    payload_ref: str
    contexts: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class BatchPinLog:
    """The arguments of a BatchPin event. `kind` is the third one: an action in version 2, a namespace in 1."""

    author: str
    timestamp: int
    kind: str
    uuids: bytes
    batch_hash: bytes
    payload_ref: str
    contexts: tuple[bytes, ...]

    @property
    def is_network_action(self) -> bool:
        """FireFly's rule, for both versions."""
        return not self.contexts and self.kind.startswith(ACTION_PREFIX)

    def output(self) -> dict[str, object]:
        """The event as FireFly records it, which calls the third argument `namespace` in both versions."""
        return {
            "author": self.author,
            "batchHash": hexed(self.batch_hash),
            "contexts": [hexed(context) for context in self.contexts],
            "namespace": self.kind,
            "payloadRef": self.payload_ref,
            "timestamp": str(self.timestamp),
            "uuids": hexed(self.uuids),
        }


def parse_pin(
    transaction_uuid: str, batch_id: str, batch_hash: str, payload_ref: str, contexts: Sequence[str]
) -> Pin:
    """A pin from the protocol's text fields; Rejected names the one that does not fit."""
    if len(contexts) > CONTEXTS_MAX:
        raise Rejected(f"more than {CONTEXTS_MAX} contexts")
    if len(payload_ref.encode()) > PAYLOAD_REF_BYTES_MAX:
        raise Rejected(f"payload reference over {PAYLOAD_REF_BYTES_MAX} bytes")
    try:
        uuids = UUID(transaction_uuid).bytes + UUID(batch_id).bytes
    except ValueError as error:
        raise Rejected("transaction or batch id is not a UUID") from error
    return Pin(
        uuids,
        _hash(batch_hash, "batch hash"),
        payload_ref,
        tuple(_hash(context, "context") for context in contexts),
    )


def encode_pin(pin: Pin) -> bytes:
    """Call data of version 2's pinBatch."""
    return _PIN_V2 + pin_arguments(pin)


def pin_arguments(pin: Pin) -> bytes:
    """The ABI encoding of (uuids, batchHash, payloadRef, contexts); also what pinBatchData takes."""
    reference = _text(pin.payload_ref)
    offsets = _word(4 * WORD_BYTES) + _word(4 * WORD_BYTES + len(reference))
    return b"".join((pin.uuids, pin.batch_hash, offsets, reference, _list(pin.contexts)))


def encode_pin_v1(namespace: str, pin: Pin) -> bytes:
    """Call data of version 1's pinBatch."""
    name, reference = _text(namespace), _text(pin.payload_ref)
    head = 5 * WORD_BYTES
    return b"".join(
        (
            _PIN_V1,
            _word(head),
            pin.uuids,
            pin.batch_hash,
            _word(head + len(name)),
            _word(head + len(name) + len(reference)),
            name,
            reference,
            _list(pin.contexts),
        )
    )


def encode_network_action(action: str, payload: str) -> bytes:
    """Call data of version 2's networkAction; `action` without its prefix."""
    name = _text(ACTION_PREFIX + action)
    offsets = _word(2 * WORD_BYTES) + _word(2 * WORD_BYTES + len(name))
    return b"".join((_NETWORK_ACTION, offsets, name, _text(payload)))


def encode_network_action_v1(action: str, payload: str) -> bytes:
    """Version 1 has no such method: a pin of nothing in a namespace that begins with `firefly:`."""
    return encode_pin_v1(ACTION_PREFIX + action, Pin(_ZERO_WORD, _ZERO_WORD, payload, ()))


def decode_batch_pin(data: bytes) -> BatchPinLog:
    """The arguments in a BatchPin log's data. Raises ValueError when it is not such a log.

    Anybody can emit this event with any bytes, so every offset is checked.
    """
    if len(data) < 7 * WORD_BYTES:
        raise ValueError("a BatchPin has seven arguments")
    kind_at, reference_at = _int(data, 2), _int(data, 5)
    return BatchPinLog(
        author="0x" + data[12:32].hex(),
        timestamp=_int(data, 1),
        kind=_read(data, kind_at).decode("utf-8", "replace"),
        uuids=data[96:128],
        batch_hash=data[128:160],
        payload_ref=_read(data, reference_at).decode("utf-8", "replace"),
        contexts=_read_list(data, _int(data, 6)),
    )


def _hash(text: str, what: str) -> bytes:
    try:
        raw = bytes.fromhex(text.removeprefix("0x"))
    except ValueError as error:
        raise Rejected(f"{what} is not hex") from error
    if len(raw) != WORD_BYTES:
        raise Rejected(f"{what} has {len(raw)} bytes, not {WORD_BYTES}")
    return raw


def _word(value: int) -> bytes:
    return value.to_bytes(WORD_BYTES)


def _text(value: str) -> bytes:
    raw = value.encode()
    return _word(len(raw)) + raw + bytes(-len(raw) % WORD_BYTES)


def _list(values: Sequence[bytes]) -> bytes:
    return _word(len(values)) + b"".join(values)


def _int(data: bytes, word: int) -> int:
    return int.from_bytes(data[word * WORD_BYTES : (word + 1) * WORD_BYTES])


def _read(data: bytes, at: int) -> bytes:
    start = at + WORD_BYTES
    size = int.from_bytes(data[at:start])
    if start + size > len(data):
        raise ValueError("an argument reaches beyond the data")
    return data[start : start + size]


def _read_list(data: bytes, at: int) -> tuple[bytes, ...]:
    start = at + WORD_BYTES
    count = int.from_bytes(data[at:start])
    if start + count * WORD_BYTES > len(data):
        raise ValueError("a list reaches beyond the data")
    return tuple(data[start + i * WORD_BYTES : start + (i + 1) * WORD_BYTES] for i in range(count))
