"""What to offer for gas: quotes from the chain, cached, and how to raise an offer that is not taken."""

import asyncio
import logging
from dataclasses import dataclass
from typing import Literal

from photinus_sdk.errors import Unavailable
from photinus_sdk.tasks import Background

from photinus_ethereum.hexes import number
from photinus_ethereum.rpc import NodeUnavailableError, Rpc, RpcError
from photinus_ethereum.transactions import Fees

logger = logging.getLogger(__name__)

Mode = Literal["auto", "eip1559", "legacy"]

DEFAULT_TIP_WEI = 1_000_000_000
BASE_FEE_HEADROOM = 2
"""The base fee can double in six full blocks; an offer must outlive that."""

REPLACE_PERCENT = 12
"""Nodes ask for at least 10 % more on both fees of a replacement."""


@dataclass(frozen=True, slots=True)
class FeeSettings:
    """How fees are found. Amounts in wei; None asks the node."""

    mode: Mode = "auto"
    tip: int | None = None
    gas_price: int | None = None
    max_fee: int | None = None
    cache_s: float = 10.0


def raised(fees: Fees, quote: Fees, cap: int | None) -> Fees | None:
    """An offer that replaces `fees`: REPLACE_PERCENT more, or the quote when that is higher.

    None when the cap leaves no room for a replacement a node would take.
    """
    max_fee = max(_more(fees.max_fee), quote.max_fee)
    tip = None if fees.tip is None else max(_more(fees.tip), quote.tip or 0)
    if cap is not None and max_fee > cap:
        max_fee = cap
        if max_fee < _least(fees.max_fee):
            return None
    if tip is not None and tip > max_fee:
        tip = max_fee
        if fees.tip is not None and tip < _least(fees.tip):
            return None
    return Fees(max_fee, tip)


def _more(wei: int) -> int:
    return max(wei + 1, -(-wei * (100 + REPLACE_PERCENT) // 100))


def _least(wei: int) -> int:
    return -(-wei * 110 // 100)


class FeeOracle:
    """Quotes for one chain. One request serves all who wait; a quote is reused for `cache_s`."""

    def __init__(self, rpc: Rpc, settings: FeeSettings) -> None:
        self._rpc = rpc
        self._settings = settings
        self._quote: Fees | None = None
        self._expires = 0.0
        self._refresh: asyncio.Future[Fees] | None = None
        self._tasks = Background()

    async def aclose(self) -> None:
        await self._tasks.aclose()

    async def quote(self) -> Fees:
        """The current offer. Unavailable when the node is away and nothing is cached."""
        settings = self._settings
        if settings.gas_price is not None:
            return Fees(settings.gas_price, None)
        now = asyncio.get_running_loop().time()
        if self._quote is not None and now < self._expires:
            return self._quote
        if self._refresh is None:
            self._refresh = self._tasks.start(self._ask(), "fee quote")
            self._refresh.add_done_callback(self._refreshed)
        return await asyncio.shield(self._refresh)

    def invalidate(self) -> None:
        """The next quote asks the node: an offer was called too low."""
        self._expires = 0.0

    def _refreshed(self, future: asyncio.Future[Fees]) -> None:
        self._refresh = None
        if not future.cancelled() and future.exception() is None:
            self._quote = future.result()
            self._expires = asyncio.get_running_loop().time() + self._settings.cache_s

    async def _ask(self) -> Fees:
        block, tip, price = await self._rpc.call_many(
            [
                ("eth_getBlockByNumber", ["latest", False]),
                ("eth_maxPriorityFeePerGas", []),
                ("eth_gasPrice", []),
            ]
        )
        if isinstance(block, NodeUnavailableError):
            raise Unavailable(str(block))
        if isinstance(block, RpcError) or not isinstance(block, dict):
            raise Unavailable(f"the node has no latest block: {block}")
        base = block.get("baseFeePerGas")
        if self._settings.mode == "legacy" or (self._settings.mode == "auto" and base is None):
            return self._capped(Fees(_price(price), None))
        return self._capped(self._dynamic(number(base or "0x0"), tip))

    def _dynamic(self, base: int, tip: object) -> Fees:
        offered = self._settings.tip
        if offered is None:
            offered = number(tip) if isinstance(tip, str) else DEFAULT_TIP_WEI
        return Fees(base * BASE_FEE_HEADROOM + offered, offered)

    def _capped(self, fees: Fees) -> Fees:
        cap = self._settings.max_fee
        if cap is None or fees.max_fee <= cap:
            return fees
        return Fees(cap, None if fees.tip is None else min(fees.tip, cap))


def _price(answer: object) -> int:
    if isinstance(answer, str):
        return number(answer)
    raise Unavailable(f"the node gives no gas price: {answer}")
