"""Goal: whatever a connector does wrong stays within its instance, and is told in one clear line to the
operator, and in one to its author.

Method: `tests.support.liar` in the test's process, and `tests.support.rude` as a child, each with one
fault; beside it runs an honest connector, which must notice nothing. What breaks the rules of the stream
is in `test_liars`.
"""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from photinus.connector.v1 import blockchain_pb2 as blockchain
from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import connector_pb2 as connector
from photinus.connector.v1 import event_pb2 as events
from photinus.connector.v1 import operation_pb2 as operations
from photinus_core.host import Category, ConnectorHost, InstanceConfig, link, stream
from photinus_core.ports.connectors import (
    ConnectorFailure,
    Disposition,
    Submission,
    WorkState,
)
from photinus_core.sequencing.connector_life import SECOND_NS, LifeLimits
from photinus_sdk import ConnectorError, ConnectorServer, Refused, Rejected

from tests.support.host import (
    StoringHandler,
    follow,
    hosting,
    shown,
    stream_of,
    submit_pin,
    until_state,
)
from tests.support.huge import Huge
from tests.support.ledger import Ledger
from tests.support.liar import CutError, Liar, LiarStream
from tests.support.rude import LINES
from tests.support.waiting import until

LOST = LifeLimits(restarts_max=1, cool_down_ns=600 * SECOND_NS)
"""Fails with the second end of a process, and stays so for the time of a test."""


@asynccontextmanager
async def beside_an_honest_one(
    run_dir: Path, config: InstanceConfig
) -> AsyncIterator[ConnectorHost]:
    """A host with a bad connector and a good one, which serves before and after."""
    address = f"unix:{run_dir}/good.sock"
    good = InstanceConfig("good", Category.BLOCKCHAIN, address=address)
    async with (
        ConnectorServer(Ledger, address, run_dir / "good"),
        hosting(run_dir, good, config) as host,
    ):
        await host.wait_ready("good", 20)
        yield host
        assert shown(host, "good").state == "ready"
        assert shown(host, "good").restarts == 0
        assert await host.blockchain("good").network_version("") == 2


def config_of(address: str) -> InstanceConfig:
    return InstanceConfig("bad", Category.BLOCKCHAIN, address=address)


def rude(behaviour: str, **fields: object) -> InstanceConfig:
    command = (sys.executable, "-m", "tests.support.rude", behaviour)
    return InstanceConfig("bad", Category.BLOCKCHAIN, launch=command, **fields)  # type: ignore[arg-type] # fields of one type each


def told(caplog: pytest.LogCaptureFixture, words: str) -> list[str]:
    """Lines for an operator that name the bad connector and say this."""
    lines = [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.WARNING and "bad" in record.getMessage()
    ]
    return [line for line in lines if words in line]


async def submitted(host: ConnectorHost) -> Submission:
    await host.wait_ready("bad", 20)
    return await submit_pin(host, "bad")


# Lies about itself.


def of_another_protocol(liar: Liar) -> None:
    liar.described.protocols[:] = ["v2", "v3"]


def of_another_kind(liar: Liar) -> None:
    liar.described.contracts[0].kind = connector.CONTRACT_KIND_TOKENS


def of_a_kind_nobody_knows(liar: Liar) -> None:
    liar.described.contracts[0].kind = 77  # type: ignore[assignment] # as a newer connector would


def with_a_schema_that_is_none(liar: Liar) -> None:
    liar.described.config_schema_json = '{"properties": [1, 2]}'


def with_a_schema_without_bottom(liar: Liar) -> None:
    liar.described.config_schema_json = '{"a":' * 20_000


def that_grows(liar: Liar) -> None:
    liar.configured.contracts[0].capabilities.append(connector.CAPABILITY_DEPLOY)


def that_changes_its_kind(liar: Liar) -> None:
    liar.configured.contracts[0].kind = connector.CONTRACT_KIND_SHARED_STORAGE


def that_is_huge(liar: Liar) -> None:
    liar.described.docs_url = "x" * (5 << 20)


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        (of_another_protocol, "FF19211"),
        (of_another_kind, "CONTRACT_KIND_TOKENS"),
        (of_a_kind_nobody_knows, "contract 77"),
        (with_a_schema_that_is_none, "its configuration schema"),
        (with_a_schema_without_bottom, "its configuration schema"),
        (that_grows, "more than Describe"),
        (that_changes_its_kind, "FF19208"),
        (that_is_huge, "RESOURCE_EXHAUSTED"),
    ],
)
async def test_a_lie_in_describe_is_refused_with_its_reason(
    run_dir: Path,
    liar: Liar,
    caplog: pytest.LogCaptureFixture,
    lie: Callable[[Liar], None],
    words: str,
) -> None:
    lie(liar)
    async with (
        liar.served(run_dir) as address,
        beside_an_honest_one(run_dir, config_of(address)) as host,
    ):
        info = await until_state(host, "bad", "failed")
        assert words in info.last_error
        assert len(info.last_error) <= 1000
        assert "\n" not in info.last_error
        assert len(told(caplog, words)) == 1
        await until(lambda: liar.notified)
        refusal = liar.notified[-1]
        assert not refusal.accepted
        assert words in refusal.reason


async def test_odd_numbers_and_names_are_shown_and_do_no_harm(run_dir: Path, liar: Liar) -> None:
    liar.described.version = "1\n2" + "x" * 100_000
    contract = liar.configured.contracts[0]
    contract.limits.max_message_bytes = contract.limits.idempotency_retention_s = (1 << 64) - 1
    contract.limits.max_in_flight = (1 << 32) - 1
    liar.described.contracts[0].capabilities.append(99)  # type: ignore[arg-type] # a newer one's
    contract.capabilities.append(99)  # type: ignore[arg-type] # likewise
    async with (
        liar.served(run_dir) as address,
        beside_an_honest_one(run_dir, config_of(address)) as host,
    ):
        assert (await submitted(host)).external_id == "0x1"
        info = shown(host, "bad")
        assert info.version.startswith("1 2xxx")
        assert len(info.version) <= 1000
        assert info.capabilities == ()


async def test_states_and_fields_nobody_knows_do_no_harm(run_dir: Path, liar: Liar) -> None:
    newer = connector.WatchStatusResponse(state=42)  # type: ignore[arg-type] # a newer connector's
    well = connector.WatchStatusResponse(state=connector.RUNTIME_STATE_OK)
    # Field 500, a text: what a newer connector may say besides.
    liar.described.MergeFromString(b"\xa2\x1f\x05newer")
    liar.statuses = [newer]

    async def odd() -> blockchain.SubmitBatchPinResponse:
        submission = common.Submission(state=77, external_id="0x1")  # type: ignore[arg-type] # likewise
        return blockchain.SubmitBatchPinResponse(submission=submission)

    liar.submit = odd
    async with (
        liar.served(run_dir) as address,
        beside_an_honest_one(run_dir, config_of(address)) as host,
    ):
        info = await until_state(host, "bad", "degraded")
        assert "state 42" in info.last_error
        result = await submitted(host)
        assert result.state is WorkState.PENDING, "not known to be an end"
        liar.statuses = [well]
        host.restart("bad")
        await until_state(host, "bad", "ready")


async def test_events_nobody_can_read_end_the_stream_with_a_word_to_both(
    run_dir: Path, liar: Liar, caplog: pytest.LogCaptureFixture, quick: None
) -> None:
    async def beyond(s: LiarStream) -> None:
        await s.opened()
        event = events.Event(id="a/1", listener_id="a")
        event.network_action.chain.position.block = (1 << 64) - 1
        await s.send(batch=events.Batch(seq=1, events=[event]))
        await asyncio.Event().wait()

    liar.script = beyond
    async with (
        liar.served(run_dir) as address,
        beside_an_honest_one(run_dir, config_of(address)) as host,
    ):
        await host.wait_ready("bad", 20)
        handler = StoringHandler()
        await follow(host, "bad", handler)
        await until(lambda: len(liar.opens) >= 2)
        assert len(told(caplog, "breaks the protocol")) == 1
        assert not handler.ids
        assert shown(host, "bad").state == "ready"


async def test_the_author_reads_which_rule_was_broken(
    run_dir: Path, liar: Liar, quick: None
) -> None:
    async def early(s: LiarStream) -> None:
        await s.batch(1, 1)
        await asyncio.Event().wait()

    liar.script = early
    async with (
        liar.served(run_dir) as address,
        beside_an_honest_one(run_dir, config_of(address)) as host,
    ):
        await host.wait_ready("bad", 20)
        await follow(host, "bad", StoringHandler())
        await until(lambda: any("EVT-001" in found.reason for found in liar.notified))
        complaint = next(found for found in liar.notified if found.reason)
        assert complaint.accepted, "it stays in use"
        assert complaint.reason.startswith("the event stream of ns1 was closed: EVT-001")


# Too much.


async def test_a_frame_beyond_the_limit_ends_the_stream(
    run_dir: Path, liar: Liar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "REOPEN_LAST_S", 0.1)

    async def large(s: LiarStream) -> None:
        await s.opened()
        await s.batch(1, 1, payload="x" * (5 << 20))
        await asyncio.Event().wait()

    liar.script = large
    async with (
        liar.served(run_dir) as address,
        beside_an_honest_one(run_dir, config_of(address)) as host,
    ):
        await host.wait_ready("bad", 20)
        handler = StoringHandler()
        await follow(host, "bad", handler)
        await until(lambda: len(liar.opens) >= 2)
        assert "RESOURCE_EXHAUSTED" in stream_of(host, "bad")
        assert not handler.ids
        assert (await submitted(host)).external_id == "0x1", "calls go on"


async def test_an_announced_answer_of_four_gigabytes_is_refused_unread(run_dir: Path) -> None:
    async with (
        Huge().served(run_dir) as address,
        beside_an_honest_one(run_dir, config_of(address)) as host,
    ):
        before = psutil.Process().memory_info().rss
        info = await until_state(host, "bad", "failed")
        assert "RESOURCE_EXHAUSTED" in info.last_error
        assert psutil.Process().memory_info().rss - before < 1 << 30


async def huge_details() -> blockchain.SubmitBatchPinResponse:
    metadata: dict[str, Any] = {f"detail{n}": "y" * 1000 for n in range(100)}
    raise Rejected("x" * 100_000, **metadata)


async def huge_text() -> blockchain.SubmitBatchPinResponse:
    raise OversizedError("z" * 100_000)


class OversizedError(ConnectorError):
    """An error that is not cut, as those of the kit are."""

    @property
    def headline(self) -> str:
        return self.message

    def to_status(self) -> Any:
        status = super().to_status()
        status.message = self.message
        return status


@pytest.mark.parametrize("answer", [huge_details, huge_text])
async def test_an_error_of_100_kilobytes_is_one_line(
    run_dir: Path, liar: Liar, answer: Callable[[], Awaitable[blockchain.SubmitBatchPinResponse]]
) -> None:
    async def failed() -> operations.GetOperationResponse:
        raise Refused("never heard of it", reason="UNKNOWN_KEY")

    liar.submit, liar.operation = answer, failed
    async with (
        liar.served(run_dir) as address,
        beside_an_honest_one(run_dir, config_of(address)) as host,
    ):
        with pytest.raises(ConnectorFailure) as caught:
            await submitted(host)
        assert len(str(caught.value)) <= 2048
        assert sum(map(len, caught.value.details.values())) <= 17_000
        assert caught.value.disposition in {Disposition.MAYBE_SENT, Disposition.NOT_SENT}
        assert shown(host, "bad").state == "ready"


# Processes.


@pytest.mark.parametrize("secret", ["hunter22-password", 'with "quotes" and ü'])
async def test_secrets_a_process_prints_do_not_reach_our_log(
    run_dir: Path, caplog: pytest.LogCaptureFixture, secret: str
) -> None:
    caplog.set_level(logging.DEBUG)
    config = rude("prints", config={"password": secret, "KEYS": [f"{secret}-2"]})
    async with beside_an_honest_one(run_dir, config) as host:
        await host.wait_ready("bad", 30)
        await until(lambda: caplog.text.count("***") >= 4)
    assert secret not in caplog.text
    lines = [r for r in caplog.records if r.name == "photinus.connector.bad"]
    assert any(r.getMessage().startswith("my configuration is {") for r in lines)
    assert all(secret not in str(vars(record)) for record in lines)


async def test_a_process_that_floods_the_log_is_cut(
    run_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with beside_an_honest_one(run_dir, rude("floods")) as host:
        await host.wait_ready("bad", 60)
        await host.remove("bad")
    lines = [r.getMessage() for r in caplog.records if r.name == "photinus.connector.bad"]
    dropped = [line for line in lines if "lines were dropped: too many in a second" in line]
    assert dropped
    assert sum(int(line.split()[0]) for line in dropped) + len(lines) - len(dropped) == LINES


async def test_a_process_that_never_drains_is_ended(
    run_dir: Path, caplog: pytest.LogCaptureFixture, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "DRAIN_S", 0.2)
    async with beside_an_honest_one(run_dir, rude("stays")) as host:
        await host.wait_ready("bad", 30)
        child = host._supervisors["bad"]._link.child
        assert child is not None
        await host.remove("bad")
        assert not psutil.pid_exists(child.pid)
    assert len(told(caplog, "did not drain")) == 1


async def test_a_process_that_crashes_while_it_is_configured_is_given_up(
    run_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with beside_an_honest_one(run_dir, rude("crashes", limits=LOST)) as host:
        info = await until_state(host, "bad", "failed")
        assert info.last_error == "ended 2 times within 60 s: the process ended with status 7"
        assert len(told(caplog, "bad is failed: ended 2 times")) == 1


async def test_an_attached_connector_that_ends_while_it_is_configured_is_dialled_again(
    run_dir: Path, liar: Liar
) -> None:
    calls = 0

    async def cut(_: connector.ConfigureRequest) -> None:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise CutError

    liar.configure = cut
    async with (
        liar.served(run_dir) as address,
        beside_an_honest_one(run_dir, config_of(address)) as host,
    ):
        await host.wait_ready("bad", 30)
        assert calls == 3


async def test_another_version_after_a_reconnect_is_told_and_configured(
    run_dir: Path, liar: Liar, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    configured: list[str] = []

    async def configure(request: connector.ConfigureRequest) -> None:
        configured.append(request.config_json)

    liar.configure = configure
    config = InstanceConfig(
        "bad", Category.BLOCKCHAIN, address=f"unix:{run_dir}/liar.sock", config={"size": "7"}
    )
    async with beside_an_honest_one(run_dir, config) as host:
        handler = StoringHandler()
        async with liar.served(run_dir):
            await host.wait_ready("bad", 20)
            await follow(host, "bad", handler)
            await until(lambda: stream_of(host, "bad").startswith("open"))
        await until_state(host, "bad", "unreachable")
        liar.described.version = "2.0.0"
        liar.described.config_schema_json = '{"properties": {"size": {"type": "integer"}}}'
        async with liar.served(run_dir):
            await until_state(host, "bad", "ready")
            await until(lambda: stream_of(host, "bad").startswith("open"))
            assert shown(host, "bad").version == "2.0.0"
            assert configured == ['{"size": "7"}', '{"size": 7}']
            assert handler.resumed >= 2
    assert "connector bad: 1.0.0 became 2.0.0" in caplog.text
