"""How much gas a transaction may use: always the node's estimate, never a constant.

What storage costs differs between chains and forks by factors, so only the node knows. Estimates of pins are
kept by shape: equal lengths cost the same but for some bytes, which the factor covers.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from photinus_sdk.errors import (
    NOT_SENT,
    ConnectorError,
    InsufficientFunds,
    Rejected,
    Reverted,
    Unavailable,
)

from photinus_ethereum import reverts
from photinus_ethereum.abi_types import AbiError
from photinus_ethereum.hexes import Address, hexed, number, quantity
from photinus_ethereum.node_errors import Refusal, classify, revert_data, revert_words
from photinus_ethereum.rpc import Json, NodeUnavailableError, Rpc, RpcError
from photinus_ethereum.transactions import Fees, Payload

SHAPES_MAX = 4_096
TRANSACTION_GAS_MAX = 1 << 24
"""EIP-7825: no transaction may ask for more, whatever the block holds."""

Shape = tuple[object, ...]
"""What two pins must have in common to cost the same: contract, version, lengths."""


@dataclass(frozen=True, slots=True)
class GasSettings:
    """How estimates become limits."""

    factor: float = 1.5
    cache_s: float = 300.0
    block: str = "pending"


def call_object(sender: Address, payload: Payload, fees: Fees | None = None) -> dict[str, Json]:
    """A transaction as eth_call and eth_estimateGas take it. With fees the node checks the balance too."""
    call: dict[str, Json] = {"from": sender, "data": hexed(payload.data)}
    if payload.to:
        call["to"] = hexed(payload.to)
    if payload.value:
        call["value"] = quantity(payload.value)
    if fees is not None and fees.max_fee:
        if fees.tip is None:
            call["gasPrice"] = quantity(fees.max_fee)
        else:
            call["maxFeePerGas"] = quantity(fees.max_fee)
            call["maxPriorityFeePerGas"] = quantity(fees.tip)
    return call


class GasOracle:
    """Gas limits for one chain."""

    def __init__(self, rpc: Rpc, settings: GasSettings) -> None:
        self._rpc = rpc
        self._settings = settings
        self._shapes: dict[Shape, tuple[int, float]] = {}

    def known(self, shape: Shape) -> int | None:
        """The limit of an earlier pin of this shape, while it is fresh."""
        found = self._shapes.get(shape)
        if found is None or asyncio.get_running_loop().time() > found[1]:
            return None
        return found[0]

    def keep(self, shape: Shape, limit: int) -> None:
        """Remembers a limit for a shape."""
        if len(self._shapes) >= SHAPES_MAX:
            self._shapes.clear()
        expires = asyncio.get_running_loop().time() + self._settings.cache_s
        self._shapes[shape] = (limit, expires)

    def forget(self) -> None:
        """All shapes are estimated anew: one was wrong."""
        self._shapes.clear()

    async def limit(
        self, sender: Address, payload: Payload, fees: Fees, errors: Sequence[AbiError] = ()
    ) -> int:
        """The estimate times the factor. Raises what the estimate tells: Reverted, InsufficientFunds, …."""
        try:
            estimate, block = await self._ask(sender, payload, fees)
        except RpcError as error:
            raise refused(error, errors) from error
        allowed = TRANSACTION_GAS_MAX
        if isinstance(block, dict) and isinstance(block.get("gasLimit"), str):
            allowed = min(allowed, number(block["gasLimit"]))
        return max(estimate, min(int(estimate * self._settings.factor), allowed))

    async def _ask(self, sender: Address, payload: Payload, fees: Fees) -> tuple[int, Json]:
        call = call_object(sender, payload, fees)
        answers = await self._rpc.call_many(
            [
                ("eth_estimateGas", [call, self._settings.block]),
                ("eth_getBlockByNumber", ["latest", False]),
            ]
        )
        for answer in answers:
            if isinstance(answer, NodeUnavailableError):
                raise Unavailable(str(answer)) from answer
        if isinstance(answers[0], RpcError):
            raise answers[0]
        return number(answers[0]), answers[1]


def refused(error: RpcError, errors: Sequence[AbiError]) -> ConnectorError:
    """The protocol's error for a node's refusal to estimate or to call. Nothing was sent."""
    match classify(error):
        case Refusal.REVERTED:
            reason = reverts.describe(revert_data(error), errors, revert_words(error))
            return Reverted(f"FF23021: EVM reverted: {reason}", revert=reason)
        case Refusal.INSUFFICIENT_FUNDS:
            return InsufficientFunds(f"the signer cannot pay for the transaction: {error.message}")
        case Refusal.INVALID:
            return Rejected(f"the node refuses the transaction: {error.message}")
        case Refusal.BUSY:
            return Unavailable(f"the node is busy: {error.message}")
        case _:
            return ConnectorError(
                f"the node refuses: {error.message}", reason="NODE_REFUSED", disposition=NOT_SENT
            )
