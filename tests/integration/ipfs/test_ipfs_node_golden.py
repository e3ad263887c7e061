"""Goal: the test node answers as the recorded Kubo does, so that what passes on it would pass on Kubo.

Method: every recorded request, in the order of the file names (adds come before reads), byte for byte: status, body and
all recorded headers. Only what is a node's own (its key, its repository) is compared by its form.
"""

import base64
import http.client
import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.ipfs.conftest import Node, start_node, stop_node

GOLDEN = Path(__file__).resolve().parents[2] / "data" / "golden" / "ipfs"
CASES = sorted(path.stem for path in GOLDEN.glob("*.json"))
OWN_BODY = {"id", "repo_stat", "version"}
BOUNDARY = b"photinusgolden"


@pytest.fixture(scope="module")
def fresh_node() -> Any:
    """Empty at the start: one case expects a file that another test may add."""
    running = start_node()
    yield running
    stop_node(running)


def body_of(request: dict[str, Any]) -> bytes:
    if request["body_b64"] is not None:
        return base64.b64decode(request["body_b64"])
    head = (
        b'--%s\r\nContent-Disposition: form-data; name="file"; filename="f300"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n" % BOUNDARY
    )
    return head + bytes(range(256)) * 1200 + b"\r\n--%s--\r\n" % BOUNDARY


def test_all_recorded_answers_are_here() -> None:
    assert len(CASES) == 29


@pytest.mark.parametrize("case", CASES)
def test_answer_is_that_of_kubo(fresh_node: Node, case: str) -> None:
    golden = json.loads((GOLDEN / f"{case}.json").read_text())
    request, wanted = golden["request"], golden["response"]
    address = fresh_node.rpc if request["surface"] == "rpc" else fresh_node.gateway
    connection = http.client.HTTPConnection(address, timeout=10)
    connection.request(
        request["method"], request["target"], body_of(request) or None, request["headers"]
    )
    response = connection.getresponse()
    body = response.read()
    headers = dict(response.getheaders())
    connection.close()
    wanted_body = base64.b64decode(wanted["body_b64"])
    assert response.status == wanted["status"]
    if case in OWN_BODY:
        found, model = json.loads(body), json.loads(wanted_body)
        assert list(found) == list(model)
        assert [type(value) for value in found.values()] == [
            type(value) for value in model.values()
        ]
    else:
        assert body == wanted_body
    assert {name: headers.get(name) for name in wanted["headers"]} == wanted["headers"]
