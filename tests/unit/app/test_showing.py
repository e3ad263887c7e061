"""Goal: an operator reads at a glance how a connector stands.

Method: connectors as the API lists them, and the lines made of them.
"""

from photinus.api.v1 import node_pb2
from photinus_core.app.showing import connector_line, connector_lines


def test_all_that_is_known_stands_below_the_name() -> None:
    found = node_pb2.Connector(
        name="ledger",
        category="blockchain",
        type="ethereum",
        address="unix:/run/ledger.sock",
        state="degraded",
        error="the node is away",
        version="1.2.3",
        capabilities=["events", "multiparty"],
        namespaces=["default"],
        restarts=2,
        limits=node_pb2.ConnectorLimits(
            max_message_bytes=4 << 20, max_in_flight=8, idempotency_retention_s=604800
        ),
        streams=[
            node_pb2.ConnectorStream(
                namespace="default",
                state="open",
                position="000000000012/000000/000001",
                listeners=[node_pb2.ListenerPosition(listener="pins", final_block=9)],
                batches=3,
                events=40,
                waiting=2,
                lag_s=1.25,
                catching_up=True,
                trouble="disk full",
            )
        ],
    )
    found.since.FromJsonString("2026-01-02T03:04:05Z")
    assert connector_lines(found) == [
        "ledger           blockchain     ethereum   degraded     1.2.3",
        "    since      2026-01-02T03:04:05Z",
        "    at         unix:/run/ledger.sock",
        "    error      the node is away",
        "    used by    default",
        "    restarts   2",
        "    can        events, multiparty",
        "    limits     8 changing calls at once, 4 MiB a message, keys for 7 days",
        (
            "    stream default open, 40 events in 3 batches stored, at 000000000012/000000/000001,"
            " 2 batches wait, the oldest for 1.2 s, catching up, pins past final block 9"
        ),
        "    stream default trouble: disk full",
    ]
    assert connector_line(found).endswith("degraded     1.2.3  the node is away")


def test_what_is_not_known_is_left_out() -> None:
    found = node_pb2.Connector(name="ipfs.sock", state="discovered", address="unix:/x")
    assert connector_lines(found)[0].split() == ["ipfs.sock", "discovered"]
    assert [line.split()[0] for line in connector_lines(found)[1:]] == ["since", "at"]


def test_odd_numbers_are_shown_as_they_are() -> None:
    limits = node_pb2.ConnectorLimits(max_message_bytes=1000, idempotency_retention_s=61)
    found = node_pb2.Connector(name="x", limits=limits)
    assert "    limits     1000 bytes a message, keys for 61 s" in connector_lines(found)
