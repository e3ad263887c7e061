# ruff: noqa: ARG002 - the kit's interface: request and call, used or not
"""The tokens contract: pools on the same ledger, with the holders' balances."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import event_pb2 as events
from photinus.connector.v1 import tokens_pb2 as pb
from photinus_sdk import CallContext, NotFound, Rejected, Reverted, Tokens

from photinus_memory.member import (
    Member,
    MemorySettings,
    canonical_key,
    location_of,
    mined,
    read_object,
)
from photinus_memory.world import Pool

AMOUNT: Final = re.compile(r"[0-9]{1,78}")
DATA_BYTES_MAX: Final = 256 << 10
STANDARD: Final = "memory"
FUNGIBLE, NONFUNGIBLE = "fungible", "nonfungible"
MINT: Final = events.TOKEN_TRANSFER_KIND_MINT
BURN: Final = events.TOKEN_TRANSFER_KIND_BURN
TRANSFER: Final = events.TOKEN_TRANSFER_KIND_TRANSFER
OPERATIONS: Final = ("mint", "burn", "transfer", "approval")


class MemoryTokens(Member, Tokens[MemorySettings]):
    """Fungible and non-fungible pools; nobody moves more than there is, or what is not theirs."""

    async def create_pool(
        self, request: pb.CreatePoolRequest, call: CallContext
    ) -> common.Submission:
        if request.type not in (FUNGIBLE, NONFUNGIBLE):
            raise Rejected(f"A pool is {FUNGIBLE} or {NONFUNGIBLE}", reason="INVALID_INPUTS")
        _check_data(request.data)
        signer, transaction = self.signer(request.signing_key), self.transaction(call)
        address = "0x" + transaction[-40:]
        told = events.TokenPoolEvent(
            pool_locator=f"address={address}&schema={STANDARD}&type={request.type}",
            type=request.type,
            standard=STANDARD,
            symbol=request.symbol,
            info_json=json.dumps({"address": address, "name": request.name}),
            data=request.data,
        )
        event = events.Event(token_pool=told)
        block = self.world.mine(
            transaction,
            signer,
            location_of(address),
            event,
            lambda e: _named(e.token_pool.chain, "Pool"),
        )
        await self._tell(block.event().token_pool, call)
        return mined(block)

    async def activate_pool(
        self, request: pb.ActivatePoolRequest, call: CallContext
    ) -> common.Submission:
        told = events.TokenPoolEvent()
        told.CopyFrom(self._pool(request.pool_locator).told)
        told.pool_id = request.pool_id
        await self._tell(told, call)
        return common.Submission(state=common.OPERATION_STATE_SUCCEEDED)

    async def deactivate_pool(
        self, request: pb.DeactivatePoolRequest, call: CallContext
    ) -> common.Submission:
        # Its listener ends with the stream; there is nothing else to give back.
        return common.Submission(state=common.OPERATION_STATE_SUCCEEDED)

    async def check_interface(
        self, request: pb.CheckInterfaceRequest, call: CallContext
    ) -> pb.CheckInterfaceResponse:
        self._pool(request.pool_locator)
        methods = read_object('{"methods":' + (request.methods_json or "[]") + "}", "interface")
        found: dict[str, dict[str, object]] = {
            name: {"format": request.format, "methods": []} for name in OPERATIONS
        }
        for method in methods["methods"]:
            name = str(method.get("name", "")).lower() if isinstance(method, dict) else ""
            for operation in OPERATIONS:
                if name.startswith(operation.removesuffix("al")):
                    found[operation] = {"format": request.format, "methods": [method]}
        return pb.CheckInterfaceResponse(methods_json=json.dumps(found))

    async def mint(self, request: pb.MintRequest, call: CallContext) -> common.Submission:
        moved = self._moved(request.action, MINT, "", canonical_key(request.to))
        pool = self._pool(request.action.pool_locator)
        if pool.told.type == NONFUNGIBLE:
            moved.token_index = moved.token_index or str(len(pool.owners) + 1)
            moved.uri = request.uri
        return self._move(call, moved)

    async def burn(self, request: pb.BurnRequest, call: CallContext) -> common.Submission:
        return self._move(call, self._moved(request.action, BURN, _holder(request), ""))

    async def transfer(self, request: pb.TransferRequest, call: CallContext) -> common.Submission:
        to = canonical_key(request.to)
        return self._move(call, self._moved(request.action, TRANSFER, _holder(request), to))

    async def approve(self, request: pb.ApproveRequest, call: CallContext) -> common.Submission:
        self._pool(request.pool_locator)
        _check_data(request.data)
        signer, operator = self.signer(request.signing_key), canonical_key(request.operator)
        told = events.TokenApprovalEvent(
            subject=f"{signer}:{operator}",
            pool_locator=request.pool_locator,
            signer=signer,
            operator=operator,
            approved=request.approved,
            data=request.data,
        )
        told.protocol_id = self._next_id()
        return mined(
            self.world.mine(
                self.transaction(call),
                signer,
                _location(request.pool_locator),
                events.Event(token_approval=told),
                lambda e: _named(e.token_approval.chain, "Approval"),
            )
        )

    def _moved(
        self,
        action: pb.TokenAction,
        kind: events.TokenTransferKind.ValueType,
        holder: str,
        to: str,
    ) -> events.TokenTransferEvent:
        if not AMOUNT.fullmatch(action.amount):
            raise Rejected("The amount is no decimal integer", reason="INVALID_INPUTS")
        _check_data(action.data)
        pool = self._pool(action.pool_locator)
        if pool.told.type == NONFUNGIBLE and int(action.amount) != 1:
            raise Rejected("Of a non-fungible token there is one", reason="INVALID_INPUTS")
        if pool.told.type == FUNGIBLE and action.token_index:
            raise Rejected("Fungible tokens have no index", reason="INVALID_INPUTS")
        ends: dict[str, Any] = {"from": holder, "to": to}
        return events.TokenTransferEvent(
            kind=kind,
            protocol_id=self._next_id(),
            pool_locator=action.pool_locator,
            signer=self.signer(action.signing_key),
            amount=str(int(action.amount)),
            token_index=action.token_index,
            data=action.data,
            **ends,
        )

    def _move(self, call: CallContext, moved: events.TokenTransferEvent) -> common.Submission:
        transaction = self.transaction(call)
        if self.world.block_of(transaction) is None:
            _check_move(self.world.pools[moved.pool_locator], moved)
        return mined(
            self.world.mine(
                transaction,
                moved.signer,
                _location(moved.pool_locator),
                events.Event(token_transfer=moved),
                lambda e: _named(e.token_transfer.chain, "Transfer"),
            )
        )

    def _pool(self, locator: str) -> Pool:
        if locator not in self.world.pools:
            raise NotFound(f"There is no pool {locator[:200]!r}", reason="UNKNOWN_POOL")
        return self.world.pools[locator]

    def _next_id(self) -> str:
        return f"{self.world.head + 1:012d}/000000/000000"

    async def _tell(self, told: events.TokenPoolEvent, call: CallContext) -> None:
        told.idempotency_key = call.idempotency_key
        name = f"pool/{self.transaction(call)}"
        await self.journal.tell(call.scope, events.Event(id=name, token_pool=told))


def _check_move(pool: Pool, moved: events.TokenTransferEvent) -> None:
    """Raises Reverted as a contract would."""
    holder = getattr(moved, "from")
    if moved.kind == MINT:
        if moved.token_index in pool.owners:
            raise Reverted("That token exists", revert="TokenExists")
        return
    if moved.signer != holder and (holder, moved.signer) not in pool.approved:
        raise Reverted("The signer is neither holder nor approved", revert="NotApproved")
    if pool.told.type == NONFUNGIBLE and pool.owners.get(moved.token_index) != holder:
        raise Reverted("The holder does not have that token", revert="NotOwner")
    if pool.balances[holder] < int(moved.amount):
        raise Reverted("The holder does not have as much", revert="InsufficientBalance")


def _holder(request: pb.BurnRequest | pb.TransferRequest) -> str:
    return canonical_key(getattr(request, "from") or request.action.signing_key)


def _location(locator: str) -> str:
    return location_of(locator.partition("&")[0].removeprefix("address="))


def _named(chain: common.ChainEvent, name: str) -> common.ChainEvent:
    chain.name = chain.signature = name
    return chain


def _check_data(data: str) -> None:
    if len(data.encode()) > DATA_BYTES_MAX:
        raise Rejected(f"The data has more than {DATA_BYTES_MAX} bytes", reason="INVALID_INPUTS")
