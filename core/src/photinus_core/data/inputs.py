"""The data items a caller gives with a message: references, inline values, blobs."""

from __future__ import annotations

from dataclasses import dataclass, field

from photinus_core.model.ids import Hash32, Uuid
from photinus_core.model.messages import Data, DataRef, DatatypeRef


@dataclass(frozen=True, slots=True)
class DataInput:
    """One item as the caller wrote it; ids and hashes are parsed already.

    Attributes:
        id: Existing data item to refer to.
        hash: Its hash, when the caller wants it checked.
        validator: `json`, `none` or `definition`; empty for the default.
        datatype: Datatype the value must fit.
        value: JSON text; None when absent.
    """

    id: Uuid | None = None
    hash: Hash32 | None = None
    validator: str = ""
    datatype: DatatypeRef | None = None
    value: str | None = None


@dataclass(frozen=True, slots=True)
class ResolvedData:
    """The items of one message, checked.

    Attributes:
        refs: References in the caller's order.
        new: Items to be stored with the message.
        all: All items, stored and new, in the caller's order.
    """

    refs: tuple[DataRef, ...] = ()
    new: tuple[Data, ...] = ()
    all: tuple[Data, ...] = field(default=())
