"""A ledger in memory: one transaction a block, final at once, seen by every member."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from photinus_core.host.fakes.instance import FakeInstance, Found, refusal
from photinus_core.model.ids import Namespace, Nanoseconds
from photinus_core.ports.connectors import (
    BatchPinInput,
    BatchPinned,
    CallKey,
    ChainEvent,
    ConnectorEvent,
    ContractEventSeen,
    ContractListener,
    EventBody,
    Invocation,
    KeyIntent,
    Listener,
    MultipartyListener,
    NetworkActionSeen,
    ResolvedKey,
    Submission,
    WorkState,
)
from photinus_core.ports.tasks import Background

BATCH_MAX: Final = 50
BLOCK_TIME_NS: Final = 1_000_000_000
VERIFIER_TYPE: Final = "ethereum_address"


@dataclass(frozen=True, slots=True)
class Mined:
    """A transaction with the event it emitted."""

    block: int
    location: str
    body: EventBody


@dataclass(slots=True)
class FakeChain:
    """What all members see.

    Attributes:
        mined: All transactions, in order.
        answer: Answers queries; a test may replace it.
    """

    mined: list[Mined] = field(default_factory=list)
    answer: Callable[[Invocation], str] = lambda _: "{}"
    _watchers: list[Callable[[], None]] = field(default_factory=list)
    _numbers: count[int] = field(default_factory=lambda: count(1))

    def watch(self, wake: Callable[[], None]) -> None:
        """Calls `wake` at every transaction."""
        self._watchers.append(wake)

    def mine(self, location: str, signer: str, make: Callable[[ChainEvent], EventBody]) -> str:
        """Adds a transaction with one event; gives its id."""
        block = next(self._numbers)
        transaction = "0x" + hashlib.sha256(f"tx{block}".encode()).hexdigest()
        chain = ChainEvent(
            block=block,
            transaction_index=0,
            log_index=0,
            protocol_id=f"{block:012d}/000000/000000",
            transaction_id=transaction,
            name="",
            location=location,
            signature="",
            output="{}",
            info="{}",
            timestamp=Nanoseconds(block * BLOCK_TIME_NS),
            signer=signer,
            source="ethereum",
        )
        self.mined.append(Mined(block, location, make(chain)))
        for wake in self._watchers:
            wake()
        return transaction


class FakeBlockchain(FakeInstance):
    """One member's connector to a `FakeChain`; holds the keys it was given."""

    def __init__(
        self, name: str, work: Background, chain: FakeChain, keys: tuple[str, ...]
    ) -> None:
        super().__init__(name, work)
        self._chain = chain
        self._keys = tuple(key.lower() for key in keys)
        chain.watch(self.wake)

    async def resolve_key(self, key: str, intent: KeyIntent) -> ResolvedKey:
        """Lower case; the first key for none. Signing needs a key it holds."""
        self.check_present()
        resolved = key.lower() or (self._keys[0] if self._keys else "")
        if not resolved.startswith("0x"):
            raise refusal("INVALID_KEY", f"{key!r} is no key")
        if intent is KeyIntent.SIGN and resolved not in self._keys:
            raise refusal("UNKNOWN_KEY", f"The key {resolved} is not held here")
        return ResolvedKey(resolved, VERIFIER_TYPE)

    async def submit_batch_pin(
        self,
        call: CallKey,
        network_namespace: str,
        signing_key: str,
        pin: BatchPinInput,
        location: str,
    ) -> Submission:
        """Pins a batch, final at once."""
        arguments = (network_namespace, signing_key, pin, location)
        return self._submit(
            call, "SubmitBatchPin", arguments, signing_key, location, lambda c: _pinned(c, pin)
        )

    async def submit_network_action(
        self, call: CallKey, signing_key: str, action: str, payload: str, location: str
    ) -> Submission:
        """Records a network action, final at once."""
        arguments = (signing_key, action, payload, location)
        return self._submit(
            call,
            "SubmitNetworkAction",
            arguments,
            signing_key,
            location,
            lambda c: NetworkActionSeen(c, action, payload),
        )

    async def invoke_contract(self, call: CallKey, invocation: Invocation) -> Submission:
        """Emits an event of the contract, or the pin that came with the call."""
        pin = invocation.pin
        return self._submit(
            call,
            "InvokeContract",
            invocation,
            invocation.signing_key,
            invocation.location,
            lambda c: ContractEventSeen(c) if pin is None else _pinned(c, pin, by_contract=True),
        )

    async def deploy_contract(
        self,
        call: CallKey,
        signing_key: str,
        definition: str,
        contract: str,
        inputs: str,
        options: str,
    ) -> Submission:
        """Gives a new location in the update's output."""
        arguments = (signing_key, definition, contract, inputs, options)
        known = self.begin(call, "DeployContract", arguments)
        if known is not None:
            return known
        address = "0x" + hashlib.sha256(call.key.encode()).hexdigest()[:40]
        output = json.dumps({"contractLocation": {"address": address}})
        return self.succeed(call, external_id=f"0x{address[2:]:0>64}", output=output)

    async def query_contract(self, invocation: Invocation) -> str:
        """What the test's `FakeChain.answer` says."""
        self.check_present()
        return self._chain.answer(invocation)

    async def normalize_location(self, location: str) -> str:
        """Lower-case address, no spaces."""
        self.check_present()
        try:
            address = json.loads(location)["address"]
        except (ValueError, KeyError, TypeError):
            raise refusal("INVALID_LOCATION", f"{location} names no address") from None
        return json.dumps({"address": str(address).lower()}, separators=(",", ":"))

    async def network_version(self, location: str) -> int:  # noqa: ARG002 - the port's signature
        """Always 2."""
        self.check_present()
        return 2

    async def transaction_status(self, namespace: Namespace, key: str) -> str:
        """What is known of a submission."""
        self.check_present()
        work = self.scope(namespace).work.get(key)
        if work is None:
            raise refusal("UNKNOWN_KEY", f"Nothing is known of the key {key}")
        status = {"status": work.submission.state, "transactionHash": work.submission.external_id}
        return json.dumps(status)

    async def withdraw(self, call: CallKey) -> WorkState:
        """Withdraws a submission that was never made."""
        return self.withdrawn(call)

    def found(self, listener: Listener, network_namespace: str, behind: bytes) -> list[Found]:  # noqa: ARG002 - a chain has no namespaces
        """Transactions behind the checkpoint, which is a block number."""
        done = int(behind or b"0")
        found: list[Found] = []
        for mined in self._chain.mined[done:]:
            if len(found) >= BATCH_MAX:
                break
            if _matches(listener, mined):
                event_id = f"{mined.block:012d}/000000/000000"
                event = ConnectorEvent(event_id, listener.id, removed=False, body=mined.body)
                found.append(Found(event, str(mined.block).encode()))
        return found

    def _submit(
        self,
        call: CallKey,
        method: str,
        arguments: object,
        signing_key: str,
        location: str,
        make: Callable[[ChainEvent], EventBody],
    ) -> Submission:
        if signing_key.lower() not in self._keys:
            self.check_present()
            raise refusal("UNKNOWN_KEY", f"The key {signing_key} is not held here")
        known = self.begin(call, method, arguments)
        if known is not None:
            return known
        return self.succeed(call, self._chain.mine(location, signing_key.lower(), make))


def _pinned(chain: ChainEvent, pin: BatchPinInput, *, by_contract: bool = False) -> BatchPinned:
    return BatchPinned(
        chain=chain,
        transaction=pin.transaction,
        batch=pin.batch,
        batch_hash=pin.batch_hash,
        payload_ref=pin.payload_ref,
        contexts=tuple(pin.contexts),
        network_namespace="",
        contract_invoke=by_contract,
    )


def _matches(listener: Listener, mined: Mined) -> bool:
    match listener:
        case MultipartyListener():
            pinned = isinstance(mined.body, BatchPinned | NetworkActionSeen)
            return pinned and mined.location == listener.location
        case ContractListener():
            wanted = {location for _, location in listener.filters}
            seen = isinstance(mined.body, ContractEventSeen)
            return seen and ("" in wanted or mined.location in wanted)
        case _:
            return False
