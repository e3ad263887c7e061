"""The author kit: what every connector of Photinus needs, so that its author writes one class.

Derive from `Blockchain`, `Tokens`, `DataExchange` or `SharedStorage`, override what you offer, and
call `serve(YourClass)`. The README walks through the smallest connector.
"""

from photinus_journal import Begun, OperationJournal, SqliteJournal, SqliteWriter, StoredUpdate

from photinus_sdk.connector import (
    Acked,
    Blockchain,
    CheckpointLost,
    Connector,
    DataExchange,
    Events,
    Passed,
    SharedStorage,
    Subscription,
    Tokens,
)
from photinus_sdk.context import CallContext, StreamKey
from photinus_sdk.errors import (
    NOT_SENT,
    Conflict,
    ConnectorError,
    Corrupted,
    Exhausted,
    InsufficientFunds,
    NotFound,
    NotOffered,
    Refused,
    Rejected,
    Reverted,
    TimedOut,
    Unavailable,
)
from photinus_sdk.instance import Instance
from photinus_sdk.server import ConnectorServer, serve
from photinus_sdk.settings import Secret, Settings, finding
from photinus_sdk.tls import TlsFiles

__all__ = [
    "NOT_SENT",
    "Acked",
    "Begun",
    "Blockchain",
    "CallContext",
    "CheckpointLost",
    "Conflict",
    "Connector",
    "ConnectorError",
    "ConnectorServer",
    "Corrupted",
    "DataExchange",
    "Events",
    "Exhausted",
    "Instance",
    "InsufficientFunds",
    "NotFound",
    "NotOffered",
    "OperationJournal",
    "Passed",
    "Refused",
    "Rejected",
    "Reverted",
    "Secret",
    "Settings",
    "SharedStorage",
    "SqliteJournal",
    "SqliteWriter",
    "StoredUpdate",
    "StreamKey",
    "Subscription",
    "TimedOut",
    "TlsFiles",
    "Tokens",
    "Unavailable",
    "finding",
    "serve",
]
