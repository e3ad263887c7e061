"""From a transaction in a block to the end of its operation: receipts, confirmations, reorganisations.

A nonce is settled when its block is `confirmations` deep. When a deeper reorganisation drops a settled
transaction, it is sent again, byte for byte, although its end has been told; otherwise the signer's later
nonces would wait for ever.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence

import orjson

from photinus_ethereum import reverts
from photinus_ethereum.abi_types import error_from_ffi
from photinus_ethereum.blocks import ChainView, Followed
from photinus_ethereum.gas import call_object
from photinus_ethereum.hexes import BlockHash, TxHash, number, parse_address, quantity
from photinus_ethereum.interfaces import location_json
from photinus_ethereum.journal import FAILED, SUCCEEDED, Entry, Journal, Outcome
from photinus_ethereum.node_errors import revert_data, revert_words
from photinus_ethereum.pool import Mined, Pool, Transaction, from_entry
from photinus_ethereum.rpc import Json, NodeUnavailableError, Rpc, RpcError
from photinus_ethereum.sender import Sender
from photinus_ethereum.transactions import parse

logger = logging.getLogger(__name__)

RETRY_S = 0.5
RECEIPTS_MAX = 1_000
"""Receipts asked for at once: a client refuses more calls than it lets wait, however often it is asked."""
DEPLOY_METHOD = "DeployContract"


class Settlement:
    """Watches the chain for the pool's transactions. One task runs `run`."""

    def __init__(
        self, rpc: Rpc, chain: ChainView, journal: Journal, pool: Pool, sender: Sender
    ) -> None:
        self._rpc = rpc
        self._chain = chain
        self._journal = journal
        self._pool = pool
        self._sender = sender
        self.confirmations = 0
        self.history_blocks = 64
        self._hits: list[TxHash] = []
        self._forked_at: int | None = None
        self._look_at_all = False
        self._wake = asyncio.Event()
        self._mined: dict[int, Transaction] = {}
        chain.watch(self._followed)

    def recover(self) -> None:
        """Takes up what the journal has under way, and what is settled too freshly to be forgotten."""
        for entry in self._journal.unsettled():
            self._pool.add(from_entry(entry))
        self._look_at_all = True
        self._wake.set()

    async def look_up_now(self, hashes: Sequence[TxHash]) -> None:
        """As `look_up`, and settles what it found soon."""
        await self.look_up(hashes)
        self._wake.set()

    def look_at_all(self) -> None:
        """Asks for the receipts of everything under way, not only of what new blocks hold."""
        self._look_at_all = True
        self._wake.set()

    async def run(self) -> None:
        """Works for ever on what the chain view brings."""
        await self._check_recent()
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._work()
            except (NodeUnavailableError, RpcError) as error:
                logger.info("receipts will be read again: %s", error)
                await self._again()
            except Exception:
                # A receipt that is none, a full disk: everything needed to go on is in journal and pool.
                logger.exception("settling failed and will be tried again")
                await self._again()

    async def _again(self) -> None:
        self._look_at_all = True
        await asyncio.sleep(RETRY_S)
        self._wake.set()

    def _followed(self, followed: Followed) -> None:
        if followed.forked_at is not None:
            known = self._forked_at
            self._forked_at = (
                followed.forked_at if known is None else min(known, followed.forked_at)
            )
        if followed.skipped:
            self._look_at_all = True
        by_hash = self._pool.by_hash
        self._hits += [
            tx_hash
            for block in followed.blocks
            for tx_hash in block.transactions
            if tx_hash in by_hash
        ]
        if self._hits or self._mined or self._look_at_all or self._forked_at is not None:
            self._wake.set()

    async def _work(self) -> None:
        if self._forked_at is not None:
            forked_at, self._forked_at = self._forked_at, None
            await self._forked(forked_at)
        hits, self._hits = self._hits, []
        if self._look_at_all:
            self._look_at_all = False
            resend = [each for each in self._unmined() if not each.queued]
            hits = [tx_hash for each in self._unmined() for tx_hash in each.hashes]
            await self.look_up(hits)
            for transaction in resend:
                # Sent before, perhaps: a node that has it says so, and one that lost it takes it again.
                self._sender.queue(self._pool.lane(transaction.submitted.signer), transaction)
        else:
            await self.look_up(hits)
        await self._settle()

    def _unmined(self) -> list[Transaction]:
        return [
            transaction
            for lane in self._pool.lanes.values()
            for transaction in lane.open.values()
            if transaction.mined is None
        ]

    async def look_up(self, hashes: Sequence[TxHash]) -> None:
        """Asks for receipts and takes note of those that are there."""
        for start in range(0, len(hashes), RECEIPTS_MAX):
            await self._look_up(hashes[start : start + RECEIPTS_MAX])

    async def _look_up(self, hashes: Sequence[TxHash]) -> None:
        answers = await self._rpc.call_many([("eth_getTransactionReceipt", [h]) for h in hashes])
        for tx_hash, answer in zip(hashes, answers, strict=True):
            if isinstance(answer, NodeUnavailableError):
                raise answer
            transaction = self._pool.by_hash.get(tx_hash)
            if transaction is None or isinstance(answer, RpcError) or answer is None:
                continue
            mined = _mined(tx_hash, answer)
            header = self._chain.header(mined.block)
            if header is not None and header.hash != mined.block_hash:
                # From another branch than the one followed; the view is about to change.
                self._chain.notify()
                continue
            transaction.mined = mined
            transaction.suspect = False
            self._mined[transaction.id] = transaction
            self._pool.lane(transaction.submitted.signer).unqueue(transaction)

    async def _settle(self) -> None:
        tip = self._chain.tip
        if tip is None or not self._mined:
            return
        ready = [
            (transaction.mined, transaction)
            for transaction in self._mined.values()
            if transaction.mined is not None
            and transaction.mined.block + self.confirmations <= tip.number
        ]
        if not ready:
            return
        outcomes = [await self._outcome(mined, transaction) for mined, transaction in ready]
        await self._journal.finish(outcomes)
        for _, transaction in ready:
            del self._mined[transaction.id]
            transaction.told = True
            self._pool.drop(transaction)

    async def _outcome(self, mined: Mined, transaction: Transaction) -> Outcome:
        submitted = transaction.submitted
        if transaction.told:
            state, error = None, ""
            if not mined.succeeded:
                logger.error("%s, told as done, reverted when it was mined again", mined.hash)
        elif transaction.hashes.get(mined.hash):
            state, error = (
                FAILED,
                submitted.error or "given up: an empty transaction used its nonce",
            )
        elif mined.succeeded:
            state, error = SUCCEEDED, ""
        else:
            state, error = FAILED, await self._revert_reason(mined, transaction)
        output = _output_json(submitted.method, submitted.key, mined, failed=state == FAILED)
        return Outcome(
            transaction.id, state, mined.hash, mined.block, mined.block_hash, output, error
        )

    async def _revert_reason(self, mined: Mined, transaction: Transaction) -> str:
        """A receipt gives no reason; the same call on the block's state usually does."""
        submitted = transaction.submitted
        payload = parse(submitted.raw).payload
        call = {**call_object(submitted.signer, payload), "gas": quantity(payload.gas)}
        words, data = "transaction reverted", b""
        try:
            await self._rpc.call("eth_call", call, quantity(mined.block))
        except RpcError as error:
            words, data = revert_words(error), revert_data(error)
        except NodeUnavailableError as error:
            logger.info("no revert reason for %s: %s", mined.hash, error)
        given = orjson.loads(submitted.errors_json) if submitted.errors_json else []
        errors = [error_from_ffi(each) for each in given]
        return f"FF23021: EVM reverted: {reverts.describe(data, errors, words)}"

    # Reorganisations.

    async def _forked(self, forked_at: int) -> None:
        """Everything mined above a block is open again, and sent again: the chain may have dropped it."""
        lost = [
            each for each in self._mined.values() if each.mined and each.mined.block > forked_at
        ]
        for transaction in lost:
            del self._mined[transaction.id]
            transaction.mined = None
            self._sender.queue(self._pool.lane(transaction.submitted.signer), transaction)
        await self.reopen(self._journal.mined_from(forked_at + 1))
        self._look_at_all = True
        self._sender.on_suspect()

    async def _check_recent(self) -> None:
        """After a start: what was settled lately must still be where it was."""
        while self._chain.tip is None:
            await self._chain.wait_change()
        tip = self._chain.tip
        entries = self._journal.mined_from(tip.number - self.history_blocks)
        await self.reopen(entry for entry in entries if not self.is_canonical(entry, tip.number))

    def is_canonical(self, entry: Entry, tip: int) -> bool:
        """False when a settled transaction is certainly not where it was mined."""
        if entry.block is None or entry.block > tip:
            return False
        header = self._chain.header(entry.block)
        return header is None or header.hash == entry.block_hash

    async def reopen(self, entries: Iterable[Entry]) -> None:
        """Sends settled transactions again: the chain no longer has them."""
        gone = list(entries)
        if gone:
            logger.warning(
                "%d settled transactions are gone from the chain; sending again", len(gone)
            )
            await self._journal.unsettle(entry.id for entry in gone)
        for entry in gone:
            transaction = from_entry(entry)
            self._sender.queue(self._pool.add(transaction), transaction)


def _mined(tx_hash: TxHash, receipt: Json) -> Mined:
    contract = receipt.get("contractAddress")
    # Chains from before Byzantium have no status.
    status = receipt.get("status")
    return Mined(
        tx_hash,
        number(receipt["blockNumber"]),
        BlockHash(receipt["blockHash"]),
        number(receipt["transactionIndex"]),
        succeeded=status is None or number(status) == 1,
        contract=parse_address(contract) if isinstance(contract, str) else None,
    )


def _output_json(method: str, key: str, mined: Mined, *, failed: bool) -> str:
    """The end of a transaction as FireFly's connector reports it."""
    output: dict[str, object] = {}
    if method == DEPLOY_METHOD and mined.contract is not None and not failed:
        output["contractLocation"] = orjson.Fragment(location_json(mined.contract))
    output["headers"] = {
        "requestId": key,
        "type": "TransactionFailed" if failed else "TransactionSuccess",
    }
    output["protocolId"] = f"{mined.block:012d}/{mined.index:06d}"
    output["transactionHash"] = mined.hash
    return orjson.dumps(output).decode()
