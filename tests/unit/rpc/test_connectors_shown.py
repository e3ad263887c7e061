"""Goal: what is known of a connector reaches the API whole, whatever numbers the connector gave.

Method: the host's view of a connector, and the message made of it.
"""

from photinus_core.model.ids import Namespace, Nanoseconds
from photinus_core.ports.connectors import ConnectorInfo, StreamInfo
from photinus_core.rpc.services.nodes import _connector


def stream(namespace: str, final_block: int) -> StreamInfo:
    return StreamInfo(
        namespace=Namespace(namespace),
        state="open",
        position="000000000012/000000/000001",
        final_blocks={"pins": final_block},
        batches=3,
        events=40,
        waiting=2,
        lag_s=1.23456,
        catching_up=True,
        trouble="disk full",
    )


def info(streams: tuple[StreamInfo, ...], limit: int) -> ConnectorInfo:
    return ConnectorInfo(
        instance="ledger",
        kind="blockchain",
        plugin_type="ethereum",
        address="unix:/x",
        state="ready",
        since=Nanoseconds(5),
        version="1.2.3",
        capabilities=("multiparty", "events"),
        limits={"maxMessageBytes": limit, "maxInFlight": 8, "idempotencyRetentionS": limit},
        last_error="",
        store_id="store",
        streams=streams,
        restarts=2,
    )


def test_everything_is_told() -> None:
    made = _connector(info((stream("b", 9), stream("a", 8)), 100), ["a", "b"])
    assert (made.restarts, made.store_id, list(made.namespaces)) == (2, "store", ["a", "b"])
    assert (made.limits.max_message_bytes, made.limits.max_in_flight) == (100, 8)
    assert [s.namespace for s in made.streams] == ["a", "b"]
    first = made.streams[0]
    assert [(each.listener, each.final_block) for each in first.listeners] == [("pins", 8)]
    assert (first.batches, first.events, first.waiting, first.lag_s) == (3, 40, 2, 1.235)
    assert (first.catching_up, first.trouble) == (True, "disk full")


def test_numbers_beyond_ours_are_bounded() -> None:
    most = (1 << 63) - 1
    made = _connector(info((stream("a", (1 << 64) - 1),), (1 << 64) - 1), [])
    assert made.limits.max_message_bytes == made.limits.idempotency_retention_s == most
    assert made.streams[0].listeners[0].final_block == most


def test_what_was_not_asked_yet_has_no_limits() -> None:
    unused = info((), 0)
    bare = ConnectorInfo(**{f: getattr(unused, f) for f in unused.__slots__} | {"limits": {}})
    assert not _connector(bare, []).HasField("limits")
