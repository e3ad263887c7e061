"""Goal: a network runs on a shared storage in another language, in place of ipfs.

Method: `photinus up --plugins` with connectors/example-go, launched by the core of each member, on one
directory. A broadcast with a blob goes each way, one of them after the network was ended and started
again without the option.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from tests.support.network import Member, RunningNetwork, network_up
from tests.support.solo import program

CHUNKS = b"".join(number.to_bytes(4, "big") for number in range(400_000))  # 1.6 MB
PLUGINS = """
plugins:
  sharedstorage:
    - name: store
      type: example-go
      connector:
        launch: ["{program}"]
      example-go:
        directory: "{directory}"
"""


def test_members_share_blobs_by_the_connector_in_go(tmp_path: Path) -> None:
    directory, plugins, folder = (
        tmp_path / "shared",
        tmp_path / "plugins.yaml",
        tmp_path / "network",
    )
    go = program("photinus-example-go")
    plugins.write_text(PLUGINS.format(program=go, directory=directory))
    with network_up(folder, 2, "--plugins", str(plugins)) as network:
        first, second = network.members
        for member in network.members:
            (storage,) = (
                found for found in member.get("/connectors") if found["category"] == "sharedstorage"
            )
            assert (storage["name"], storage["type"]) == ("store", "example-go")
        hand_over(network, first, directory, CHUNKS)
    with network_up(folder) as again:
        first, second = again.members
        hand_over(again, second, directory, CHUNKS[::-1])
    assert not (folder / "content").exists()


def hand_over(network: RunningNetwork, sender: Member, directory: Path, content: bytes) -> None:
    """Broadcasts a blob; all confirm it and have its bytes, which went through the directory."""
    kind = "application/octet-stream"
    form = b"--b\r\nContent-Disposition: form-data; name=f; filename=f\r\nContent-Type: "
    form += kind.encode() + b"\r\n\r\n" + content + b"\r\n--b--\r\n"
    answer = sender.request(
        "POST", "/data", form, {"Content-Type": "multipart/form-data; boundary=b"}
    )
    assert answer.status == 201, answer.body
    data = answer.json["id"]
    sent = sender.post("/messages/broadcast", {"data": [{"id": data}]})["header"]["id"]
    for member in network.members:
        member.wait_message(sent)
        assert member.request("GET", f"/data/{data}/blob").body == content
    reference = hashlib.sha256(content).hexdigest()
    assert (directory / "objects" / reference).read_bytes() == content
