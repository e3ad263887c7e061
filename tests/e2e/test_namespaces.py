"""Goal: the namespaces of a node live side by side, whatever each of them lacks.

Method: one node of its own on the shared network's chain, with a configuration of many namespaces, each
with a contract of its own: two that work, one in gateway mode, one whose ledger and data exchange are
absent at start, one that cannot pay. Its connectors for shared storage and what is absent are started
and ended by the tests.
"""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import grpc
import pytest
from photinus.api.v1 import (
    data_pb2,
    data_service_pb2,
    group_service_pb2,
    message_pb2,
    message_service_pb2,
    namespace_service_pb2,
    operation_service_pb2,
)
from photinus_client import Client, PhotinusError
from photinus_core.app.commands import show_troubles
from photinus_core.app.devnet.chain import CHAIN_ID, call, deploy_contract
from photinus_core.app.devnet.layout import DEV_ADDRESSES, DEV_KEYS

from tests.support import golden
from tests.support.network import RunningNetwork
from tests.support.rest import wait_until
from tests.support.solo import Solo, connector, node_up, program

KEY: Final = DEV_ADDRESSES[7]
LATE: Final = DEV_ADDRESSES[6]
POOR_KEY: Final = "11" * 32
POOR: Final = "0x19e7e376e7c213b7e7e7e46cc70a5dd086daff2a"
TEN_ETHER: Final = hex(10**19)
FRAME_S: Final = 20.0
NOT_HERE: Final = "FF10414: This action is not supported in this namespace"


@dataclass(frozen=True, slots=True)
class Node:
    """The node and what its tests start and end."""

    solo: Solo
    chain_port: int
    sockets: Path
    storage: ExitStack
    """Holds the connector for shared storage."""

    def get(self, namespace: str, path: str, status: int = 200) -> Any:
        return self.solo.get(f"/namespaces/{namespace}{path}", status)

    def post(self, namespace: str, path: str, body: Any, status: int | None = None) -> Any:
        return self.solo.post(f"/namespaces/{namespace}{path}", body, status)

    def wait_for(self, namespace: str, path: str, found: Any) -> Any:
        return self.solo.wait_for(f"/namespaces/{namespace}{path}", found)

    def start_storage(self) -> None:
        """Starts the connector for shared storage; it ends with `storage`."""
        path = self.sockets / "ipfs"
        self.storage.enter_context(connector("photinus-ipfs", self.solo.folder, path))

    def waits(self, namespace: str, kind: str, connector: str) -> dict[str, Any]:
        """Waits until the newest operation of a type says that it cannot be sent for now."""

        def says(found: Any) -> bool:
            return bool(found) and f"'{connector}' is not there" in found[0].get("error", "")

        path = f"/operations?type={kind}&sort=-created&limit=1"
        (found,) = self.wait_for(namespace, path, says)
        assert found["status"] == "Initialized"
        return dict(found)

    def succeeds(self, namespace: str, path: str) -> None:
        """Waits until an operation or a transaction has."""
        self.wait_for(namespace, path, lambda found: found["status"] == "Succeeded")

    def join(self, namespace: str) -> None:
        """Registers the namespace's organisation and node."""
        self.post(namespace, "/network/organizations/self?confirm=true", {}, 200)
        self.post(namespace, "/network/nodes/self?confirm=true", {}, 200)

    def conditions(self, namespace: str) -> dict[str, str]:
        status = self.get(namespace, "/status")
        return {each["type"]: each["message"] for each in status.get("conditions", [])}


def plugin(name: str, kind: str, reached: Any, **config: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, "connector": reached, kind: config}


def namespace(name: str, org: str, key: str, contract: str, *plugins: str) -> dict[str, Any]:
    return {
        "name": name,
        "plugins": ["database0", *plugins],
        "defaultKey": key,
        "multiparty": {
            "enabled": True,
            "org": {"name": org, "key": key},
            "node": {"name": f"{org}_node"},
            "contract": [{"location": {"address": contract}, "firstEvent": "oldest"}],
        },
    }


def configuration(chain: str, contracts: list[str], sockets: Path, folder: Path) -> dict[str, Any]:
    ledger = {"rpc": {"url": chain}, "chainId": CHAIN_ID, "confirmations": 0}
    # One key in two connectors works, but each disturbs the other's order.
    keys, late_keys = [DEV_KEYS[7], POOR_KEY], [DEV_KEYS[6]]

    def private(listed: list[str]) -> list[dict[str, str]]:
        return [{"privateKey": each} for each in listed]

    def at(name: str) -> dict[str, str]:
        return {"address": f"unix:{sockets / name}"}

    here = ("chain0", "dx0", "storage0")
    return {
        "log": {"level": "info"},
        "plugins": {
            "database": [{"name": "database0", "type": "sqlite3", "sqlite3": {"url": "core.db"}}],
            "blockchain": [
                plugin(
                    "chain0",
                    "ethereum",
                    {"launch": [program("photinus-ethereum")]},
                    **ledger,
                    keys=private(keys),
                ),
                plugin("chain1", "ethereum", at("chain"), **ledger, keys=private(late_keys)),
            ],
            "dataexchange": [
                plugin("dx0", "ffdx", {"launch": [program("photinus-dx")]}, listen="127.0.0.1:0"),
                plugin("dx1", "ffdx", at("dx"), listen="127.0.0.1:0"),
            ],
            "sharedstorage": [
                plugin("storage0", "ipfs", at("ipfs"), directory=str(folder / "content"))
            ],
        },
        "namespaces": {
            "default": "default",
            "retry": {"maxDelay": "500ms"},
            "predefined": [
                namespace("default", "solo", KEY, contracts[0], *here),
                namespace("side", "solo", KEY, contracts[1], *here),
                namespace("poor", "poor", POOR, contracts[2], *here),
                namespace("late", "late", LATE, contracts[3], "chain1", "dx1", "storage0"),
                {"name": "gw", "plugins": ["database0", "chain0"], "defaultKey": KEY},
            ],
        },
    }


@pytest.fixture(scope="module")
def node(network: RunningNetwork, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """The node, with shared storage there and what `late` needs absent."""
    folder = tmp_path_factory.mktemp("solo")
    port = int(network.chain_url.rpartition(":")[2])
    contracts = [asyncio.run(deploy_contract(port)) for _ in range(4)]
    with ExitStack() as stack:
        sockets = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        config = configuration(network.chain_url, contracts, sockets, folder)
        storage = stack.enter_context(ExitStack())
        solo = stack.enter_context(node_up(folder, config))
        made = Node(solo, port, sockets, storage)
        made.start_storage()
        for each in ("default", "side"):
            made.wait_for(each, "/status", lambda _: True)
            made.join(each)
        yield made


def troubles(node: Node, capsys: pytest.CaptureFixture[str]) -> str:
    """What `photinus status` says of the namespaces."""

    async def ask() -> None:
        async with grpc.aio.insecure_channel(node.solo.grpc_address) as channel:
            await show_troubles(channel)

    capsys.readouterr()
    asyncio.run(ask())
    return capsys.readouterr().out


def test_an_absent_connector_shows_in_its_namespace_only_until_it_comes(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    failing = node.get("late", "/status", 412)
    assert failing == {"error": "FF10441: Namespace 'late' is initializing"}
    assert "late" not in {each["name"] for each in node.solo.get("/namespaces")}
    listed = node.solo.get("/namespaces?includeinitializing=true")
    (late,) = [each for each in listed if each["name"] == "late"]
    assert late["initializing"]
    assert "chain1" in late["initializationError"]
    assert "namespace late does not run: FF19200: Connector 'chain1'" in troubles(node, capsys)
    assert node.post("default", "/messages/broadcast?confirm=true", {"data": [{"value": 1}]}, 200)
    assert node.conditions("default") == {}

    with connector("photinus-ethereum", node.solo.folder, node.sockets / "chain"):
        node.wait_for("late", "/status", lambda _: True)
        assert "dx1 is unreachable" in node.conditions("late")["connector"]
        assert "namespace late: connector: dx1 is unreachable" in troubles(node, capsys)
        node.post("late", "/network/organizations/self?confirm=true", {}, 200)
        away = node.post("late", "/network/nodes/self", {}, 503)
        assert away["error"].startswith("FF19200: Connector 'dx1' is not there")

        with connector("photinus-dx", node.solo.folder, node.sockets / "dx"):
            wait_until(lambda: node.conditions("late") == {})
            assert troubles(node, capsys) == ""
            node.post("late", "/network/nodes/self?confirm=true", {}, 200)
            sent = node.post("late", "/messages/broadcast?confirm=true", {"data": []}, 200)
            assert sent["state"] == "confirmed"
            status = node.get("late", "/status")
            assert status["org"]["registered"]
            assert status["node"]["registered"]
            assert "initializationError" not in status["namespace"]
    wait_until(lambda: "connector" in node.conditions("late"))
    assert node.get("late", "/messages?limit=1"), "what is stored is served"


def test_a_gateway_namespace_answers_as_fireflys_does(node: Node) -> None:
    """What was recorded of a gateway namespace, as far as its routes exist here."""
    compared = 0
    for line in golden.lines("gateway"):
        if not golden.find_route(line.method, line.path) or not line.path.startswith("/api/v1"):
            continue
        body, headers = None, {}
        if golden.is_json(bytes(line.request_body)):
            body, headers = bytes(line.request_body), {"Content-Type": "application/json"}
        elif line.method == "POST":
            body = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx\r\n--x--'
            headers = {"Content-Type": "multipart/form-data; boundary=x"}
        answer = node.solo.request(line.method, line.path.removeprefix("/api/v1"), body, headers)
        assert answer.status == line.status, (line.id, answer.body)
        recorded = json.loads(bytes(line.response_body))
        if answer.status >= 400 or recorded == []:
            assert answer.json == recorded, line.id
        elif isinstance(recorded, dict):
            assert answer.json.keys() - {"conditions"} == recorded.keys(), line.id
        compared += 1
    assert compared >= 13


@pytest.mark.parametrize(
    "route",
    [
        ("POST", "/messages/private", {"data": [{"value": 1}]}),
        ("POST", "/network/nodes/self", {}),
        ("POST", "/network/organizations", {"name": "x", "key": KEY}),
        ("POST", "/pins/rewind", {"sequence": 1}),
        ("POST", f"/batches/{uuid.uuid4()}/cancel", {}),
        ("GET", "/status/batchmanager", None),
        ("GET", f"/groups/{'0' * 64}", None),
        ("GET", f"/data/{uuid.uuid4()}/messages", None),
        ("GET", f"/data/{uuid.uuid4()}/blob", None),
        ("POST", f"/data/{uuid.uuid4()}/blob/publish", {}),
        ("POST", f"/data/{uuid.uuid4()}/value/publish", {"idempotencyKey": "k"}),
        ("POST", "/messages/requestreply", {"data": [{"value": 1}]}),
        ("POST", "/network/action", {"type": "terminate"}),
    ],
    ids=lambda route: re.sub(r"[0-9a-f-]{32,}", "ID", f"{route[0]} {route[1]}"),
)
def test_what_needs_a_network_is_refused_in_gateway_mode(
    node: Node, route: tuple[str, str, Any]
) -> None:
    method, path, body = route
    headers = {} if body is None else {"Content-Type": "application/json"}
    sent = None if body is None else json.dumps(body).encode()
    answer = node.solo.request(method, f"/namespaces/gw{path}", sent, headers)
    assert (answer.status, answer.json) == (400, {"error": NOT_HERE})


ABSENT: Final = str(uuid.uuid4())
IN_ANY_MODE: Final = {
    "/charts/histogram/events?startTime=0&endTime=4102444800&buckets=2": 200,
    "/datasubpaths": 200,
    "/datasubpaths/a/b": 200,
    **dict.fromkeys(("/network/organizations", "/network/nodes", "/network/identities"), 200),
    **dict.fromkeys(("/identities", "/verifiers", "/messages", "/data", "/datatypes"), 200),
    **dict.fromkeys(("/batches", "/pins", "/nextpins", "/events", "/subscriptions"), 200),
    **dict.fromkeys(("/transactions", "/operations", "/blockchainevents"), 200),
    **dict.fromkeys(("/status", "/status/multiparty"), 200),
    **dict.fromkeys(("/network/organizations/absent", "/network/nodes/absent"), 404),
    **dict.fromkeys(("/identities/did:firefly:absent", "/network/diddocs/did:firefly:a"), 404),
    **dict.fromkeys((f"/messages/{ABSENT}", f"/messages/{ABSENT}/events"), 404),
    **dict.fromkeys((f"/data/{ABSENT}", f"/data/{ABSENT}/value", "/datatypes/a/1"), 404),
    **dict.fromkeys((f"/batches/{ABSENT}", f"/events/{ABSENT}"), 404),
    **dict.fromkeys((f"/subscriptions/{ABSENT}", f"/subscriptions/{ABSENT}/events"), 404),
    **dict.fromkeys((f"/transactions/{ABSENT}", f"/transactions/{ABSENT}/status"), 404),
    **dict.fromkeys((f"/operations/{ABSENT}", f"/operations/{ABSENT}?fetchstatus"), 404),
    **dict.fromkeys((f"/blockchainevents/{ABSENT}", f"/verifiers/{'0' * 64}"), 404),
}


def test_what_needs_no_network_is_answered_in_gateway_mode(node: Node) -> None:
    answered = {
        path: node.solo.request("GET", f"/namespaces/gw{path}").status for path in IN_ANY_MODE
    }
    assert answered == IN_ANY_MODE
    retried = node.post("gw", f"/operations/{ABSENT}/retry", {}, 404)
    assert retried["error"].startswith("FF10109")
    assert node.solo.request("DELETE", f"/namespaces/gw/data/{ABSENT}").status == 404
    stored = node.post("gw", "/data", {"value": 1}, 201)
    assert node.solo.request("DELETE", f"/namespaces/gw/data/{stored['id']}").status == 204
    resolved = node.post("gw", "/verifiers/resolve", {"value": KEY.upper().replace("0X", "0x")})
    assert resolved == {"type": "ethereum_address", "value": KEY.lower()}


async def test_a_gateway_namespace_over_grpc(node: Node) -> None:
    async with Client(node.solo.grpc_address) as client:
        status = await client.namespaces.GetStatus(
            namespace_service_pb2.GetStatusRequest(namespace="gw")
        )
        assert not status.multiparty.enabled
        assert not status.HasField("org")
        assert not status.HasField("node")
        made = await client.data.CreateData(
            data_service_pb2.CreateDataRequest(
                namespace="gw", data=data_pb2.DataRefOrValue(value='"local"')
            )
        )
        listed = await client.data.ListData(data_service_pb2.ListDataRequest(namespace="gw"))
        assert made.data.id in {each.id for each in listed.items}
        message = message_pb2.MessageInput(data=[data_pb2.DataRefOrValue(value="1")])
        with refused():
            await client.messages.BroadcastMessage(
                message_service_pb2.BroadcastMessageRequest(namespace="gw", message=message)
            )
        with refused():
            await client.messages.SendPrivateMessage(
                message_service_pb2.SendPrivateMessageRequest(namespace="gw", message=message)
            )
        with refused():
            await client.groups.ListGroups(group_service_pb2.ListGroupsRequest(namespace="gw"))


@contextmanager
def refused() -> Iterator[None]:
    with pytest.raises(PhotinusError, match=NOT_HERE) as failure:
        yield
    assert failure.value.grpc_status is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.value.http_status == 400


async def test_one_socket_hears_two_namespaces(node: Node) -> None:
    """Each subscription hears its own namespace, acks go to the one they belong to."""
    name, names = f"both-{uuid.uuid4().hex[:8]}", ("default", "side")
    for each in names:
        filters = {"events": "message_confirmed", "message": {"tag": name}}
        options = {"firstEvent": "newest"}
        made: Any = {"name": name, "filter": filters, "options": options}
        await asyncio.to_thread(node.post, each, "/subscriptions", made, 201)
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{node.solo.url}/ws") as socket,
    ):
        for each in names:
            await socket.send_json({"type": "start", "namespace": each, "name": name})
        sent: dict[str, list[str]] = {each: [] for each in names}
        for number in range(3):
            for each in names:
                body: Any = {"header": {"tag": name}, "data": [{"value": number}]}
                message = await asyncio.to_thread(node.post, each, "/messages/broadcast", body)
                assert message["localNamespace"] == each
                sent[each].append(message["header"]["id"])
        heard: dict[str, list[str]] = {each: [] for each in names}
        while heard != sent:
            frame = await socket.receive_json(timeout=FRAME_S)
            assert frame["subscription"]["name"] == name
            assert frame["subscription"]["namespace"] == frame["namespace"]
            heard[frame["namespace"]].append(frame["reference"])
            await socket.send_json(
                {"type": "ack", "id": frame["id"], "subscription": frame["subscription"]}
            )
        shown = await asyncio.to_thread(node.solo.get, "/websockets")
        (mine,) = [c for c in shown["connections"] if len(c["subscriptions"]) == len(names)]
        assert {each["namespace"] for each in mine["subscriptions"]} == set(names)


async def test_an_ephemeral_listener_of_one_namespace_hears_nothing_of_another(node: Node) -> None:
    tag = f"alone-{uuid.uuid4().hex[:8]}"
    path = f"{node.solo.url}/api/v1/namespaces/side/ws?ephemeral&autoack&filter.message.tag={tag}"
    async with aiohttp.ClientSession() as session, session.ws_connect(path) as socket:
        body = {"header": {"tag": tag}, "data": [{"value": 1}]}
        confirm = "/messages/broadcast?confirm=true"
        await asyncio.to_thread(node.post, "default", confirm, body, 200)
        mine = await asyncio.to_thread(node.post, "side", confirm, body, 200)
        frame = await socket.receive_json(timeout=FRAME_S)
        assert (frame["namespace"], frame["reference"]) == ("side", mine["header"]["id"])


def operation(node: Node, space: str, kind: str) -> dict[str, Any]:
    """The newest operation of a type."""
    found: list[dict[str, Any]] = node.get(space, f"/operations?type={kind}&sort=-created&limit=1")
    return found[0]


def test_what_waits_for_shared_storage_is_sent_when_it_is_back(node: Node) -> None:
    node.storage.close()
    wait_until(lambda: "storage0 is unreachable" in node.conditions("default").get("connector", ""))
    sent = node.post("default", "/messages/broadcast", {"data": [{"value": "later"}]}, 202)
    upload = node.waits("default", "sharedstorage_upload_batch", "storage0")
    copy = node.post("default", f"/operations/{upload['id']}/retry", {}, 202)
    assert copy["status"] == "Initialized"
    assert "'storage0' is not there" in copy["error"]
    pending = node.get("default", f"/transactions/{upload['tx']}/status")
    assert pending["status"] == "Pending"

    node.start_storage()
    node.solo.wait_message(sent["header"]["id"])
    for each in (upload, copy):
        node.succeeds("default", f"/operations/{each['id']}")
    node.succeeds("default", f"/transactions/{upload['tx']}/status")


def test_what_waits_for_the_ledger_is_sent_when_it_is_back(node: Node) -> None:
    folder, sockets = node.solo.folder, node.sockets
    with connector("photinus-dx", folder, sockets / "dx"):
        with connector("photinus-ethereum", folder, sockets / "chain"):
            node.wait_for("late", "/status", lambda found: found["node"]["registered"])
            node.post("late", "/messages/broadcast?confirm=true", {"data": []}, 200)
        wait_until(lambda: "chain1 is unreachable" in node.conditions("late").get("connector", ""))
        sent = node.post("late", "/messages/broadcast", {"data": [{"value": "later"}]}, 202)
        pins = "/operations?type=blockchain_pin_batch&sort=-created&limit=1"
        (pin,) = node.wait_for("late", pins, lambda found: found[0]["status"] == "Initialized")
        assert node.get("late", f"/transactions/{pin['tx']}/status")["status"] == "Pending"
        assert node.get("late", f"/messages/{sent['header']['id']}")["state"] != "confirmed"
        with connector("photinus-ethereum", folder, sockets / "chain"):
            confirmed = f"/messages/{sent['header']['id']}"
            node.wait_for("late", confirmed, lambda found: found["state"] == "confirmed")
            node.succeeds("late", f"/operations/{pin['id']}")
            node.succeeds("late", f"/transactions/{pin['tx']}/status")


async def test_a_pin_that_could_not_be_paid_is_retried_over_rest_and_grpc(node: Node) -> None:
    registering = node.post("poor", "/network/organizations/self", {}, 202)
    claim = registering["messages"]["claim"]

    def blocked(found: Any) -> bool:
        return any(each["status"]["blocked"] for each in found["processors"])

    processors = node.wait_for("poor", "/status/batchmanager", blocked)["processors"]
    assert "cannot pay" in processors[0]["status"]["lastFlushError"]
    explained = node.get("poor", f"/messages/{claim}/explain")
    assert explained["reason"] == "sending failed"
    assert "cannot pay" in explained["detail"]
    pin = operation(node, "poor", "blockchain_pin_batch")
    refused = node.post("poor", f"/operations/{pin['id']}/retry", {}, 500)
    assert "INSUFFICIENT_FUNDS" in refused["error"]
    copy = operation(node, "poor", "blockchain_pin_batch")
    assert copy["id"] != pin["id"]
    assert copy["status"] == "Failed"
    assert "cannot pay" in copy["error"]
    assert node.get("poor", f"/operations/{pin['id']}")["retry"] == copy["id"]
    assert node.get("poor", f"/transactions/{pin['tx']}/status")["status"] == "Failed"

    async with Client(node.solo.grpc_address) as client:
        request = operation_service_pb2.RetryOperationRequest(namespace="poor", id=pin["id"])
        with pytest.raises(PhotinusError, match="INSUFFICIENT_FUNDS"):
            await client.operations.RetryOperation(request)
        await call(node.chain_port, "anvil_setBalance", [POOR, TEN_ETHER])
        again = (await client.operations.RetryOperation(request)).operation
        assert again.status in {"Pending", "Succeeded"}
    await asyncio.to_thread(
        node.wait_for,
        "poor",
        f"/operations/{again.id}",
        lambda found: found["status"] == "Succeeded",
    )
    await asyncio.to_thread(
        node.wait_for,
        "poor",
        f"/transactions/{pin['tx']}/status",
        lambda found: found["status"] == "Succeeded",
    )
    await asyncio.to_thread(
        node.wait_for,
        "poor",
        "/status/multiparty",
        lambda found: found["org"]["status"] == "registered",
    )
