"""Goal: sockets, uploads, documents, streams and commands are guarded like calls, and changes count at once.

Method: the guarded node, used as applications, browsers and operators use it.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import aiohttp
import grpc
import pytest
import yaml
from photinus.api.v1 import event_pb2, namespace_service_pb2
from photinus_client import Client, PhotinusError, basic, bearer

from tests.integration.access.conftest import USERS, Guarded
from tests.support.rest import wait_until
from tests.support.tokens import password_file

WAIT_S: Final = 60.0
UNKNOWN: Final = 401
REFUSED: Final = 403


@pytest.fixture
async def web() -> Any:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=WAIT_S)) as session:
        yield session


# Sockets.


async def upgrade(
    web: aiohttp.ClientSession, url: str, headers: Mapping[str, str] | None = None
) -> int:
    """Status that an upgrade is answered with; 101 for a socket."""
    try:
        async with web.ws_connect(url, headers=headers):
            return 101
    except aiohttp.WSServerHandshakeError as failure:
        return failure.status


@pytest.mark.parametrize(
    "path",
    ["/ws?namespace=red&ephemeral", "/ws?namespace=blue&name=x", "/api/v1/namespaces/blue/ws"],
)
async def test_sockets_that_start_by_their_url(
    guarded: Guarded, web: aiohttp.ClientSession, path: str
) -> None:
    url = guarded.node.url + path
    assert await upgrade(web, url) == UNKNOWN
    assert await upgrade(web, url, guarded.user("root", "a guess")) == UNKNOWN
    assert await upgrade(web, url, guarded.token("operators", lasts_s=-10)) == UNKNOWN
    assert await upgrade(web, url, guarded.token("strangers")) == REFUSED
    assert await upgrade(web, url, guarded.token("operators")) == 101


async def test_sockets_of_an_open_namespace(guarded: Guarded, web: aiohttp.ClientSession) -> None:
    async with web.ws_connect(guarded.node.url + "/ws?namespace=open&ephemeral") as socket:
        await socket.send_json({"type": "start", "namespace": "red", "ephemeral": True})
        told = await socket.receive_json()
        assert told == {
            "type": "protocol_error",
            "error": "FF10176: Invalid data: FF00169: Unauthorized",
        }
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE


@pytest.mark.parametrize(
    ("who", "start", "told"),
    [
        ("reader", {"namespace": "red", "ephemeral": True}, ""),
        ("reader", {"namespace": "open", "ephemeral": True}, ""),
        (
            "reader",
            {"namespace": "red", "name": "durable"},
            "FF00170: Forbidden: this needs the role writer",
        ),
        ("reader", {"namespace": "blue", "ephemeral": True}, "FF00169: Unauthorized"),
    ],
)
async def test_frames_that_start(
    guarded: Guarded, web: aiohttp.ClientSession, who: str, start: Mapping[str, Any], told: str
) -> None:
    headers = guarded.user(who)
    async with web.ws_connect(guarded.node.url + "/ws", headers=headers) as socket:
        await socket.send_json({"type": "start", **start})
        if told:
            assert told in (await socket.receive_json())["error"]
            return

        def is_started() -> bool:
            found = guarded.node.request("GET", "/websockets", headers=guarded.user("root")).json
            names = [s["namespace"] for c in found["connections"] for s in c["subscriptions"]]
            return start["namespace"] in names

        await asyncio.to_thread(wait_until, is_started, WAIT_S)


async def test_a_page_sends_its_token_as_a_subprotocol(
    guarded: Guarded, web: aiohttp.ClientSession
) -> None:
    token = guarded.token("writers")["Authorization"].removeprefix("Bearer ")
    url = guarded.node.url + "/ws?namespace=blue&ephemeral"
    async with web.ws_connect(url, protocols=("photinus", f"bearer.{token}")) as socket:
        assert socket.protocol == "photinus"


async def test_a_socket_ends_with_its_token(guarded: Guarded, web: aiohttp.ClientSession) -> None:
    url = guarded.node.url + "/ws?namespace=blue&ephemeral"
    for lasts_s in (3, 12, 48):  # longer where opening a socket takes longer than the token lasts
        headers = guarded.token("writers", lasts_s=lasts_s)
        try:
            async with web.ws_connect(url, headers=headers) as socket:
                told = await asyncio.wait_for(socket.receive_json(), lasts_s + WAIT_S)
                assert "FF00169: Unauthorized: the token has expired" in told["error"]
                assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
                return
        except aiohttp.WSServerHandshakeError:
            continue
    raise AssertionError("no socket opened before its token expired")


# Uploads, documents.


async def upload(web: aiohttp.ClientSession, url: str, headers: Mapping[str, str]) -> int:
    form = aiohttp.FormData()
    form.add_field("file", b"x" * 300_000, filename="x")
    async with web.post(url, data=form, headers=headers) as answer:
        await answer.read()
        return answer.status


@pytest.mark.parametrize("path", ["/api/v1/data", "/api/v1/namespaces/red/data"])
async def test_uploads(guarded: Guarded, web: aiohttp.ClientSession, path: str) -> None:
    url = guarded.node.url + path
    assert await upload(web, url, {}) == UNKNOWN
    assert await upload(web, url, guarded.user("root", "a guess")) == UNKNOWN
    assert await upload(web, url, guarded.user("reader")) == REFUSED
    # A namespace without a data exchange takes none: who may is told so.
    assert await upload(web, url, guarded.user("writer")) not in (UNKNOWN, REFUSED)


async def test_documents(guarded: Guarded, web: aiohttp.ClientSession) -> None:
    async def status(path: str, headers: Mapping[str, str] | None = None) -> int:
        async with web.get(guarded.node.url + path, headers=headers) as answer:
            return answer.status

    document = "/api/v1/namespaces/blue/api/openapi.json"
    assert await status(document) == UNKNOWN
    assert await status(document, guarded.user("reader")) == UNKNOWN  # blue wants tokens
    assert await status(document, guarded.token("strangers")) == REFUSED
    assert await status(document, guarded.token("readers")) == 200
    assert await status("/api/v1/namespaces/open/api/openapi.yaml") == 200
    assert await status("/api/swagger.json", guarded.user("root", "a guess")) == UNKNOWN
    assert await status("/api/swagger.json", guarded.user("reader")) == 200


def test_namespaces_are_listed_to_who_may_read_them(guarded: Guarded) -> None:
    def names(headers: Mapping[str, str] | None = None) -> list[str]:
        found = guarded.node.request("GET", "/namespaces", headers=headers).json
        return [each["name"] for each in found]

    assert names() == ["open"]
    assert names(guarded.user("reader")) == ["open", "red"]
    assert names(guarded.token("readers")) == ["blue", "open"]
    assert names(guarded.token("operators")) == ["blue", "open", "red"]


# Those who send as one identity.


def test_one_identity(guarded: Guarded) -> None:
    root, clerk = guarded.user("root"), guarded.user("clerk")

    def post(path: str, body: str, headers: Mapping[str, str], method: str = "POST") -> Any:
        sent = {"Content-Type": "application/json", **headers}
        return guarded.node.request(method, path, body.encode(), sent)

    made = {}
    for name in ("acme", "other"):
        answer = post("/identities", f'{{"name":"{name}","type":"org"}}', root)
        assert answer.status in (200, 202), answer
        made[name] = answer.json["id"]
    child = post("/identities", '{"name":"child"}', clerk)
    assert child.status == 200
    assert child.json["parent"] == made["acme"]
    assert post("/identities", '{"name":"c2","parent":"other"}', clerk).status == REFUSED
    update = '{"profile":{"a":1}}'
    assert post(f"/identities/{made['acme']}", update, clerk, "PATCH").status == 200
    assert post(f"/identities/{made['other']}", update, clerk, "PATCH").status == REFUSED
    message = '{{"header":{{"author":"{}"}},"data":[{{"value":"x"}}]}}'
    for kind in ("broadcast", "private", "requestreply"):
        assert post(f"/messages/{kind}", message.format("other"), clerk).status == REFUSED
        assert post(f"/messages/{kind}", message.format("acme"), clerk).status not in (
            UNKNOWN,
            REFUSED,
        )
    hook = (
        '{"name":"hook","transport":"webhooks","options":{"url":"http://127.0.0.1:1","reply":%s}}'
    )
    assert post("/subscriptions", hook % "true", clerk).status == REFUSED
    assert post("/subscriptions", hook % "false", clerk).status == 201


# Changes.


def test_a_changed_password_file(guarded: Guarded, folder: Path) -> None:
    file = folder / "users"
    former = file.read_text()
    new = guarded.user("root", "another secret")
    try:
        file.write_text(password_file(**{**USERS, "root": "another secret"}))
        wait_until(lambda: guarded.status("GET", "/status", new) == 200, WAIT_S)
        assert guarded.status("GET", "/status", guarded.user("root")) == UNKNOWN
        file.write_text("root:plain text\n")

        def is_told() -> bool:
            found = guarded.node.request("GET", "/status", headers=new).json
            return any(c["type"] == "auth" for c in found.get("conditions", ()))

        wait_until(is_told, WAIT_S)
    finally:
        file.write_text(former)
    wait_until(lambda: guarded.status("GET", "/status", guarded.user("root")) == 200, WAIT_S)


def test_rotated_keys(guarded: Guarded, folder: Path) -> None:
    guarded.issuer.add("second")
    later = guarded.token("operators", key="second")
    assert guarded.status("GET", "/status", later) == UNKNOWN
    (folder / "keys.json").write_text(guarded.issuer.key_set())
    wait_until(lambda: guarded.status("GET", "/status", later) == 200, WAIT_S)
    assert guarded.status("GET", "/status", guarded.token("operators")) == 200


def test_changed_grants(guarded: Guarded, folder: Path) -> None:
    """The file is followed; namespaces that did not change are not restarted."""
    path = folder / "photinus.core.yaml"
    former = path.read_text()
    changed = yaml.safe_load(former)
    changed["plugins"]["auth"][0]["grants"].insert(0, {"users": "reader", "role": "operator"})
    reader = guarded.user("reader")
    assert guarded.status("GET", "/cluster", reader) == REFUSED
    try:
        path.write_text(yaml.safe_dump(changed, sort_keys=False))
        wait_until(lambda: guarded.status("GET", "/cluster", reader) == 200, WAIT_S)
    finally:
        path.write_text(former)
    wait_until(lambda: guarded.status("GET", "/cluster", reader) == REFUSED, WAIT_S)
    log = (folder / "core.log").read_text()
    assert "changed auth" in log
    assert "namespaces restarted" not in log


# Our own client, and the commands.


async def test_the_client_says_who_calls(guarded: Guarded) -> None:
    address = guarded.node.grpc_address
    request = namespace_service_pb2.GetStatusRequest()
    async with Client(address) as client:
        with pytest.raises(PhotinusError, match="FF00169") as caught:
            await client.namespaces.GetStatus(request)
        assert (caught.value.http_status, caught.value.grpc_status) == (
            UNKNOWN,
            grpc.StatusCode.UNAUTHENTICATED,
        )
    tokens = iter((guarded.token("operators"), guarded.token("strangers")))
    renewed = Client(address, authorization=lambda: next(tokens)["Authorization"])
    async with renewed as client:
        await client.namespaces.GetStatus(request)
        with pytest.raises(PhotinusError, match="FF00170"):
            await client.namespaces.GetStatus(request)
    async with Client(address, authorization=basic("writer", USERS["writer"])) as client:
        with pytest.raises(PhotinusError) as caught:
            await client.upload(_pieces())
        assert caught.value.http_status not in (UNKNOWN, REFUSED)
    async with Client(address, authorization=basic("reader", USERS["reader"])) as client:
        with pytest.raises(PhotinusError, match="FF00170: Forbidden: this needs the role writer"):
            async with client.subscribe(event_pb2.Start(namespace="red", name="durable")) as events:
                await asyncio.wait_for(anext(aiter(events)), WAIT_S)
    assert bearer("x") == "Bearer x"


async def _pieces() -> Any:
    yield b"x"


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "photinus_core.app.cli", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )


def test_commands_say_who_asks(guarded: Guarded, tmp_path: Path) -> None:
    api = ("--api", guarded.node.grpc_address)
    without = command("cluster", *api)
    assert (without.returncode, "FF00169: Unauthorized" in without.stderr) == (1, True)
    root = command("cluster", *api, PHOTINUS_USER="root", PHOTINUS_PASSWORD=USERS["root"])
    assert root.returncode == 0, root.stderr
    (tmp_path / "token").write_text(
        guarded.token("writers")["Authorization"].removeprefix("Bearer ") + "\n"
    )
    writer = command("connectors", *api, "--token-file", str(tmp_path / "token"))
    assert "FF00170" in writer.stderr


def test_no_secret_is_in_the_logs(guarded: Guarded, folder: Path) -> None:
    """Runs last of this file: whatever was sent before is looked for."""
    assert guarded.status("GET", "/status", guarded.user("root", "a guess")) == UNKNOWN
    for name in ("core.log", "gateway.log"):
        log = (folder / name).read_text()
        for secret in (*guarded.secrets, *USERS.values(), "a guess"):
            assert secret not in log
