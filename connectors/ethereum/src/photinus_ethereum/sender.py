"""From a request to a transaction the node has: gas, fees, nonce, signature, journal, and only then sending.

The order of a signer's transactions is the order of the calls to `submit`. What is journaled is sent until it
is mined; what is not journaled is never sent. So a crash at any point leaves either nothing or something that
recovery sends again byte for byte.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from photinus_sdk.errors import Exhausted, NotFound, Unavailable
from photinus_sdk.tasks import Background

from photinus_ethereum.abi_types import AbiError
from photinus_ethereum.fees import FeeOracle, raised
from photinus_ethereum.gas import GasOracle, Shape
from photinus_ethereum.hexes import Address, TxHash, hexed, number
from photinus_ethereum.journal import Journal, Submitted
from photinus_ethereum.node_errors import Refusal, classify
from photinus_ethereum.pool import Lane, Pool, Transaction
from photinus_ethereum.rpc import NodeUnavailableError, Outcome, Rpc, RpcError
from photinus_ethereum.transactions import (
    Fees,
    Payload,
    Signed,
    empty_payload,
    parse,
    sign,
    with_gas,
)

logger = logging.getLogger(__name__)

SEND_BATCH_MAX = 100
BUSY_DELAY_S = 0.2
AWAY_DELAY_S = 0.5
UNFUNDED_DELAY_S = 2.0
UNKNOWN_REFUSALS_MAX = 10


@dataclass(frozen=True, slots=True)
class SendSettings:
    """Bounds of sending."""

    in_flight_max: int = 2_000
    max_fee: int | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be done on the chain, under which key. A gas of 0 is estimated."""

    scope: str
    key: str
    method: str
    fingerprint: bytes
    signer: Address
    payload: Payload
    errors: Sequence[AbiError] = ()
    errors_json: str = ""
    shape: Shape | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """The node, and what is known of its prices."""

    rpc: Rpc
    chain_id: int
    fees: FeeOracle
    gas: GasOracle


class Sender:
    """Journals and sends. `aclose` ends the background work; what is journaled stays."""

    def __init__(self, node: Node, journal: Journal, pool: Pool, settings: SendSettings) -> None:
        self._node = node
        self._journal = journal
        self._pool = pool
        self._settings = settings
        self._tasks = Background()
        self._running: set[Address] = set()
        self.on_suspect: Callable[[], None] = lambda: None

    @property
    def chain_id(self) -> int:
        """The chain that signatures are for."""
        return self._node.chain_id

    async def aclose(self) -> None:
        await self._tasks.aclose()

    async def submit(self, request: Request) -> TxHash:
        """Journals a transaction for a request and sees to it that it is mined. Answers once journaled.

        When it raises, or is cancelled before the journal has it, nothing was sent and nothing will be.
        """
        lane = self._pool.lane(request.signer)
        if lane.signer is None:
            raise NotFound(
                f"this connector does not hold the key of {request.signer}", reason="UNKNOWN_KEY"
            )
        if len(lane.open) + lane.waiting >= self._settings.in_flight_max:
            raise Exhausted(
                f"{self._settings.in_flight_max} transactions of {request.signer} are under way",
                reason="TOO_MANY_IN_FLIGHT",
                retry_after_s=0.5,
            )
        with lane.turn() as turn:
            fees, payload = await self._prepared(lane, request)
            await turn.wait()
            if lane.next_nonce is None:
                await self._learn_nonce(lane)
            task, signed = self._journaled(lane, request, payload, fees)
        await asyncio.shield(task)
        return signed.hash

    async def _prepared(self, lane: Lane, request: Request) -> tuple[Fees, Payload]:
        fees = await self._node.fees.quote()
        if request.payload.gas:
            return fees, request.payload
        shape = request.shape
        limit = self._node.gas.known(shape) if shape is not None and not lane.unfunded else None
        if limit is None:
            limit = await self._node.gas.limit(
                request.signer, request.payload, fees, request.errors
            )
            if shape is not None:
                self._node.gas.keep(shape, limit)
        return fees, with_gas(request.payload, limit)

    def _journaled(
        self, lane: Lane, request: Request, payload: Payload, fees: Fees
    ) -> tuple[asyncio.Task[int], Signed]:
        """Gives out the next nonce and hands the signed transaction to the journal, in one step."""
        assert lane.signer is not None
        assert lane.next_nonce is not None
        signed = sign(payload, lane.next_nonce, fees, self._node.chain_id, lane.signer)
        lane.next_nonce += 1
        submitted = Submitted(
            request.scope,
            request.key,
            request.method,
            request.fingerprint,
            request.signer,
            signed.nonce,
            signed.hash,
            signed.raw,
            request.errors_json,
        )
        return self.journal(submitted), signed

    def journal(self, submitted: Submitted) -> asyncio.Task[int]:
        """Journals a signed transaction and queues it for sending as soon as it is durable."""
        task = self._journal.insert(submitted)
        transaction = Transaction(submitted)

        def durable(done: asyncio.Task[int]) -> None:
            lane = self._pool.lane(submitted.signer)
            if done.cancelled() or done.exception() is not None:
                if lane.next_nonce == submitted.nonce + 1:
                    lane.next_nonce = submitted.nonce
                return
            transaction.id = done.result()
            self.queue(self._pool.add(transaction), transaction)

        task.add_done_callback(durable)
        return task

    async def _learn_nonce(self, lane: Lane) -> None:
        """The next nonce: behind all that is journaled, and behind all that the node has."""
        try:
            pending = await self._node.rpc.call("eth_getTransactionCount", lane.address, "pending")
        except (NodeUnavailableError, RpcError) as error:
            raise Unavailable(f"the node gives no nonce: {error}") from error
        highest = self._journal.highest_nonce(lane.address)
        lane.next_nonce = max(number(pending), -1 if highest is None else highest + 1)
        self.on_suspect()

    def queue(self, lane: Lane, transaction: Transaction) -> None:
        """Has a journaled transaction sent, and its lane's sender running."""
        lane.queue(transaction)
        if lane.address not in self._running:
            self._running.add(lane.address)
            self._tasks.start(self._send_queued(lane), f"send {lane.address}")

    async def _send_queued(self, lane: Lane) -> None:
        while True:
            await lane.wake.wait()
            lane.wake.clear()
            while lane.has_queued:
                batch = lane.take_queued(SEND_BATCH_MAX)
                try:
                    delay = await self._send(lane, batch)
                except Exception:
                    # One signer's trouble must not end its sending for ever; the transactions are journaled.
                    logger.exception("sending for %s failed", lane.address)
                    for transaction in batch:
                        lane.queue(transaction)
                    delay = UNFUNDED_DELAY_S
                if delay:
                    await asyncio.sleep(delay)

    async def _send(self, lane: Lane, batch: Sequence[Transaction]) -> float:
        for transaction in batch:
            transaction.attempted = True
        outcomes = await self._node.rpc.call_many(
            [("eth_sendRawTransaction", [hexed(each.submitted.raw)]) for each in batch]
        )
        return await self._judge(lane, batch, outcomes)

    async def _judge(
        self, lane: Lane, batch: Sequence[Transaction], outcomes: Sequence[Outcome]
    ) -> float:
        """Takes note of the node's answers; returns how long to wait before sending more."""
        now = asyncio.get_running_loop().time()
        delay = 0.0
        for transaction, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, NodeUnavailableError):
                lane.queue(transaction)
                delay = max(delay, AWAY_DELAY_S)
            elif isinstance(outcome, RpcError):
                delay = max(delay, await self._refused(lane, transaction, outcome))
            else:
                self._accepted(lane, transaction, now)
        return delay

    @staticmethod
    def _accepted(lane: Lane, transaction: Transaction, now: float) -> None:
        lane.unfunded = False
        transaction.refusals = 0
        transaction.last_sent = now
        if transaction.first_sent is None:
            transaction.first_sent = now

    async def _refused(self, lane: Lane, transaction: Transaction, error: RpcError) -> float:
        now = asyncio.get_running_loop().time()
        transaction.refusals += 1
        match classify(error):
            case Refusal.KNOWN:
                self._accepted(lane, transaction, now)
                return 0.0
            case Refusal.NONCE_TOO_LOW:
                # Mined already (after a crash, say), or the nonce was used by somebody else: upkeep finds out.
                transaction.suspect = True
                transaction.last_sent = now
                self.on_suspect()
                return 0.0
            case Refusal.UNDERPRICED:
                self._node.fees.invalidate()
                if not await self.bump(lane, transaction):
                    lane.queue(transaction)
                    return UNFUNDED_DELAY_S
                return 0.0
            case Refusal.INSUFFICIENT_FUNDS:
                if not lane.unfunded:
                    logger.warning("%s cannot pay for its transactions; waiting", lane.address)
                lane.unfunded = True
                lane.queue(transaction)
                return UNFUNDED_DELAY_S
            case Refusal.BUSY | Refusal.NONCE_TOO_HIGH:
                lane.queue(transaction)
                return BUSY_DELAY_S
            case _:
                return await self._given_up(lane, transaction, error)

    async def _given_up(self, lane: Lane, transaction: Transaction, error: RpcError) -> float:
        """A refusal that will not pass: an empty transaction takes the nonce, so that later ones can go on."""
        final = classify(error) in {Refusal.INVALID, Refusal.REVERTED}
        if not final and transaction.refusals < UNKNOWN_REFUSALS_MAX:
            logger.warning("transaction %s refused: %s", transaction.submitted.hash, error)
            lane.queue(transaction)
            return BUSY_DELAY_S * transaction.refusals
        self._node.gas.forget()
        if transaction.submitted.noop or lane.signer is None:
            logger.error(
                "nonce %d of %s cannot be used: %s", transaction.nonce, lane.address, error
            )
            lane.queue(transaction)
            return UNFUNDED_DELAY_S
        former = parse(transaction.submitted.raw)
        fees = raised(former.fees, former.fees, None) or former.fees
        empty = sign(
            empty_payload(lane.address), former.nonce, fees, self._node.chain_id, lane.signer
        )
        reason = f"the node refuses the transaction: {error.message}"
        await self._replace(lane, transaction, empty, noop=True, error=reason)
        return 0.0

    async def bump(self, lane: Lane, transaction: Transaction) -> bool:
        """Replaces a transaction by one that offers more. False when that is not possible."""
        if lane.signer is None:
            return False
        former = parse(transaction.submitted.raw)
        try:
            quote = await self._node.fees.quote()
        except Unavailable:
            return False
        fees = raised(former.fees, quote, self._settings.max_fee)
        if fees is None:
            logger.warning(
                "transaction %s stays: its fee is at the limit", transaction.submitted.hash
            )
            return False
        payload = former.payload
        signed = sign(payload, former.nonce, fees, self._node.chain_id, lane.signer)
        submitted = transaction.submitted
        await self._replace(lane, transaction, signed, noop=submitted.noop, error=submitted.error)
        logger.info("transaction %s replaced by %s", submitted.hash, signed.hash)
        return True

    async def renumber(self, lane: Lane, transaction: Transaction) -> None:
        """Gives a transaction a new nonce: its own was used, finally, by a transaction that is not ours."""
        if lane.signer is None:
            logger.error("the key of %s is gone; its transactions cannot go on", lane.address)
            return
        with lane.turn() as turn:
            await turn.wait()
            if transaction.mined is not None:
                return
            if lane.next_nonce is None:
                await self._learn_nonce(lane)
            assert lane.next_nonce is not None
            former = parse(transaction.submitted.raw)
            signed = sign(
                former.payload, lane.next_nonce, former.fees, self._node.chain_id, lane.signer
            )
            lane.next_nonce += 1
            lane.unqueue(transaction)
            submitted = transaction.submitted
            await self._replace(lane, transaction, signed, noop=False, error="", moved=True)
        logger.warning(
            "nonce %d of %s was used by others; %s goes on as %s",
            former.nonce,
            lane.address,
            submitted.hash,
            signed.hash,
        )

    async def cancel(self, scope: str, key: str) -> bool:
        """Withdraws a transaction no node has seen. True once that is durable."""
        transaction = self._pool.with_key(scope, key)
        if transaction is None or transaction.attempted or transaction.told:
            return False
        lane = self._pool.lane(transaction.submitted.signer)
        if lane.signer is None:
            return False
        transaction.held = True
        lane.unqueue(transaction)
        # To its end, although its caller gives up: what the journal calls cancelled must not be sent.
        await asyncio.shield(
            self._tasks.start(
                self._withdraw(lane, transaction), f"cancel {transaction.submitted.hash}"
            )
        )
        return True

    async def _withdraw(self, lane: Lane, transaction: Transaction) -> None:
        assert lane.signer is not None
        try:
            former = parse(transaction.submitted.raw)
            empty = sign(
                empty_payload(lane.address),
                former.nonce,
                former.fees,
                self._node.chain_id,
                lane.signer,
            )
            submitted = _attempt(transaction.submitted, empty, noop=True, error="")
            await self._journal.cancel(transaction.id, submitted)
            transaction.take(submitted)
            transaction.told = True
            self._pool.index(transaction)
        finally:
            transaction.held = False
            self.queue(lane, transaction)

    async def _replace(
        self,
        lane: Lane,
        transaction: Transaction,
        signed: Signed,
        *,
        noop: bool,
        error: str,
        moved: bool = False,
    ) -> None:
        submitted = _attempt(transaction.submitted, signed, noop=noop, error=error)
        await self._journal.replace(transaction.id, submitted)
        if moved and lane.open.get(transaction.nonce) is transaction:
            del lane.open[transaction.nonce]
        transaction.take(submitted)
        if moved:
            transaction.suspect, transaction.lost_looks, transaction.lost_since = False, 0, None
            lane.add(transaction)
        transaction.first_sent = None
        self._pool.index(transaction)
        self.queue(lane, transaction)


def _attempt(submitted: Submitted, signed: Signed, *, noop: bool, error: str) -> Submitted:
    return replace(
        submitted, nonce=signed.nonce, hash=signed.hash, raw=signed.raw, noop=noop, error=error
    )
