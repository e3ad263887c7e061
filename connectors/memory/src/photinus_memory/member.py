"""What the four contracts of a member have in common: its settings, its keys, its world."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from typing import Any, ClassVar, Final

from photinus.connector.v1 import common_pb2 as common
from photinus_sdk import (
    CallContext,
    Connector,
    NotFound,
    Refused,
    Rejected,
    Settings,
    SqliteJournal,
    finding,
)

from photinus_memory.world import Block, World

ADDRESS: Final = re.compile(r"0x[0-9a-f]{40}")
VERIFIER_TYPE: Final = "ethereum_address"
ADDRESS_CHARS: Final = 40
MULTIPARTY: Final = "0x" + "00" * 18 + "f1f1"
"""Address of the multiparty contract, unless the settings say another; every world has it."""


class MemorySettings(Settings):
    """Settings of an instance.

    Attributes:
        member: Whose instance it is; instances of one member share its mailbox and its blobs.
        keys: Addresses it may sign with; one made from the member's name when there are none.
        contract: Address of the multiparty contract that pins of custom contracts go to.
    """

    member: str
    keys: tuple[str, ...] = ()
    contract: str = MULTIPARTY


class Member(Connector[MemorySettings]):
    """Base of the four contracts."""

    world: ClassVar[World]
    settings: MemorySettings
    keys: tuple[str, ...] = ()

    @classmethod
    async def validate(cls, settings: MemorySettings) -> Iterable[common.Diagnostic]:
        """Findings that the types do not tell."""
        found = []
        if not settings.member or "/" in settings.member:
            found.append(finding("member is empty or has a slash", "/member"))
        addresses = [("/contract", settings.contract)]
        addresses += [(f"/keys/{n}", key) for n, key in enumerate(settings.keys)]
        for pointer, address in addresses:
            if not ADDRESS.fullmatch(address.lower()):
                found.append(finding("It is no address: 0x and 40 hex digits", pointer))
        return found

    async def start(self, settings: MemorySettings) -> None:
        self.settings = settings
        self.keys = tuple(map(str.lower, settings.keys)) or (key_of(settings.member),)

    async def reconfigure(self, settings: MemorySettings) -> None:
        if settings.member != self.settings.member:
            raise Refused("An instance does not change its member", reason="RESTART_REQUIRED")
        await self.start(settings)

    @property
    def journal(self) -> SqliteJournal:
        """The kit's journal, in memory or on disk."""
        found = self.instance.journal
        assert isinstance(found, SqliteJournal)
        return found

    def signer(self, key: str) -> str:
        """A canonical key that this instance signs with. Raises Rejected and NotFound."""
        found = canonical_key(key)
        if found not in self.keys:
            raise NotFound(f"The key {found} is not held here", reason="UNKNOWN_KEY")
        return found

    def transaction(self, call: CallContext) -> str:
        """The id of the transaction of a call: the same for the same key of the same stream."""
        seed = f"{call.instance}\n{call.scope.text}\n{call.idempotency_key}"
        return "0x" + hashlib.sha256(seed.encode()).hexdigest()


def mined(block: Block) -> common.Submission:
    """The answer for a transaction: final at once."""
    return common.Submission(
        state=common.OPERATION_STATE_SUCCEEDED,
        external_id=block.transaction,
        output_json=block.chain.info_json,
    )


def key_of(member: str) -> str:
    """The key of a member that was given none."""
    return "0x" + hashlib.sha256(member.encode()).hexdigest()[:ADDRESS_CHARS]


def canonical_key(key: str) -> str:
    """Lower case. Raises Rejected / INVALID_KEY."""
    found = key.lower()
    if not ADDRESS.fullmatch(found):
        raise Rejected(f"{key[:100]!r} is no address: 0x and 40 hex digits", reason="INVALID_KEY")
    return found


def canonical_location(text: str) -> str:
    """A contract's location in its one form. Raises Rejected / INVALID_LOCATION."""
    address = read_object(text, "location").get("address")
    if not isinstance(address, str) or not ADDRESS.fullmatch(address.lower()):
        raise Rejected("The location names no address", reason="INVALID_LOCATION")
    return location_of(address.lower())


def location_of(address: str) -> str:
    """The location of an address."""
    return json.dumps({"address": address}, separators=(",", ":"))


def read_object(text: str, what: str) -> dict[str, Any]:
    """A JSON object. Raises Rejected / INVALID_INPUTS."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Rejected(f"The {what} is no JSON object", reason="INVALID_INPUTS")
    return found
