"""Logs of the node, read into events of the protocol."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID

import orjson
from google.protobuf.timestamp_pb2 import Timestamp
from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import event_pb2 as events

from photinus_ethereum import pins
from photinus_ethereum.abi_types import AbiEvent
from photinus_ethereum.abi_values import decode_event
from photinus_ethereum.checkpoints import Place
from photinus_ethereum.hexes import Address, BlockHash, TxHash, data, number
from photinus_ethereum.interfaces import location_json
from photinus_ethereum.rpc import Json

logger = logging.getLogger(__name__)

SOURCE = "ethereum"
EVENT_BYTES_MAX = 2 * 1024 * 1024
"""An event larger than this as the protocol spells it is left out, by every member alike: it fits no frame."""


@dataclass(frozen=True, slots=True)
class Log:
    """A log as `eth_getLogs` gives it."""

    address: Address
    topics: tuple[str, ...]
    data: bytes
    block: int
    block_hash: BlockHash
    transaction: TxHash
    transaction_index: int
    log_index: int
    timestamp: int | None = None

    @property
    def order(self) -> tuple[int, int]:
        return self.block, self.log_index


def parse_log(value: Json) -> Log:
    """Reads one log. ValueError for what is none (or is pending, without a block)."""
    try:
        return Log(
            Address(value["address"].lower()),
            tuple(value["topics"]),
            data(value["data"]),
            number(value["blockNumber"]),
            BlockHash(value["blockHash"]),
            TxHash(value["transactionHash"]),
            number(value["transactionIndex"]),
            number(value["logIndex"]),
            number(stamp) if (stamp := value.get("blockTimestamp")) is not None else None,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a log: {error}") from error


def protocol_id(block: int, transaction_index: int, log_index: int) -> str:
    """FireFly's sortable id of an event's place."""
    return f"{block:012d}/{transaction_index:06d}/{log_index:06d}"


@dataclass(frozen=True, slots=True)
class Found:
    """What is known beside the log itself."""

    timestamp: int
    chain_id: int
    listener_id: str
    signer: str = ""


class Filter(Protocol):
    """What a listener asks the node for, and how it reads what comes."""

    @property
    def addresses(self) -> Sequence[Address]:
        """Contracts; empty for any."""
        ...

    @property
    def topics(self) -> Sequence[str]:
        """Alternatives for the first topic."""
        ...

    @property
    def needs_signer(self) -> bool:
        """True when the transaction's sender must be looked up."""
        ...

    def read(self, log: Log, found: Found) -> events.Event | None:
        """The event, or None when the log is not one of these."""
        ...

    def taken_back(self, block: int, place: Place, listener_id: str) -> events.Event:
        """The notice that an event is gone; of its body only the place is known."""
        ...


@dataclass(frozen=True, slots=True)
class MultipartyLogs:
    """Pins and network actions of a multiparty contract."""

    address: Address
    version: int

    @property
    def addresses(self) -> Sequence[Address]:
        return (self.address,)

    @property
    def topics(self) -> Sequence[str]:
        return (pins.EVENT_TOPIC,)

    @property
    def needs_signer(self) -> bool:
        return False

    def read(self, log: Log, found: Found) -> events.Event | None:
        if log.address != self.address or not log.topics or log.topics[0] != pins.EVENT_TOPIC:
            return None
        try:
            pin = pins.decode_batch_pin(log.data)
        except ValueError:
            return None
        chain = _chain_event(
            log,
            found,
            "BatchPin",
            pins.EVENT_SIGNATURE,
            orjson.dumps(pin.output()).decode(),
            pin.author,
        )
        event = events.Event(id=_event_id(log, found.listener_id), listener_id=found.listener_id)
        if pin.is_network_action:
            event.network_action.CopyFrom(
                events.NetworkActionEvent(
                    chain=chain,
                    action=pin.kind.removeprefix(pins.ACTION_PREFIX),
                    payload=pin.payload_ref,
                )
            )
        else:
            event.batch_pin.CopyFrom(
                events.BatchPinEvent(
                    chain=chain,
                    transaction_uuid=str(UUID(bytes=pin.uuids[:16])),
                    batch_id=str(UUID(bytes=pin.uuids[16:])),
                    batch_hash=pin.batch_hash.hex(),
                    payload_ref=pin.payload_ref,
                    contexts=[context.hex() for context in pin.contexts],
                    network_namespace=pin.kind if self.version == 1 else "",
                    contract_invoke=self.version != 1 and pin.kind == pins.INVOKE_PIN_ACTION,
                )
            )
        return _bounded(event)

    def taken_back(self, block: int, place: Place, listener_id: str) -> events.Event:
        chain = _placed(block, place, "BatchPin", pins.EVENT_SIGNATURE)
        event = _removed(block, place, listener_id)
        if place.is_action:
            event.network_action.chain.CopyFrom(chain)
        else:
            event.batch_pin.chain.CopyFrom(chain)
        return event


@dataclass(frozen=True, slots=True)
class ContractLogs:
    """Events of smart contracts: alternatives of (contract or any, event)."""

    alternatives: tuple[tuple[Address | None, AbiEvent], ...]

    @property
    def addresses(self) -> Sequence[Address]:
        chosen = [address for address, _ in self.alternatives if address is not None]
        return tuple(dict.fromkeys(chosen)) if len(chosen) == len(self.alternatives) else ()

    @property
    def topics(self) -> Sequence[str]:
        return tuple(dict.fromkeys(event.topic for _, event in self.alternatives))

    @property
    def needs_signer(self) -> bool:
        return True

    def read(self, log: Log, found: Found) -> events.Event | None:
        for address, abi in self.alternatives:
            if (address is not None and address != log.address) or log.topics[:1] != (abi.topic,):
                continue
            try:
                output = decode_event(
                    abi.inputs, [data(topic) for topic in log.topics[1:]], log.data
                )
            except ValueError:
                # Another event of the same signature, e.g. with other indexed parameters.
                continue
            text = orjson.dumps(output, option=orjson.OPT_SORT_KEYS).decode()
            chain = _chain_event(log, found, abi.name, abi.signature, text, found.signer)
            return _bounded(
                events.Event(
                    id=_event_id(log, found.listener_id),
                    listener_id=found.listener_id,
                    contract_event=events.ContractEvent(chain=chain),
                )
            )
        return None

    def taken_back(self, block: int, place: Place, listener_id: str) -> events.Event:
        event = _removed(block, place, listener_id)
        event.contract_event.chain.CopyFrom(_placed(block, place, "", ""))
        return event


def place_of(log: Log, event: events.Event) -> Place:
    """The place of a log, for the checkpoint."""
    return Place(log.transaction_index, log.log_index, event.HasField("network_action"))


def _bounded(event: events.Event) -> events.Event | None:
    size = event.ByteSize()
    if size > EVENT_BYTES_MAX:
        logger.warning("event %s left out: %d bytes", event.id, size)
        return None
    return event


def _event_id(log: Log, listener_id: str) -> str:
    return f"{protocol_id(log.block, log.transaction_index, log.log_index)}/{listener_id}"


def _removed(block: int, place: Place, listener_id: str) -> events.Event:
    found = protocol_id(block, place.transaction_index, place.log_index)
    return events.Event(id=f"{found}/{listener_id}", listener_id=listener_id, removed=True)


def _placed(block: int, place: Place, name: str, signature: str) -> common.ChainEvent:
    return common.ChainEvent(
        position=common.Position(
            block=block, transaction_index=place.transaction_index, log_index=place.log_index
        ),
        protocol_id=protocol_id(block, place.transaction_index, place.log_index),
        name=name,
        signature=signature,
        source=SOURCE,
    )


def _chain_event(
    log: Log, found: Found, name: str, signature: str, output_json: str, signer: str
) -> common.ChainEvent:
    return common.ChainEvent(
        position=common.Position(
            block=log.block, transaction_index=log.transaction_index, log_index=log.log_index
        ),
        protocol_id=protocol_id(log.block, log.transaction_index, log.log_index),
        transaction_id=log.transaction,
        name=name,
        location_json=location_json(log.address),
        signature=signature,
        output_json=output_json,
        info_json=_info_json(log, found, signature),
        timestamp=Timestamp(seconds=found.timestamp),
        signer=signer,
        source=SOURCE,
    )


def _time(timestamp: int) -> str:
    try:
        return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError):
        # A development chain may claim any time.
        return str(timestamp)


def _info_json(log: Log, found: Found, signature: str) -> str:
    """FireFly's details of an event, keys in its order."""
    info: Mapping[str, object] = {
        "address": log.address,
        "blockHash": log.block_hash,
        "blockNumber": str(log.block),
        "chainId": str(found.chain_id),
        "listenerId": found.listener_id,
        "listenerType": "events",
        "logIndex": str(log.log_index),
        "removed": False,
        "signature": signature,
        "timestamp": _time(found.timestamp),
        "topics": log.topics,
        "transactionHash": log.transaction,
        "transactionIndex": str(log.transaction_index),
    }
    return orjson.dumps(info).decode()
