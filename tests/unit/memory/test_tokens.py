"""Goal: nobody moves more than there is, or what is not theirs; each token of a non-fungible pool is one.

Method: calls of two members' instances, without a wire; what is refused must leave the ledger as it is.
"""

from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest
from photinus.connector.v1 import tokens_pb2 as pb
from photinus_memory import MemoryConnector, World
from photinus_memory.member import key_of
from photinus_sdk import CallContext, NotFound, Rejected, Reverted, StreamKey

from tests.unit.memory.conftest import Made

STREAM = StreamKey("cluster", "ns", "core")
ALICE, BOB = key_of("alice"), key_of("bob")


@dataclass
class Pool:
    """A pool, and calls to it under keys of their own."""

    world: World
    alice: MemoryConnector
    bob: MemoryConnector
    locator: str
    numbers: Any

    def call(self) -> CallContext:
        return CallContext("i", "Method", STREAM, f"k{next(self.numbers)}")

    def action(self, signer: str, amount: str, index: str = "") -> pb.TokenAction:
        return pb.TokenAction(
            pool_locator=self.locator, signing_key=signer, amount=amount, token_index=index
        )

    async def mint(self, to: str, amount: str, index: str = "") -> str:
        request = pb.MintRequest(action=self.action(ALICE, amount, index), to=to)
        return (await self.alice.mint(request, self.call())).external_id

    async def transfer(
        self, signer: str, holder: str, to: str, amount: str, index: str = ""
    ) -> None:
        ends: dict[str, Any] = {"from": holder, "to": to}
        request = pb.TransferRequest(action=self.action(signer, amount, index), **ends)
        own = self.alice if signer == ALICE else self.bob
        await own.transfer(request, self.call())

    async def burn(self, amount: str, index: str = "") -> None:
        request = pb.BurnRequest(action=self.action(ALICE, amount, index))
        await self.alice.burn(request, self.call())

    async def approve(self, *, approved: bool) -> None:
        request = pb.ApproveRequest(
            pool_locator=self.locator, signing_key=ALICE, operator=BOB, approved=approved
        )
        await self.alice.approve(request, self.call())

    @property
    def balances(self) -> tuple[int, int]:
        found = self.world.pools[self.locator].balances
        return found[ALICE], found[BOB]


async def made(world: World, member: Made, kind: str) -> Pool:
    alice, bob = await member("alice"), await member("bob")
    call = CallContext("i", "CreatePool", STREAM, "pool")
    request = pb.CreatePoolRequest(type=kind, signing_key=ALICE, name="p", symbol="P")
    await alice.create_pool(request, call)
    (locator,) = world.pools
    return Pool(world, alice, bob, locator, count())


@pytest.fixture
async def coins(world: World, member: Made) -> Pool:
    return await made(world, member, "fungible")


@pytest.fixture
async def cards(world: World, member: Made) -> Pool:
    return await made(world, member, "nonfungible")


async def test_balances_follow(coins: Pool) -> None:
    await coins.mint(ALICE, "10")
    await coins.transfer(ALICE, ALICE, BOB, "4")
    await coins.burn("1")
    assert coins.balances == (5, 4)


@pytest.mark.parametrize(
    ("signer", "holder", "amount"), [(ALICE, ALICE, "11"), (BOB, ALICE, "1"), (BOB, BOB, "1")]
)
async def test_what_is_not_there_or_not_theirs_stays(
    coins: Pool, signer: str, holder: str, amount: str
) -> None:
    await coins.mint(ALICE, "10")
    head = coins.world.head
    with pytest.raises(Reverted):
        await coins.transfer(signer, holder, BOB, amount)
    with pytest.raises(Reverted):
        await coins.burn("11")
    assert (coins.balances, coins.world.head) == ((10, 0), head)


async def test_who_is_approved_moves_until_it_is_taken_back(coins: Pool) -> None:
    await coins.mint(ALICE, "10")
    await coins.approve(approved=True)
    await coins.transfer(BOB, ALICE, BOB, "3")
    await coins.approve(approved=False)
    with pytest.raises(Reverted):
        await coins.transfer(BOB, ALICE, BOB, "3")
    assert coins.balances == (7, 3)


async def test_a_repeated_call_is_one_transaction(coins: Pool) -> None:
    call = coins.call()
    request = pb.BurnRequest(action=coins.action(ALICE, "5"))
    await coins.mint(ALICE, "5")
    first = await coins.alice.burn(request, call)
    assert (await coins.alice.burn(request, call)).external_id == first.external_id
    assert coins.balances == (0, 0)


async def test_each_token_is_one(cards: Pool) -> None:
    await cards.mint(ALICE, "1")
    await cards.mint(ALICE, "1", "9")
    await cards.transfer(ALICE, ALICE, BOB, "1", "9")
    pool = cards.world.pools[cards.locator]
    assert pool.owners == {"1": ALICE, "9": BOB}
    for again in (
        cards.mint(ALICE, "1", "9"),
        cards.transfer(ALICE, ALICE, BOB, "1", "9"),
        cards.burn("1", "9"),
    ):
        with pytest.raises(Reverted):
            await again
    await cards.burn("1", "1")
    assert pool.owners == {"9": BOB}
    assert cards.balances == (0, 1)


async def test_amounts_and_indexes_fit_the_kind(coins: Pool) -> None:
    with pytest.raises(Rejected):
        await coins.mint(ALICE, "1", "7")
    with pytest.raises(Rejected):
        await coins.mint("bob", "1")
    request = pb.CreatePoolRequest(type="other", signing_key=ALICE)
    with pytest.raises(Rejected):
        await coins.alice.create_pool(request, coins.call())
    with pytest.raises(NotFound):
        await coins.alice.mint(
            pb.MintRequest(action=coins.action(BOB, "1"), to=ALICE), coins.call()
        )


async def test_of_a_card_there_is_one(cards: Pool) -> None:
    with pytest.raises(Rejected):
        await cards.mint(ALICE, "2")


async def test_methods_are_picked_by_their_names(coins: Pool) -> None:
    request = pb.CheckInterfaceRequest(
        pool_locator=coins.locator,
        format="ffi",
        methods_json='[{"name":"mintWithData"},{"name":"approve"},{"name":"other"},1]',
    )
    answer = await coins.alice.check_interface(request, coins.call())
    assert '"mint": {"format": "ffi", "methods": [{"name": "mintWithData"}]}' in answer.methods_json
    assert '"approval": {"format": "ffi", "methods": [{"name": "approve"}]}' in answer.methods_json
    assert '"burn": {"format": "ffi", "methods": []}' in answer.methods_json
