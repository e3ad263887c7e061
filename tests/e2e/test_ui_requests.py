"""Goal: FireFly's web UI finds what it reads.

Method: the requests that the UI makes (it never posts), in its own spelling, on a running network with one of each
thing: double slashes, deprecated routes, pages with a count, times in seconds, charts, the WebSocket of its dashboard.
Each answer must have the members that the UI shows.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import pytest

from tests.support.network import RunningNetwork
from tests.support.replay import ask

PREFIX: Final = "/api/v1/namespaces/default"
PAGE: Final = "count&limit=10&skip=0&sort=-created"
FRAME_S: Final = 30.0

EVENT: Final = "id sequence type namespace reference topic created"
MESSAGE: Final = "header.id header.type header.author header.topics header.created hash state data"
OPERATION: Final = "id namespace tx type status plugin created updated"
TRANSACTION: Final = "id namespace type created"
IDENTITY: Final = "id did type name namespace messages.claim created"
BLOCKCHAIN: Final = "id source namespace name protocolId output info timestamp tx.id tx.type"
DATA: Final = "id validator namespace hash created"
BATCH: Final = "id type namespace author key hash created manifest"
BUCKET: Final = "count timestamp types"
PLUGINS: Final = (
    "plugins.blockchain plugins.database plugins.dataExchange plugins.sharedStorage plugins.tokens"
)

LISTS: Final = {
    f"/events?{PAGE}&created=>={{since}}": EVENT,
    f"/events?{PAGE}&created=>={{since}}&type=!transaction_submitted": EVENT,
    "/events?limit=25&fetchreferences": EVENT,
    f"/events?reference={{message}}&{PAGE}": EVENT,
    f"/events?tx={{tx}}&{PAGE}": EVENT,
    f"/transactions?{PAGE}&created=>={{since}}": TRANSACTION,
    f"/operations?{PAGE}&created=>={{since}}": OPERATION,
    f"/operations?{PAGE}&type=^blockchain": OPERATION,
    f"/operations?{PAGE}&type=sharedstorage_upload_batch&type=blockchain_pin_batch": OPERATION,
    f"/operations?{PAGE}&error=!": OPERATION,
    "/transactions/{tx}/operations?fetchstatus": OPERATION,
    "/transactions/{tx}/blockchainevents": BLOCKCHAIN,
    f"/messages?{PAGE}&created=>={{since}}": MESSAGE,
    "/messages/{message}/data": DATA,
    f"/batches?{PAGE}": BATCH,
    f"/data?{PAGE}&created=>={{since}}": DATA,
    f"/data?{PAGE}&blob.hash=!?": f"{DATA} blob.hash blob.name blob.size",
    f"/datatypes?{PAGE}": "id name version validator value message created",
    f"/groups?{PAGE}": "hash members message created",
    f"/blockchainevents?{PAGE.replace('created', 'timestamp')}&timestamp=>={{since}}": BLOCKCHAIN,
    f"/subscriptions?{PAGE}": "id name namespace transport filter options created",
    "//network/organizations?limit=25": IDENTITY,
    f"//network/nodes?{PAGE}": f"{IDENTITY} parent",
    f"/identities?{PAGE}": IDENTITY,
    "/identities?fetchverifiers&limit=25": f"{IDENTITY} verifiers",
    **{
        f"/charts/histogram/{each}?startTime={{since}}&endTime={{until}}&buckets=12": BUCKET
        for each in ("messages", "transactions", "operations", "events", "blockchainevents")
    },
}
"""Lists with what the UI shows of each item; those with `count` come with it."""
SINGLES: Final = {
    "/status": f"multiparty.enabled node.id node.name org.id org.name namespace.name {PLUGINS}",
    "/events/{event}?fetchreferences": EVENT,
    "/transactions/{tx}": TRANSACTION,
    "/transactions/{tx}/status": "status details",
    "/operations/{operation}?fetchstatus=true": f"{OPERATION} input",
    "/messages/{message}": MESSAGE,
    "/messages/{message}/transaction": TRANSACTION,
    "/data/{data}": DATA,
    "//blockchainevents/{chainevent}": BLOCKCHAIN,
    "/blockchainevents/{chainevent}": BLOCKCHAIN,
    "/subscriptions/{subscription}?fetchstatus": "id name status",
    "//network/organizations/{org}": IDENTITY,
    "//network/nodes/{node}": IDENTITY,
    "//network/identities/did:firefly:org/org_0?fetchverifiers": f"{IDENTITY} verifiers",
    "/identities/{org}?fetchverifiers": f"{IDENTITY} verifiers",
}
NODE: Final = {
    "/api/v1/namespaces": "name",
    "/api/v1/status": "namespace.name multiparty.enabled node.id",
    "/api/v1//websockets": "enabled connections",
}
"""What is asked of the node."""


@dataclass(frozen=True)
class Place:
    """A member, and the ids that stand for names in paths."""

    url: str
    names: dict[str, str]

    def get(self, path: str) -> tuple[Any, bool]:
        """What is answered, and whether it was found at another place that the answer named."""
        moved, asked = False, path.format(**self.names)
        answer = ask(self.url, "GET", asked, None, {})
        if answer.status == 301:
            moved = True
            answer = ask(self.url, "GET", urlsplit(answer.headers["location"]).path, None, {})
            if "?" in asked:
                there = ask(self.url, "GET", asked.replace("//", "/"), None, {})
                assert there.status == 200
                answer = there
        assert answer.status == 200, (asked, answer)
        return answer.json, moved


@pytest.fixture(scope="module")
def place(network: RunningNetwork) -> Place:
    """A member with one of each thing that the UI looks at."""
    member, since = network.members[0], int(time.time()) - 1
    tag = f"ui-{uuid.uuid4().hex[:8]}"
    form = f'--x\r\nContent-Disposition: form-data; name="f"; filename="{tag}"\r\n\r\nx\r\n--x--'
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    blob = member.request("POST", "/data", form.encode(), headers).json
    datatype = {"name": tag, "version": "1", "value": {"type": "object"}}
    member.post("/datatypes?confirm=true", datatype, 200)
    group = {"members": [{"identity": "org_1"}]}
    private = {"group": group, "data": [{"value": 1}]}
    member.post("/messages/private?confirm=true", private, 200)
    content = {"header": {"tag": tag}, "data": [{"value": 1}, {"id": blob["id"]}]}
    message = member.post("/messages/broadcast?confirm=true", content, 200)
    subscription = member.post("/subscriptions", {"name": tag}, 201)
    tx = message["txid"]
    (operation, *_) = member.wait_for(
        f"/operations?tx={tx}", lambda found: all(each["status"] == "Succeeded" for each in found)
    )
    names = {
        "since": since,
        "until": int(time.time()) + 60,
        "message": message["header"]["id"],
        "tx": tx,
        "data": blob["id"],
        "operation": operation["id"],
        "subscription": subscription["id"],
        "event": member.get(f"/events?tx={tx}&limit=1")[0]["id"],
        "chainevent": member.get(f"/transactions/{tx}/blockchainevents")[0]["id"],
        "org": member.get("/network/organizations/org_0")["id"],
        "node": member.get("/network/nodes/node_0")["id"],
    }
    return Place(member.url, {name: str(value) for name, value in names.items()})


def missing(item: Any, members: str) -> list[str]:
    """Which of the members an object does not have."""

    def has(found: Any, path: list[str]) -> bool:
        if not path:
            return True
        return isinstance(found, dict) and path[0] in found and has(found[path[0]], path[1:])

    return [each for each in members.split() if not has(item, each.split("."))]


@pytest.mark.parametrize("path", LISTS)
def test_a_list_shows_what_the_ui_reads(place: Place, path: str) -> None:
    found, moved = place.get(f"{PREFIX}{path}")
    assert moved == path.startswith("//")
    if "count" in path:
        assert found.keys() == {"count", "total", "items"}
        assert found["count"] == len(found["items"]) <= found["total"]
        found = found["items"]
    assert isinstance(found, list)
    assert found or "error=!" in path, "nothing to look at"
    for item in found:
        assert missing(item, LISTS[path]) == [], item


@pytest.mark.parametrize("path", SINGLES)
def test_a_thing_shows_what_the_ui_reads(place: Place, path: str) -> None:
    found, moved = place.get(f"{PREFIX}{path}")
    assert moved == path.startswith("//")
    assert missing(found, SINGLES[path]) == [], found


@pytest.mark.parametrize("path", NODE)
def test_the_node_shows_what_the_ui_reads(place: Place, path: str) -> None:
    found, moved = place.get(path)
    assert moved == ("//" in path)
    items = found if isinstance(found, list) else [found]
    assert items
    assert [missing(item, NODE[path]) for item in items] == [[]] * len(items)


def test_repeated_types_are_either(place: Place) -> None:
    path = (
        f"{PREFIX}/operations?tx={{tx}}&type=sharedstorage_upload_batch&type=blockchain_pin_batch"
    )
    found, _ = place.get(path)
    assert {each["type"] for each in found} == {
        "sharedstorage_upload_batch",
        "blockchain_pin_batch",
    }


def test_only_files_are_found_by_the_hash_of_their_blob(place: Place) -> None:
    found, _ = place.get(f"{PREFIX}/data?blob.hash=!?&limit=1000")
    assert place.names["data"] in {each["id"] for each in found}
    assert all(each["blob"]["hash"] for each in found)


def test_a_chart_counts_what_the_list_has(place: Place) -> None:
    buckets, _ = place.get(
        f"{PREFIX}/charts/histogram/messages?startTime={{since}}&endTime={{until}}&buckets=12"
    )
    listed, _ = place.get(f"{PREFIX}/messages?count&limit=1&created=>={{since}}")
    assert len(buckets) == 12
    assert sum(int(each["count"]) for each in buckets) == listed["total"]
    for each in buckets:
        assert sum(int(kind["count"]) for kind in each["types"]) == int(each["count"])


async def test_the_dashboard_hears_of_events(network: RunningNetwork) -> None:
    """It looks at nothing but the type of a frame; with `autoack` it never answers."""
    member, name = network.members[0], f"ui-{uuid.uuid4().hex[:8]}"
    url = f"{member.url}/ws?namespace=default&ephemeral&autoack"

    def listens(status: Any) -> bool:
        return any(
            each["userAgent"] == name and each["subscriptions"] for each in status["connections"]
        )

    async with (
        aiohttp.ClientSession(headers={"User-Agent": name}) as session,
        session.ws_connect(url) as socket,
    ):
        await asyncio.to_thread(member.wait_for, "/websockets", listens)
        content = {"data": [{"value": 1}]}
        sent = await asyncio.to_thread(member.post, "/messages/broadcast", content, 202)
        kinds: list[str] = []
        about = ""
        while about != sent["header"]["id"]:
            frame = await socket.receive_json(timeout=FRAME_S)
            kinds.append(frame["type"])
            about = frame["reference"]
    assert kinds[-1] == "message_confirmed"
    assert {"transaction_submitted", "blockchain_event_received"} <= set(kinds)
