# ruff: noqa: ARG002, ARG003 - methods are there to be overridden; their arguments are the interface
"""The classes an author derives from: one per contract of the protocol.

What a class overrides is what it offers: the kit derives contracts and capabilities from it, and
answers UNIMPLEMENTED for the rest. A class may derive from several contracts.

    class DiskStorage(SharedStorage[DiskSettings], name="disk", version="0.1.0"): ...
"""

import platform
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeAlias, TypedDict, TypeVar, Unpack

from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import connector_pb2 as connector
from photinus.connector.v1 import event_pb2 as events
from photinus.connector.v1 import operation_pb2 as operations
from photinus.connector.v1.contracts import (
    BlockchainMethods,
    DataExchangeMethods,
    SharedStorageMethods,
    TokensMethods,
)
from photinus_journal import RETENTION_DEFAULT_S, OperationJournal, SqliteJournal

from photinus_sdk.context import CallContext, StreamKey
from photinus_sdk.errors import NotOffered, Refused
from photinus_sdk.settings import Settings, schema_of

if TYPE_CHECKING:
    from photinus_sdk.instance import Instance

NAME_FORM = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
VERSION_FORM = re.compile(r"\d+\.\d+\.\d+([-+].+)?")
PROTOCOLS = ("v1",)

S = TypeVar("S")
Capability: TypeAlias = connector.Capability.ValueType
ShownBy: TypeAlias = Mapping[Capability, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Events:
    """Yielded by `listen`: events in order, and the checkpoint behind the last one.

    A checkpoint of None stores none (the connector keeps the events itself until they are acked).
    `fragment` says that what is yielded next belongs to the same set.
    """

    events: tuple[events.Event, ...] | list[events.Event]
    checkpoint: bytes | None = None
    fragment: bool = False


@dataclass(frozen=True, slots=True)
class Passed:
    """Yielded by `listen` when it looked and found nothing: the core may store this checkpoint."""

    checkpoint: bytes | None = None
    final_block: int | None = None
    catching_up: bool = False
    gap_possible: bool = False


class CheckpointLost(Exception):
    """Raised by `listen`: it cannot resume from its checkpoint. The listener stays idle."""

    def __init__(self, reason: str, oldest: common.Position | None = None) -> None:
        super().__init__(reason)
        self.reason, self.oldest = reason, oldest


@dataclass(frozen=True, slots=True)
class Subscription:
    """A listener the core opened.

    Attributes:
        stream: The stream it is part of.
        network_namespace: Network name of the stream's namespace.
        listener: The listener as the core gave it: filter, `first_event`, `resume`.
        resume: Checkpoint to go on behind; empty for none. After an error of `listen` the kit calls
            it again with the last checkpoint it yielded.
        batch_size: Events the core takes at once; yielding about as many is kind.
    """

    stream: StreamKey
    network_namespace: str
    listener: events.Listener
    resume: bytes
    batch_size: int


@dataclass(frozen=True, slots=True)
class Acked:
    """Events the core has stored.

    Attributes:
        stream: The stream they went through.
        event_ids: Their ids, in order.
        receipts: By event id, the manifest to tell the sender.
    """

    stream: StreamKey
    event_ids: tuple[str, ...]
    receipts: Mapping[str, str]


class About(TypedDict, total=False):
    """Class arguments of a connector for Describe, where the class itself does not tell."""

    version: str
    vendor: str
    docs_url: str
    stability: connector.Stability.ValueType
    multi_instance: bool


class Connector(Generic[S]):
    """What all contracts share. One object per configured instance.

    Class arguments:
        name: DNS-like name of the kind of connector.
        version: Its semantic version.
        vendor, docs_url, stability: For `Describe`.
        multi_instance: True when one process may serve several instances.
        capabilities: Capabilities that overriding a method cannot show (RECEIPTS, RESUME).
        limits: Limits of its contracts; `idempotency_retention_s` is also the journal's.
    """

    description: ClassVar[connector.DescribeResponse]
    settings_type: ClassVar[type[Any]] = Settings
    limits: ClassVar[connector.Limits] = connector.Limits()

    # Of a contract: capabilities, each with the methods that together show it, and those to claim.
    shown_by: ClassVar[ShownBy] = {}
    claimable: ClassVar[frozenset[Capability]] = frozenset()

    instance: "Instance"
    """Set before `start`: name, journal, data directory, status, publishing."""

    def __init_subclass__(
        cls,
        *,
        name: str = "",
        capabilities: Iterable[Capability] = (),
        limits: connector.Limits | None = None,
        **about: Unpack[About],
    ) -> None:
        super().__init_subclass__()
        for base in getattr(cls, "__orig_bases__", ()):
            for argument in getattr(base, "__args__", ()):
                if isinstance(argument, type) and issubclass(base.__origin__, Connector):
                    cls.settings_type = argument
        if name:
            cls.limits = limits or connector.Limits()
            if not cls.limits.idempotency_retention_s:
                cls.limits.idempotency_retention_s = RETENTION_DEFAULT_S
            head = connector.DescribeResponse(version="0.0.0", stability=connector.STABILITY_ALPHA)
            head.MergeFrom(connector.DescribeResponse(name=name, **about))
            cls.description = describe(cls, head, frozenset(capabilities))

    async def start(self, settings: S) -> None:
        """Makes the instance ready within Configure's 30 s. Errors refuse the configuration.

        A system behind it that is away is no error: report DEGRADED and let `run` try again.
        """

    async def run(self) -> None:
        """Background work of the instance: started after `start`, cancelled before `stop`.

        Returning is fine. An exception makes the instance FAILED, visibly.
        """

    async def stop(self) -> None:
        """Gives back what `start` took. The journal is still open."""

    async def reconfigure(self, settings: S) -> None:
        """Takes changed settings while running, or raises; the former ones then stay in force."""
        raise Refused("This change needs a restart of the connector", reason="RESTART_REQUIRED")

    @classmethod
    async def validate(cls, settings: S) -> Iterable[common.Diagnostic]:
        """Findings the settings' types cannot express. No effect, no network."""
        return ()

    def open_journal(self, data_dir: Path) -> OperationJournal:
        """The instance's durable memory; override to add tables to it or to bring another.

        Called once, before `start`. Keep what you return if you write to it yourself.
        """
        retention_s = self.limits.idempotency_retention_s
        return SqliteJournal(data_dir / "journal.sqlite", retention_s=retention_s)

    def listen(self, subscription: Subscription) -> AsyncIterator[Events | Passed]:
        """The events of one listener behind its checkpoint: an async generator that does not end.

        It is cancelled when the listener goes. It is not asked for more while the core is behind.
        CheckpointLost and Rejected leave the listener idle; after any other error it is started
        again. Listeners do not disturb each other.
        """
        raise NotOffered("This connector has no events")

    async def acked(self, acked: Acked) -> None:
        """The core has stored these events. An error ends the stream, and they are sent again."""

    async def cancel(self, operation: operations.Operation, call: CallContext) -> bool:
        """Withdraws an operation if nothing of it was sent.

        True when, durably, nothing ever will be. Take the work away and end its key (`update_in`) in one
        transaction: the kit ends it, too, but after a crash in between nobody would.
        """
        return False


class Blockchain(Connector[S], BlockchainMethods[CallContext]):
    """A ledger. Submissions answer once journaled; tell the end with `instance.publish`."""

    shown_by: ClassVar[ShownBy] = {
        connector.CAPABILITY_MULTIPARTY: ("submit_batch_pin", "submit_network_action"),
        connector.CAPABILITY_CONTRACTS: ("invoke_contract", "query_contract"),
        connector.CAPABILITY_DEPLOY: ("deploy_contract",),
        connector.CAPABILITY_GENERATE_INTERFACE: ("generate_interface",),
    }


class Tokens(Connector[S], TokensMethods[CallContext]):
    """A token system. As `Blockchain` for submissions and events."""


class DataExchange(Connector[S], DataExchangeMethods[CallContext]):
    """Private delivery. Received messages come from `listen` until `acked` names them.

    `upload_blob` and `download_blob` are as in `SharedStorage`; the first answer of a download has the size.
    """

    claimable = frozenset({connector.CAPABILITY_RECEIPTS, connector.CAPABILITY_RESUME})


class SharedStorage(Connector[S], SharedStorageMethods[CallContext]):
    """Content-addressed storage: the same bytes have the same reference.

    `upload` stores what `chunks` yields. That raises when the stream breaks: leave nothing behind then.
    `download` is an async generator of bytes that fit the reference. The kit cuts long chunks.
    """

    shown_by: ClassVar[ShownBy] = {connector.CAPABILITY_PINNING: ("pin", "unpin")}
    claimable = frozenset({connector.CAPABILITY_RESUME})


Class = type[Connector[Any]]


def overrides(cls: Class, base: Class, method: str) -> bool:
    """Whether a class brings its own `method` of `base`."""
    return getattr(cls, method) is not getattr(base, method)


def contracts_of(cls: Class) -> list[Class]:
    """The contracts a class fulfils, as their base classes, in the order of the protocol."""
    contracts: tuple[Class, ...] = (Blockchain, Tokens, DataExchange, SharedStorage)
    return [base for base in contracts if issubclass(cls, base)]


def describe(
    cls: Class, head: connector.DescribeResponse, claimed: frozenset[Capability]
) -> connector.DescribeResponse:
    """Completes `head` from the class. Raises TypeError for what no core would accept."""
    if not NAME_FORM.fullmatch(head.name):
        raise TypeError(f"{head.name!r} is no connector name: 1 to 63 of a-z, 0-9, dot and dash")
    if not VERSION_FORM.fullmatch(head.version):
        raise TypeError(f"{head.version!r} is no semantic version")
    fulfilled = contracts_of(cls)
    if not fulfilled:
        raise TypeError(f"{cls.__name__} derives from no contract (Blockchain, SharedStorage, …)")
    unknown = claimed.difference(*(base.claimable for base in fulfilled))
    if unknown:
        names = ", ".join(connector.Capability.Name(value) for value in sorted(unknown))
        raise TypeError(f"{names} cannot be claimed by name for the contracts of {cls.__name__}")
    head.protocols.extend(PROTOCOLS)
    head.config_schema_json = schema_of(cls.settings_type)
    head.build.language = f"Python {platform.python_version()}"
    head.build.kit = f"photinus-sdk {metadata.version('photinus-sdk')}"
    for base in fulfilled:
        has = {connector.CAPABILITY_OPERATIONS, *(claimed & base.claimable)}
        for capability, methods in base.shown_by.items():
            if all(overrides(cls, base, method) for method in methods):
                has.add(capability)
        if base is not SharedStorage or overrides(cls, Connector, "listen"):
            has.add(connector.CAPABILITY_EVENTS)  # of submissions at least, their ends
        kind = connector.ContractKind.Value(f"CONTRACT_KIND_{snake_case(base.__name__).upper()}")
        head.contracts.add(kind=kind, capabilities=sorted(has), limits=cls.limits)
    return head


def snake_case(name: str) -> str:
    """`SubmitBatchPin` → `submit_batch_pin`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
