"""A small Ethereum node in memory, for tests that need to stop the world at a certain point.

It keeps what the connector relies on: nonces in order, one transaction per nonce, replacement only for 10 %
more, a pool that can lose transactions, receipts, blocks with parent hashes, reorganisations, logs. It runs no
code. `down` and `refuse` make it bad on purpose.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from eth_account import Account
from eth_hash.auto import keccak
from photinus_ethereum.hexes import hexed
from photinus_ethereum.rpc import Call, NodeUnavailableError, Outcome, RpcError
from photinus_ethereum.transactions import parse

CHAIN_ID = 4711
BASE_FEE = 10**9


@dataclass
class Pooled:
    raw: bytes
    hash: str
    sender: str
    nonce: int
    max_fee: int
    tip: int


@dataclass
class Block:
    number: int
    hash: str
    parent: str
    transactions: list[Pooled] = field(default_factory=list)
    logs: list[dict[str, Any]] = field(default_factory=list)

    def json(self) -> dict[str, Any]:
        return {
            "number": hex(self.number),
            "hash": self.hash,
            "parentHash": self.parent,
            "timestamp": hex(1_700_000_000 + self.number),
            "baseFeePerGas": hex(BASE_FEE),
            "gasLimit": hex(30_000_000),
            "transactions": [each.hash for each in self.transactions],
        }


class EvmNode:
    """A `photinus_ethereum.rpc.Rpc` that is a node."""

    def __init__(self) -> None:
        self.blocks = [Block(0, _hash("genesis"), "0x" + "00" * 32)]
        self.pool: dict[tuple[str, int], Pooled] = {}
        self.down = False
        self.automine = False
        self.forks = 0
        self.gas_price = BASE_FEE
        self.refuse: Callable[[str, Sequence[Any]], RpcError | None] = lambda _m, _p: None
        self.calls: list[str] = []

    # What a connector sees.

    async def call(self, method: str, *params: Any) -> Any:
        (outcome,) = await self.call_many([(method, list(params))])
        if isinstance(outcome, RpcError | NodeUnavailableError):
            raise outcome
        return outcome

    async def call_many(self, calls: Sequence[Call]) -> list[Outcome]:
        return [self._one(method, params) for method, params in calls]

    def _one(self, method: str, params: Sequence[Any]) -> Outcome:
        if self.down:
            return NodeUnavailableError("down", sent=False)
        self.calls.append(method)
        return self.refuse(method, params) or getattr(self, method)(*params)

    def web3_clientVersion(self) -> str:
        return "memory/1"

    def eth_chainId(self) -> str:
        return hex(CHAIN_ID)

    def eth_blockNumber(self) -> str:
        return hex(len(self.blocks) - 1)

    def eth_gasPrice(self) -> str:
        return hex(self.gas_price)

    def eth_maxPriorityFeePerGas(self) -> str:
        return hex(self.gas_price)

    def eth_estimateGas(self, _call: Any, _block: str = "latest") -> str:
        return hex(50_000)

    def eth_call(self, _call: Any, _block: str = "latest") -> Any:
        return RpcError(3, "execution reverted: as told")

    def eth_getBlockByNumber(self, tag: str, _full: bool) -> Any:
        number = len(self.blocks) - 1 if tag == "latest" else int(tag, 16)
        return self.blocks[number].json() if number < len(self.blocks) else None

    def eth_getTransactionCount(self, address: str, tag: str) -> str:
        count = self.mined_nonces(address)
        while tag == "pending" and (address, count) in self.pool:
            count += 1
        return hex(count)

    def eth_getTransactionByHash(self, tx_hash: str) -> Any:
        pooled = [each for each in self.pool.values() if each.hash == tx_hash]
        found = pooled or [
            tx for block in self.blocks for tx in block.transactions if tx.hash == tx_hash
        ]
        return {"hash": tx_hash, "from": found[0].sender} if found else None

    def eth_getTransactionReceipt(self, tx_hash: str) -> Any:
        for block in self.blocks:
            for index, each in enumerate(block.transactions):
                if each.hash == tx_hash:
                    return {
                        "transactionHash": tx_hash,
                        "blockNumber": hex(block.number),
                        "blockHash": block.hash,
                        "transactionIndex": hex(index),
                        "status": "0x1",
                        "contractAddress": None,
                    }
        return None

    def eth_sendRawTransaction(self, text: str) -> Any:
        raw = bytes.fromhex(text[2:])
        pooled = _pooled(raw)
        place = (pooled.sender, pooled.nonce)
        if pooled.nonce < self.mined_nonces(pooled.sender):
            return RpcError(-32000, "nonce too low")
        former = self.pool.get(place)
        if former is not None and former.hash == pooled.hash:
            return RpcError(-32000, "already known")
        if former is not None and (
            pooled.max_fee * 10 < former.max_fee * 11 or pooled.tip * 10 < former.tip * 11
        ):
            return RpcError(-32000, "replacement transaction underpriced")
        self.pool[place] = pooled
        if self.automine:
            self.mine()
        return pooled.hash

    def eth_getLogs(self, query: dict[str, Any]) -> Any:
        first, last = int(query["fromBlock"], 16), int(query["toBlock"], 16)
        return [
            log
            for block in self.blocks[first : last + 1]
            for log in block.logs
            if log["topics"][0] in query["topics"][0]
            and ("address" not in query or log["address"] in query["address"])
        ]

    # What a test does to it.

    def mined_nonces(self, address: str) -> int:
        """How many transactions of an account are on the chain."""
        return sum(tx.sender == address for block in self.blocks for tx in block.transactions)

    def mine(self, count: int = 1, *, limit: int | None = None) -> None:
        """Adds blocks; the first takes what is executable."""
        for _ in range(count):
            parent = self.blocks[-1]
            block = Block(parent.number + 1, _hash(f"{parent.hash}{self.forks}"), parent.hash)
            self.blocks.append(block)
            for place in sorted(self.pool):
                if limit is not None and len(block.transactions) >= limit:
                    break
                if place[1] == self.mined_nonces(place[0]):
                    block.transactions.append(self.pool.pop(place))

    def add_log(self, address: str, topics: list[str], data: bytes) -> None:
        """Puts a log into a new block."""
        self.mine()
        block = self.blocks[-1]
        block.logs.append(
            {
                "address": address,
                "topics": topics,
                "data": hexed(data),
                "blockNumber": hex(block.number),
                "blockHash": block.hash,
                "transactionHash": _hash(f"tx{block.hash}{len(block.logs)}"),
                "transactionIndex": hex(len(block.logs)),
                "logIndex": hex(len(block.logs)),
            }
        )

    def reorganise(self, depth: int, blocks: int | None = None) -> None:
        """Replaces the last blocks by empty ones; their transactions are lost."""
        del self.blocks[-depth:]
        self.forks += 1
        self.mine_empty(depth if blocks is None else blocks)

    def mine_empty(self, count: int) -> None:
        """Adds blocks without transactions."""
        kept, self.pool = self.pool, {}
        self.mine(count)
        self.pool = kept

    def on_chain(self) -> list[Pooled]:
        """All mined transactions in order."""
        return [tx for block in self.blocks for tx in block.transactions]


def _hash(text: str) -> str:
    return "0x" + hashlib.sha256(text.encode()).hexdigest()


def _pooled(raw: bytes) -> Pooled:
    # The sender is recovered by other code than the connector's own, so that bad signatures show.
    sender = Account.recover_transaction(raw).lower()
    ours = parse(raw)
    tip = ours.fees.max_fee if ours.fees.tip is None else ours.fees.tip
    return Pooled(raw, hexed(keccak(raw)), sender, ours.nonce, ours.fees.max_fee, tip)
