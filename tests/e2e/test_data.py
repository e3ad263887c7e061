"""Goal: data keep every byte: JSON as it was written, blobs as they were sent, on both members.

Method: the shared network, through REST as raw bytes and through gRPC; an upload is broken off by
closing its connection, and what is left behind is looked for in the lists and on disk.
"""

from __future__ import annotations

import hashlib
import os
import socket
import uuid
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from photinus_client import Client, PhotinusError

from tests.support.network import Member, RunningNetwork
from tests.support.rest import wait_until

JSON = {"Content-Type": "application/json"}
BLOB = bytes(range(256)) * 4096 + b"the end"


def new(name: str) -> str:
    return f"{name}-{uuid.uuid4().hex[:8]}"


def multipart(content: bytes, fields: Mapping[str, str] | None = None) -> tuple[bytes, str]:
    """Body and content type of a form: fields first, the file last."""
    boundary = uuid.uuid4().hex
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in (fields or {}).items()
    ]
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="dir/a b.bin"\r\n'
        f"Content-Type: application/octet-stream\r\n\r\n"
    ).encode()
    body = b"".join(parts) + head + content + f"\r\n--{boundary}--\r\n".encode()
    return body, f"multipart/form-data; boundary={boundary}"


def upload(member: Member, content: bytes, **fields: str) -> dict[str, Any]:
    body, kind = multipart(content, fields)
    answer = member.request("POST", "/data", body, {"Content-Type": kind})
    assert answer.status == 201, answer.body
    made: dict[str, Any] = answer.json
    return made


@pytest.mark.parametrize(
    "value",
    [
        b'{"a":1.0,"b":1e400,"z":12345678901234567890}',
        b'{"z":1,"a":2,"z":3}',
        b'"\\u00e9\xc3\xa9\\/"',
        b"-0.0",
        b"[]",
        b"false",
    ],
)
def test_json_is_kept_byte_for_byte(network: RunningNetwork, value: bytes) -> None:
    body = b'{"header":{"topics":["exact"]},"data":[{"value": ' + value + b" }]}"
    answer = network.members[0].request("POST", "/messages/broadcast", body, JSON)
    assert answer.status == 202, answer.body
    sent = answer.json
    network.members[1].wait_message(sent["header"]["id"])
    for member in network.members:
        data = sent["data"][0]["id"]
        assert member.request("GET", f"/data/{data}/value").body.rstrip(b"\n") == value
        assert b'"value":' + value in member.request("GET", f"/data/{data}").body
        assert member.get(f"/data/{data}")["hash"] == hashlib.sha256(value).hexdigest()


@pytest.mark.parametrize("kind", ["broadcast", "private"])
def test_blob_reaches_the_other_member(network: RunningNetwork, kind: str) -> None:
    content = BLOB + kind.encode()
    stored = upload(network.members[0], content, autometa="true", metadata='{"mine":1}')
    assert stored["blob"]["hash"] == hashlib.sha256(content).hexdigest()
    assert stored["blob"]["size"] == len(content)
    assert stored["value"]["mine"] == 1
    assert stored["value"]["filename"].endswith("a b.bin")
    body: dict[str, Any] = {"data": [{"id": stored["id"]}], "header": {"topics": [new("blob")]}}
    if kind == "private":
        body["group"] = {"members": [{"identity": network.members[1].org}]}
    sent = network.members[0].post(f"/messages/{kind}", body)
    network.members[1].wait_message(sent["header"]["id"])
    for member in network.members:
        answer = member.request("GET", f"/data/{stored['id']}/blob")
        assert answer.status == 200
        assert answer.body == content
        data = member.get(f"/data/{stored['id']}")
        assert data["hash"] == stored["hash"]
        assert data["blob"]["size"] == len(content)


def test_blob_without_value_has_the_hash_of_its_bytes(network: RunningNetwork) -> None:
    stored = upload(network.members[0], b"only bytes")
    assert stored["hash"] == stored["blob"]["hash"] == hashlib.sha256(b"only bytes").hexdigest()
    assert upload(network.members[0], b"")["blob"]["size"] == 0


async def test_blob_over_grpc(network: RunningNetwork, tmp_path: Path) -> None:
    file = tmp_path / "contract.bin"
    file.write_bytes(BLOB)
    async with Client(network.members[0].grpc_address) as client:
        stored = await client.upload(file)
        assert stored.blob.hash == hashlib.sha256(BLOB).hexdigest()
        download = await client.download(stored.id)
        assert b"".join([piece async for piece in download.content]) == BLOB
    assert network.members[0].request("GET", f"/data/{stored.id}/blob").body == BLOB


def blob_files(member: Member) -> set[Path]:
    """Files of some size below a member's folder, databases apart."""
    return {
        path
        for path in member.folder.rglob("*")
        if path.is_file() and ".db" not in path.name and path.stat().st_size > 60_000
    }


def total_of_data(member: Member) -> int:
    total: int = member.get("/data?count&limit=1")["total"]
    return total


def test_upload_that_breaks_off_leaves_nothing(network: RunningNetwork) -> None:
    member = network.members[0]
    before, files = total_of_data(member), blob_files(member)
    body, kind = multipart(os.urandom(3_000_000))
    with socket.create_connection(("127.0.0.1", member.http_port), timeout=20) as connection:
        head = (
            f"POST /api/v1/data HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        connection.sendall(head.encode() + body[:2_000_000])
    wait_until(lambda: blob_files(member) == files, explain=lambda: str(blob_files(member) - files))
    assert total_of_data(member) == before
    assert upload(member, b"and the next one works")["blob"]["size"] == 22


def test_form_that_ends_early_is_refused(network: RunningNetwork) -> None:
    member = network.members[0]
    before, files = total_of_data(member), blob_files(member)
    body, kind = multipart(os.urandom(200_000))
    answer = member.request("POST", "/data", body[:-100], {"Content-Type": kind})
    assert answer.status == 400, answer.body
    assert answer.json["error"].startswith("FF")
    assert total_of_data(member) == before
    wait_until(lambda: blob_files(member) == files, explain=lambda: str(blob_files(member) - files))


async def test_grpc_upload_without_its_end_is_forgotten(network: RunningNetwork) -> None:
    member = network.members[0]
    before, files = total_of_data(member), blob_files(member)

    async def broken() -> AsyncIterator[bytes]:
        yield os.urandom(200_000)
        raise ConnectionError("the file could not be read on")

    async with Client(member.grpc_address) as client:
        with pytest.raises(ConnectionError):
            await client.upload(broken())
    wait_until(lambda: blob_files(member) == files)
    assert total_of_data(member) == before


async def test_download_that_breaks_off_disturbs_nobody(network: RunningNetwork) -> None:
    member = network.members[0]
    stored = upload(member, os.urandom(5_000_000))
    url = f"{member.url}/api/v1/data/{stored['id']}/blob"
    async with aiohttp.ClientSession() as session:
        for _ in range(3):
            response = await session.get(url)
            await response.content.readexactly(1000)
            response.close()
    answer = member.request("GET", f"/data/{stored['id']}/blob")
    assert hashlib.sha256(answer.body).hexdigest() == stored["blob"]["hash"]


def test_datatype_binds_on_both_members(network: RunningNetwork) -> None:
    name = new("widget")
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    defined = network.members[0].post(
        "/datatypes?confirm=true", {"name": name, "version": "1.0", "value": schema}, status=200
    )
    there = network.members[1].wait_for(f"/datatypes/{name}/1.0", lambda d: "hash" in d)
    assert there["hash"] == defined["hash"]
    ref = {"name": name, "version": "1.0"}
    for member in network.members:
        before = total_of_data(member)
        for path, body in (
            ("/data", {"datatype": ref, "value": {"n": "x"}}),
            ("/messages/broadcast", {"data": [{"datatype": ref, "value": {}}]}),
        ):
            refused = member.post(path, body, status=400)
            assert refused["error"].startswith("FF10198:"), refused
        assert total_of_data(member) == before
    sent = network.members[1].post(
        "/messages/broadcast?confirm=true", {"data": [{"datatype": ref, "value": {"n": 7}}]}
    )
    seen = network.members[0].wait_message(sent["header"]["id"])
    stored = network.members[0].get(f"/data/{seen['data'][0]['id']}")
    assert (stored["datatype"], stored["value"]) == (ref, {"n": 7})
    again = network.members[1].post(
        "/datatypes", {"name": name, "version": "1.0", "value": {}}, status=409
    )
    assert again["error"].startswith("FF10407:")


async def test_grpc_refuses_what_breaks_its_datatype(network: RunningNetwork) -> None:
    from photinus.api.v1 import data_pb2, data_service_pb2

    async with Client(network.members[0].grpc_address) as client:
        with pytest.raises(PhotinusError) as refused:
            await client.data.CreateData(
                data_service_pb2.CreateDataRequest(
                    data=data_pb2.DataRefOrValue(
                        value="1", datatype=data_pb2.DatatypeRef(name="absent", version="1")
                    )
                )
            )
    assert refused.value.code == "FF10195"


def test_deleted_data_and_blob_are_gone(network: RunningNetwork) -> None:
    member = network.members[0]
    files = blob_files(member)
    stored = upload(member, os.urandom(200_000))
    assert member.request("DELETE", f"/data/{stored['id']}").status == 204
    assert member.request("GET", f"/data/{stored['id']}").status == 404
    assert member.request("GET", f"/data/{stored['id']}/blob").status == 404
    assert member.request("DELETE", f"/data/{stored['id']}").status == 404
    wait_until(lambda: blob_files(member) == files)
    refused = member.post("/messages/broadcast", {"data": [{"id": stored["id"]}]}, status=400)
    assert refused["error"].startswith("FF10204:")


def test_two_items_with_the_same_blob_are_deleted_one_by_one(network: RunningNetwork) -> None:
    member, content = network.members[0], os.urandom(1_000)
    first, second = upload(member, content), upload(member, content)
    assert first["blob"]["hash"] == second["blob"]["hash"]
    assert member.request("DELETE", f"/data/{first['id']}").status == 204
    assert member.request("GET", f"/data/{second['id']}/blob").body == content
    assert member.request("DELETE", f"/data/{second['id']}").status == 204
    assert member.request("GET", f"/data/{second['id']}/blob").status == 404


def publish(member: Member, data: str, what: str, status: int = 200, **body: str) -> dict[str, Any]:
    answered: dict[str, Any] = member.post(f"/data/{data}/{what}/publish", body, status)
    return answered


def test_published_value_and_blob_say_where_they_are(network: RunningNetwork) -> None:
    first, second = network.members
    content = os.urandom(300_000)
    stored, key = upload(first, content, metadata='{"n":1.0}'), new("publish")
    blob = publish(first, stored["id"], "blob", idempotencyKey=key)
    assert {**stored, "blob": {**stored["blob"], "public": blob["blob"]["public"]}} == blob
    both = publish(first, stored["id"], "value")
    assert {**blob, "public": both["public"]} == both == first.get(f"/data/{stored['id']}")
    again = publish(first, stored["id"], "blob", 409, idempotencyKey=key)
    (transaction,) = first.get(f"/transactions?idempotencykey={key}")
    assert again == {
        "error": f"FF10431: Idempotency key '{key}' already used for transaction '{transaction['id']}'"
    }
    assert transaction["type"] == "data_publish"
    (operation,) = first.get(f"/transactions/{transaction['id']}/operations")
    assert operation["type"] == "sharedstorage_upload_blob"
    assert operation["plugin"] in {"ipfs", "memory"}, "on a chain, or in memory"
    assert operation["input"] == {"dataId": stored["id"]}
    assert operation["output"] == {"payloadRef": blob["blob"]["public"]}
    status = first.get(f"/transactions/{transaction['id']}/status")
    assert (status["status"], len(status["details"])) == ("Succeeded", 1)
    (event,) = first.get(f"/events?type=transaction_submitted&tx={transaction['id']}")
    assert (event["topic"], event["reference"]) == ("data_publish", transaction["id"])
    # What is in shared storage is not brought there again, and another member finds it.
    sent = first.post("/messages/broadcast?confirm=true", {"data": [{"id": stored["id"]}]}, 200)
    steps = first.get(f"/operations?tx={sent['txid']}&type=sharedstorage_upload_blob")
    assert steps == []
    second.wait_message(sent["header"]["id"])
    assert second.request("GET", f"/data/{stored['id']}/blob").body == content


async def test_publishing_over_grpc(network: RunningNetwork) -> None:
    from photinus.api.v1 import data_pb2, data_service_pb2

    async with Client(network.members[0].grpc_address) as client:
        made = await client.data.CreateData(
            data_service_pb2.CreateDataRequest(data=data_pb2.DataRefOrValue(value='"typed"'))
        )
        request = data_service_pb2.PublishDataValueRequest(
            id=made.data.id, publish=data_pb2.PublishInput(idempotency_key=new("typed"))
        )
        published = (await client.data.PublishDataValue(request)).data
        assert published.public
        with pytest.raises(PhotinusError) as taken:
            await client.data.PublishDataValue(request)
        with pytest.raises(PhotinusError) as none:
            await client.data.PublishDataBlob(
                data_service_pb2.PublishDataBlobRequest(id=made.data.id)
            )
    assert (taken.value.code, none.value.code) == ("FF10431", "FF10241")


@pytest.mark.parametrize("what", ["value", "blob"])
def test_what_cannot_be_published_is_refused(network: RunningNetwork, what: str) -> None:
    member = network.members[0]
    before = member.get("/transactions?type=data_publish&count&limit=1")["total"]
    value = member.post("/data", {"value": 1})["id"]
    long = publish(member, value, what, 400, idempotencyKey="k" * 257)
    assert long["error"].startswith("FF00135")
    unknown = publish(member, str(uuid.uuid4()), what, 404)
    assert unknown == {"error": "FF10109: Not found"}
    assert publish(member, "junk", what, 400)["error"].startswith("FF00138")
    if what == "blob":
        assert publish(member, value, what, 404)["error"].startswith("FF10241")
    path = f"/data/{value}/{what}/publish"
    assert member.request("POST", path, b"{}", {"Content-Type": "text/html"}).status == 415
    for body in (b"[]", b"1", b'{"idempotencyKey":1}', b"{", b"null"):
        assert member.request("POST", path, body, JSON).status == 400, body
    assert member.request("GET", path).status == 405
    assert member.get("/transactions?type=data_publish&count&limit=1")["total"] == before


def test_folders_of_blobs(network: RunningNetwork) -> None:
    member, root = network.members[0], new("folder")
    for name in (f"{root}/a/b/1.txt", f"/{root}/a/2.txt", f"{root}/a%2F/3", f"{root}x/4"):
        upload(member, b"x", metadata=f'{{"name":"{name}"}}')
    below = [f"/{root}/a", f"/{root}/a%2F", f"/{root}/a/b"]
    for path in (root, f"{root}/", f"%2F{root}", f"%2F{root}%2f"):
        assert member.get(f"/datasubpaths/{path}") == sorted(below), path
    assert member.get(f"/datasubpaths/{root}/a") == [f"/{root}/a/b"]
    assert member.get(f"/datasubpaths/{root}%2Fa") == [f"/{root}/a/b"]
    assert member.get(f"/datasubpaths/{root}/a%252F") == []
    assert member.get(f"/datasubpaths/{root}/a/b") == []
    assert member.get(f"/datasubpaths//{root}/a") == [f"/{root}/a/b"], "a redirection is followed"
    for path in ("/datasubpaths", "/datasubpaths/", "/namespaces/default/datasubpaths/"):
        found = member.get(path)
        assert found == sorted(set(found))
        assert {*below, f"/{root}x"} <= set(found)
