"""The parts of one instance put together: one chain, one journal, the keys of one member."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass

from photinus_sdk.errors import Refused, Unavailable

from photinus_ethereum.blocks import ChainView, FollowSettings
from photinus_ethereum.fees import FeeOracle, FeeSettings
from photinus_ethereum.gas import GasOracle, GasSettings
from photinus_ethereum.heads import HeadNotices
from photinus_ethereum.hexes import TxHash, number
from photinus_ethereum.journal import Journal
from photinus_ethereum.keys import KeyRing
from photinus_ethereum.log_events import Filter
from photinus_ethereum.log_reader import LogReader, ReadSettings
from photinus_ethereum.pool import Pool
from photinus_ethereum.rpc import NodeUnavailableError, Rpc
from photinus_ethereum.sender import Node, Request, Sender, SendSettings
from photinus_ethereum.settings import EthereumSettings
from photinus_ethereum.settlement import Settlement
from photinus_ethereum.upkeep import Upkeep, UpkeepSettings

logger = logging.getLogger(__name__)

CHAIN_ID = "chain_id"
GENESIS = "genesis"


@dataclass(frozen=True, slots=True)
class Identity:
    """Which chain a node serves."""

    chain_id: int
    genesis: str


async def identify(rpc: Rpc) -> Identity:
    """Asks the node for its chain. Raises NodeUnavailableError when it is away or cannot say yet."""
    answers = await rpc.call_many([("eth_chainId", []), ("eth_getBlockByNumber", ["0x0", False])])
    for answer in answers:
        if isinstance(answer, NodeUnavailableError):
            raise answer
    chain_id, genesis = answers
    if isinstance(chain_id, str) and isinstance(genesis, dict):
        with contextlib.suppress(KeyError, ValueError):
            return Identity(number(chain_id), str(genesis["hash"]))
    raise NodeUnavailableError("the node gives no chain id or no first block", sent=True)


async def check_chain(journal: Journal, found: Identity, wanted: int | None) -> None:
    """Refuses a node of another chain than configured, or than the journal was written for.

    Nonces and transactions of one chain must never reach another.
    """
    if wanted is not None and found.chain_id != wanted:
        raise Refused(
            f"the node serves chain {found.chain_id}, the configuration says {wanted}",
            reason="WRONG_CHAIN",
        )
    for name, value in ((CHAIN_ID, str(found.chain_id)), (GENESIS, found.genesis)):
        known = journal.meta(name)
        if known is None:
            await journal.remember(name, value)
        elif known != value:
            raise Refused(
                f"the journal belongs to a chain with {name} {known}, the node's has {value}; "
                "connect the former chain, or begin with an empty data directory",
                reason="WRONG_CHAIN",
            )


class Engine:
    """Submits, follows and reads one chain. `run` must be running for any of it to come to an end."""

    def __init__(
        self,
        rpc: Rpc,
        identity: Identity,
        settings: EthereumSettings,
        journal: Journal,
        keys: KeyRing,
    ) -> None:
        self.rpc = rpc
        self.chain_id = identity.chain_id
        fees = settings.fees
        self.chain = ChainView(rpc, FollowSettings(poll_s=settings.rpc.poll_s))
        self.fees = FeeOracle(
            rpc,
            FeeSettings(fees.mode, fees.tip_wei, fees.gas_price_wei, fees.max_fee_wei),
        )
        self.gas = GasOracle(rpc, GasSettings(settings.gas.factor, block=settings.gas.estimate_on))
        self.pool = Pool(keys.signers.values())
        node = Node(rpc, identity.chain_id, self.fees, self.gas)
        self.sender = Sender(
            node, journal, self.pool, SendSettings(settings.in_flight_max, fees.max_fee_wei)
        )
        self.settlement = Settlement(rpc, self.chain, journal, self.pool, self.sender)
        self.settlement.confirmations = settings.depth
        self.settlement.history_blocks = settings.events.history_blocks
        self.upkeep = Upkeep(
            rpc,
            self.chain,
            self.fees,
            (journal, self.pool, self.sender, self.settlement),
            UpkeepSettings(replace_s=fees.replace_after_s, confirmations=settings.depth),
        )
        self._heads = HeadNotices(settings.rpc.ws_url, self.chain.notify)
        self._read = ReadSettings(
            confirmations=settings.depth,
            page_blocks=settings.events.page_blocks,
            history_blocks=settings.events.history_blocks,
        )
        self.on_availability: Callable[[bool, str], None] = lambda _available, _reason: None
        self.chain.on_availability = self._availability

    async def run(self) -> None:
        """Takes up what the journal has, and works for ever."""
        self.settlement.recover()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(
                    self.chain.follow(lambda: self._heads.subscribed), name="follow chain"
                )
                group.create_task(self._heads.run(), name="head notices")
                group.create_task(self.settlement.run(), name="settlement")
                group.create_task(self.upkeep.run(), name="upkeep")
        finally:
            await self.sender.aclose()
            await self.fees.aclose()

    async def submit(self, request: Request) -> TxHash:
        """As `Sender.submit`; Unavailable while the node is away."""
        if not self.chain.available:
            raise Unavailable(f"the node is away: {self.chain.reason}")
        return await self.sender.submit(request)

    def reader(self, chain_filter: Filter, listener_id: str) -> LogReader:
        """A reader for one listener."""
        about = (listener_id, self.chain_id)
        return LogReader(self.rpc, self.chain, self._read, chain_filter, about)

    def _availability(self) -> None:
        if self.chain.available:
            # A node that was away may have lost what it was sent.
            self.settlement.look_at_all()
        self.on_availability(self.chain.available, self.chain.reason)
