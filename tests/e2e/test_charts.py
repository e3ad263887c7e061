"""Charts over REST and gRPC count what lists show.

Method: the shared network; a histogram of a minute is compared with the lists of the same times.
"""

from __future__ import annotations

import time

import pytest
from photinus.api.v1 import chart_service_pb2
from photinus_client import Client, PhotinusError

from tests.support.network import Member, RunningNetwork

COLLECTIONS = ("messages", "transactions", "operations", "events", "blockchainevents")


def since(member: Member, filtered: str, begin: int, end: int) -> int:
    """How many rows of a list are in a span; two conditions on one field would mean either."""
    totals = [member.get(f"{filtered}=>={at}&count&limit=1")["total"] for at in (begin, end)]
    return int(totals[0] - totals[1])


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_a_histogram_counts_what_the_list_shows(network: RunningNetwork, collection: str) -> None:
    member = network.members[0]
    member.post("/messages/broadcast?confirm=true", {"data": [{"value": collection}]}, 200)
    end = int(time.time()) + 2
    start, middle = end - 600, end - 300
    found = member.get(f"/charts/histogram/{collection}?startTime={start}&endTime={end}&buckets=2")
    assert len(found) == 2
    when = "timestamp" if collection == "blockchainevents" else "created"
    for bucket, begin, behind in zip(found, (start, middle), (middle, end), strict=True):
        assert set(bucket) == {"count", "timestamp", "types", "isCapped"}
        assert bucket["timestamp"] == time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(begin))
        listed = since(member, f"/{collection}?{when}", begin, behind)
        assert bucket["count"] == str(min(listed, 100))
        assert bucket["isCapped"] == (listed > 100)
        kinds = {each["type"]: int(each["count"]) for each in bucket["types"]}
        if collection == "blockchainevents":
            assert kinds == {}
            continue
        assert sum(kinds.values()) == int(bucket["count"])
        for kind, count in kinds.items():
            total = since(member, f"/{collection}?type={kind}&{when}", begin, behind)
            assert count == total or bucket["isCapped"]
    assert int(found[1]["count"]) > 0


def test_there_are_no_token_transfers_to_count(network: RunningNetwork) -> None:
    path = "/namespaces/default/charts/histogram/tokentransfers?startTime=0&endTime=10&buckets=3"
    found = network.members[0].get(path)
    empty = {"count": "0", "types": [], "isCapped": False}
    assert found == [
        {**empty, "timestamp": "1970-01-01T00:00:00Z"},
        {**empty, "timestamp": "1970-01-01T00:00:03.333333333Z"},
        {**empty, "timestamp": "1970-01-01T00:00:06.666666666Z"},
    ]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("absent?startTime=1&endTime=2&buckets=1", "FF10301"),
        ("messages", "FF10299"),
        ("messages?startTime=1&endTime=2", "FF10299"),
        ("messages?startTime=1&endTime=x&buckets=1", "FF10299"),
        ("messages?startTime=1&endTime=2&buckets=0", "FF10298"),
        ("messages?startTime=1&endTime=2&buckets=101", "FF10298"),
        ("messages?startTime=2&endTime=1&buckets=1", "FF10300"),
    ],
)
def test_a_histogram_of_nonsense_is_refused(network: RunningNetwork, path: str, code: str) -> None:
    refused = network.members[0].get(f"/charts/histogram/{path}", 400)
    assert refused["error"].startswith(f"{code}: ")


async def test_charts_over_grpc(network: RunningNetwork) -> None:
    asked = chart_service_pb2.GetChartHistogramRequest(
        collection="events", start_time="0", end_time="2100-01-01T00:00:00Z", buckets="1"
    )
    async with Client(network.members[0].grpc_address) as client:
        (bucket,) = (await client.charts.GetChartHistogram(asked)).items
        assert int(bucket.count) == sum(int(each.count) for each in bucket.types) > 0
        asked.collection = "pins"
        with pytest.raises(PhotinusError) as refused:
            await client.charts.GetChartHistogram(asked)
    assert refused.value.code == "FF10301"
