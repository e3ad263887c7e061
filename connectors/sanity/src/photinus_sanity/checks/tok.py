"""TOK: pools, transfers, approvals."""

from __future__ import annotations

from collections.abc import Callable

from google.protobuf.message import Message
from photinus.connector.v1 import connector_pb2 as connector
from photinus.connector.v1 import event_pb2 as events
from photinus.connector.v1 import tokens_pb2 as tokens

from photinus_sanity import needs
from photinus_sanity.catalogue import Profile, must
from photinus_sanity.probe import INVALID, NOT_FOUND, PRECONDITION, Probe, refused
from photinus_sanity.sources import TokenSource
from photinus_sanity.violations import require

NEEDS = (
    needs.contract(connector.CONTRACT_KIND_TOKENS),
    needs.fixture("tokens.signingKey"),
    needs.fixture("tokens.otherAccount"),
)
RULE = "tokens.proto, event.proto"


async def _source(probe: Probe) -> TokenSource:
    source = TokenSource(probe)
    await source.start()
    return source


@must(
    "TOK-001",
    rule=f"{RULE} CreatePool: a TokenPoolEvent follows",
    fix="Tell the pool with its locator, type and the key of the call.",
    needs=NEEDS,
)
async def pool(probe: Probe) -> None:
    """CreatePool is followed by a TokenPoolEvent with locator, type, standard and symbol."""
    found = await TokenSource(probe).create_pool()
    require(found.pool_locator, "the locator is empty")
    require(found.type == "fungible", f"the type is {found.type!r}")
    require(found.standard, "the standard is empty")
    require(found.symbol == "SAN", f"the symbol is {found.symbol!r}")


@must(
    "TOK-002",
    rule=f"{RULE} ActivatePool: idempotent by pool",
    fix="Activating an active pool is success, told again with the pool's id.",
    needs=NEEDS,
)
async def activated(probe: Probe) -> None:
    """ActivatePool is told with the pool's id, twice for two keys."""
    source = await _source(probe)
    async with probe.stream() as stream:
        await stream.open(probe.submit_ref)
        for _ in range(2):
            key = probe.key("again")
            request = tokens.ActivatePoolRequest(
                context=probe.context(key),
                pool_locator=source.locator,
                pool_id=source.pool_id,
            )
            await probe.wire.call("TokensService.ActivatePool", request)
            found = await stream.collect(_told(key), what="the TokenPoolEvent of ActivatePool")
            event = next(e.token_pool for e in found if e.token_pool.idempotency_key == key)
            require(event.pool_id == source.pool_id, f"it names the pool {event.pool_id!r}")


def _told(key: str) -> Callable[..., bool]:
    return lambda seen: any(e.token_pool.idempotency_key == key for e in seen)


@must(
    "TOK-003",
    rule=f"{RULE} Mint, Transfer, Burn",
    fix="Tell kind, accounts and the amount in the smallest unit, as decimal text.",
    needs=NEEDS,
)
async def transfers(probe: Probe) -> None:
    """Mint, transfer and burn arrive in order, with kind, accounts, amount and unique ids."""
    source = await _source(probe)
    own, other = probe.get("tokens.signingKey"), probe.get("tokens.otherAccount")
    amount = str(10**24)

    calls: list[tuple[str, Message]] = [
        ("Mint", source.mint(probe.context(probe.key()), amount)),
        (
            "Transfer",
            tokens.TransferRequest(
                context=probe.context(probe.key()),
                action=source.action("7"),
                to=other,
                **{"from": own},
            ),
        ),
        (
            "Burn",
            tokens.BurnRequest(
                context=probe.context(probe.key()), action=source.action("3"), **{"from": own}
            ),
        ),
    ]
    async with source.open() as stream:
        for name, request in calls:
            await probe.wire.call(f"TokensService.{name}", request)
        found = await stream.collect(
            lambda seen: sum(e.WhichOneof("body") == "token_transfer" for e in seen) == len(calls)
        )
    moved = [e.token_transfer for e in found if e.WhichOneof("body") == "token_transfer"]
    told = [(each.kind, each.amount) for each in moved]
    wanted = [
        (events.TOKEN_TRANSFER_KIND_MINT, amount),
        (events.TOKEN_TRANSFER_KIND_TRANSFER, "7"),
        (events.TOKEN_TRANSFER_KIND_BURN, "3"),
    ]
    require(told == wanted, f"kinds and amounts are {told}, not {wanted}")
    mint, transfer, burn = moved
    require(not getattr(mint, "from"), "a mint has a sender")
    require(not burn.to, "a burn has a receiver")
    require(transfer.to == other, f"the receiver is {transfer.to!r}")
    require(len({each.protocol_id for each in moved}) == len(moved), "a protocol_id twice")
    locators = {each.pool_locator for each in moved}
    require(locators == {source.locator}, f"the locators are {locators}")


@must(
    "TOK-004",
    rule=f"{RULE} Approve, TokenApprovalEvent",
    fix="Tell who may act, and a subject that the next approval of the same replaces.",
    needs=NEEDS,
)
async def approvals(probe: Probe) -> None:
    """An approval and its withdrawal arrive with one subject."""
    source = await _source(probe)
    other = probe.get("tokens.otherAccount")
    async with source.open() as stream:
        for approved in (True, False):
            request = tokens.ApproveRequest(
                context=probe.context(probe.key()),
                pool_locator=source.locator,
                signing_key=probe.get("tokens.signingKey"),
                operator=other,
                approved=approved,
            )
            await probe.wire.call("TokensService.Approve", request)
        found = await stream.collect(
            lambda seen: sum(e.WhichOneof("body") == "token_approval" for e in seen) == 2
        )
    told = [e.token_approval for e in found if e.WhichOneof("body") == "token_approval"]
    require([each.approved for each in told] == [True, False], "given and taken are confused")
    require({each.operator for each in told} == {other}, "another operator")
    require(told[0].subject and told[0].subject == told[1].subject, "the subjects differ")


@must(
    "TOK-005",
    rule=f"{RULE} TokenAction.amount: a decimal integer",
    fix="Refuse amounts that are none; never round.",
    needs=NEEDS,
)
async def amounts(probe: Probe) -> None:
    """An amount that is no decimal integer is refused."""
    source = await _source(probe)
    for amount in ("1.5", "-1", "0x10", "many"):
        await refused(
            probe.wire.call("TokensService.Mint", source.mint(probe.context(probe.key()), amount)),
            INVALID,
            what=f"a mint of {amount!r}",
        )


@must(
    "TOK-006",
    rule=f"{RULE} ActivatePool",
    fix="Look the pool up before the key is journaled.",
    profile=Profile.FULL,
    needs=NEEDS,
)
async def unknown_pool(probe: Probe) -> None:
    """A pool nobody knows is refused."""
    request = tokens.ActivatePoolRequest(
        context=probe.context(probe.key()), pool_locator="no such pool", pool_id=probe.uuid("none")
    )
    await refused(
        probe.wire.call("TokensService.ActivatePool", request),
        (INVALID, NOT_FOUND, PRECONDITION),
        what="ActivatePool of an unknown pool",
    )
