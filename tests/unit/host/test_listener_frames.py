"""Listeners as a connector reads them.

Method: each kind of listener is translated; every field must be on the wire.
"""

from photinus.connector.v1 import event_pb2 as events
from photinus_core.host.convert import listener
from photinus_core.ports.connectors import (
    ContractListener,
    DestinationListener,
    MultipartyListener,
)


def test_pins_of_a_contract_with_its_options() -> None:
    options = '{"customPinSupport":"true"}'
    found = MultipartyListener("multiparty/0", '{"channel":"c"}', 2, "7", options)
    assert listener(found, b"here") == events.Listener(
        id="multiparty/0",
        multiparty=events.MultipartyFilter(
            location_json='{"channel":"c"}', version=2, options_json=options
        ),
        first_event="7",
        resume=b"here",
    )


def test_what_peers_send_to_a_node() -> None:
    assert listener(DestinationListener("peers", "net", "node0"), b"") == events.Listener(
        id="peers",
        destination=events.DestinationFilter(network_namespace="net", node_name="node0"),
    )


def test_events_of_contracts() -> None:
    found = ContractListener("x", (('{"name":"A"}', '{"address":"0x1"}'), ("{}", "")), "newest")
    assert listener(found, b"") == events.Listener(
        id="x",
        contract_events=events.ContractEventsFilter(
            filters=[
                events.ContractEventFilter(
                    event_json='{"name":"A"}', location_json='{"address":"0x1"}'
                ),
                events.ContractEventFilter(event_json="{}"),
            ]
        ),
        first_event="newest",
    )
