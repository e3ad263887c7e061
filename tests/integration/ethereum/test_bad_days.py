"""Goal: nothing is lost and nothing is done twice when processes die, nodes restart and chains are rewritten.

Method: the connector as its own process or in the test's; anvil and geth made to reorganise, to stop mining, to
drop transactions and to go away; at the end the chain itself is counted.
"""

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from photinus.connector.v1 import common_pb2 as common
from photinus.connector.v1 import connector_pb2 as connector
from photinus.connector.v1 import operation_pb2 as operations

from tests.support.chains import DEV_ADDRESSES, DEV_KEYS, Chain, anvil, geth
from tests.support.ethereum_core import (
    STREAM,
    Core,
    code_of,
    multiparty,
    mutation,
    pin_hash,
    settings,
)
from tests.support.wire import Child, child, dialled, reason_of

BURST = 1_000
WORKERS = 50
WAIT_S = 30.0


@asynccontextmanager
async def process(run_dir: Path) -> AsyncIterator[tuple[Child, Core]]:
    """The connector as a process, on the state it left behind."""
    socket = run_dir / f"{len(list(run_dir.glob('*.sock')))}.sock"
    command = ["-m", "photinus_ethereum", "--address", f"unix:{socket}", "--log-level", "warning"]
    async with (
        child(*command, "--data-dir", str(run_dir / "data")) as running,
        dialled(running.address) as wire,
    ):
        yield running, Core(wire)


async def until(done: Callable[[], Awaitable[bool]], what: str) -> None:
    try:
        async with asyncio.timeout(WAIT_S):
            while not await done():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"{what} did not come true") from None


async def pin_all(core: Core, contract: str, keys: list[str]) -> None:
    """All keys, several at a time, as a busy core does it."""
    room = asyncio.Semaphore(WORKERS)

    async def one(key: str) -> None:
        async with room:
            await core.pin(key, contract)

    async with asyncio.TaskGroup() as group:
        for key in keys:
            group.create_task(one(key))


async def pins_on(chain: Chain, contract: str) -> Counter[str]:
    """How often each batch hash is on the chain, by its logs."""
    logs = await chain.call("eth_getLogs", {"fromBlock": "0x0", "address": contract})
    return Counter(log["data"][2 + 64 * 4 : 2 + 64 * 5] for log in logs)


@pytest.mark.parametrize("after", [1, 40, 150])
async def test_kill_9_in_a_burst_leaves_one_transaction_per_key(run_dir: Path, after: int) -> None:
    keys = [f"ns1:{n}" for n in range(300)]
    async with anvil() as chain:
        contract = await chain.deploy("Firefly")
        async with process(run_dir) as (running, core):
            await core.wire.configure(settings(chain))
            answered = 0
            room = asyncio.Semaphore(WORKERS)

            async def one(key: str) -> None:
                nonlocal answered
                async with room:
                    await core.pin(key, contract)
                answered += 1
                if answered == after:
                    os.killpg(running.process.pid, signal.SIGKILL)

            # Those under way when the process dies end with an error.
            tasks = [asyncio.create_task(one(key)) for key in keys]
            await asyncio.wait(tasks)
            assert await running.ended() == -signal.SIGKILL
            failed = sum(task.exception() is not None for task in tasks)
            assert failed
        async with process(run_dir) as (_, core):
            await core.wire.configure(settings(chain))
            async with core.listening(multiparty(contract), epoch=2):
                for key in keys:
                    await core.pin(key, contract, context=mutation(key, 2))
                for key in keys:
                    assert (await core.ended(key)).state == common.OPERATION_STATE_SUCCEEDED
                await core.until(lambda: len(core.pins()) == len(keys))
        expected = {pin_hash(key, contract): 1 for key in keys}
        assert await pins_on(chain, contract) == expected
        assert await chain.nonce(DEV_ADDRESSES[0]) == len(keys)


async def test_a_thousand_pins(run_dir: Path) -> None:
    """Every one on the chain, told and ended once, in the order of the chain. Prints what it took."""
    keys = [f"ns1:{n}" for n in range(BURST)]
    async with anvil() as chain:
        contract = await chain.deploy("Firefly")
        async with process(run_dir) as (running, core):
            await core.wire.configure(settings(chain))
            async with core.listening(multiparty(contract)):
                await core.pin("ns1:warm", contract)
                await core.ended("ns1:warm")
                before_s, began = (
                    cpu_seconds(running.process.pid),
                    asyncio.get_running_loop().time(),
                )
                await pin_all(core, contract, keys)
                for key in keys:
                    assert (await core.ended(key)).state == common.OPERATION_STATE_SUCCEEDED
                await core.until(lambda: len(core.pins()) == len(keys) + 1)
                took_s = asyncio.get_running_loop().time() - began
                used_s = cpu_seconds(running.process.pid) - before_s
        print(f"{BURST / took_s:.0f} pins/s to the end, {used_s / BURST * 1e3:.2f} ms of CPU each")
        order = [event.batch_pin.chain.position for event in core.events]
        places = [(place.block, place.transaction_index, place.log_index) for place in order]
        assert places == sorted(places)
        assert set((await pins_on(chain, contract)).values()) == {1}


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def test_events_resume_behind_the_checkpoint(core: Core, anvil_chain: Chain) -> None:
    await core.wire.configure(settings(anvil_chain))
    contract = await anvil_chain.deploy("Firefly")
    async with core.listening(multiparty(contract)):
        await pin_all(core, contract, [f"ns1:{n}" for n in range(20)])
        await core.until(lambda: len(core.pins()) == 20)
    first = list(core.pins())
    core.events.clear()
    await pin_all(core, contract, [f"ns1:{n}" for n in range(20, 30)])
    async with core.listening(multiparty(contract), epoch=2):
        await core.until(lambda: len(core.pins()) == 10)
        for n in range(20, 30):
            await core.ended(f"ns1:{n}")
    assert not set(first) & set(core.pins())


async def test_without_a_subscription_the_head_is_polled(core: Core, anvil_chain: Chain) -> None:
    rpc = {"url": anvil_chain.url, "pollS": 0.05}
    await core.wire.configure(settings(anvil_chain, rpc=rpc))
    contract = await anvil_chain.deploy("Firefly")
    async with core.listening(multiparty(contract)):
        await core.pin("ns1:1", contract)
        await core.ended("ns1:1")
        await core.until(lambda: len(core.pins()) == 1)


async def test_confirmations_hold_back_events_and_ends(core: Core) -> None:
    async with anvil() as chain:
        await core.wire.configure(settings(chain, confirmations=3))
        contract = await chain.deploy("Firefly")
        async with core.listening(multiparty(contract)):
            await core.pin("ns1:1", contract)
            await until(lambda: nonce_is(chain, 1), "the pin on the chain")
            block = await chain.head()
            await chain.mine(2)
            await core.until(lambda: core.final_blocks.get("pins", 0) >= block - 1)
            assert core.pins() == []
            assert core.updates == {}
            await chain.mine()
            await core.ended("ns1:1")
            await core.until(lambda: len(core.pins()) == 1)


async def nonce_is(chain: Chain, count: int) -> bool:
    return await chain.nonce(DEV_ADDRESSES[0]) == count


async def test_a_reorganisation_on_anvil(core: Core, anvil_chain: Chain) -> None:
    """Lost transactions are sent again; events come as removed, then once more at their new place."""
    chain = anvil_chain
    await core.wire.configure(settings(chain))
    contract = await chain.deploy("Firefly")
    keys = [f"ns1:{n}" for n in range(4)]
    async with core.listening(multiparty(contract)):
        for key in keys:
            await core.pin(key, contract)
            await core.ended(key)
        await core.until(lambda: len(core.pins()) == 4)
        # Parameters by position: anvil refuses an object.
        await chain.call("anvil_reorg", 3, [])
        await core.until(lambda: any(event.removed for event in core.events), "a removed event")
        await core.until(lambda: len(core.pins()) == 4, "all pins again")
        await core.pin("ns1:after", contract)
        await core.ended("ns1:after")
        await core.until(lambda: len(core.pins()) == 5)
    assert sorted(core.pins()) == sorted(pin_hash(key, contract) for key in [*keys, "ns1:after"])
    assert set((await pins_on(chain, contract)).values()) == {1}


async def test_a_reorganisation_on_geth(core: Core) -> None:
    """geth drops what debug_setHead cuts off, tells nobody, and gives nonces back."""
    async with geth() as chain:
        await core.wire.configure(settings(chain))
        contract = await chain.deploy("Firefly")
        async with core.listening(multiparty(contract)):
            for n in range(3):
                await core.pin(f"ns1:{n}", contract)
                await core.ended(f"ns1:{n}")
            await core.until(lambda: len(core.pins()) == 3)
            await chain.call("debug_setHead", hex(await chain.head() - 2))
            await until(lambda: nonce_is(chain, 3), "the lost pins on the chain again")
            await core.until(lambda: any(event.removed for event in core.events))
            await core.until(lambda: len(core.pins()) == 3)
        assert sorted(core.pins()) == sorted(pin_hash(f"ns1:{n}", contract) for n in range(3))
        assert set((await pins_on(chain, contract)).values()) == {1}


async def test_a_stuck_transaction_is_replaced_for_a_higher_fee(core: Core) -> None:
    async with anvil() as chain:
        contract = await chain.deploy("Firefly")
        await chain.call("evm_setAutomine", False)
        await core.wire.configure(settings(chain, fees={"replaceAfterS": 0.3}))
        async with core.listening(multiparty(contract)):
            first = await core.pin("ns1:1", contract)
            second = await core.pin("ns1:2", contract)

            async def replaced() -> bool:
                pool = await chain.call("txpool_content")
                waiting = pool["pending"].get(DEV_ADDRESSES[0]) or {}
                hashes = {tx["hash"] for tx in waiting.values()}
                return len(hashes) == 2 and not hashes & {first.external_id, second.external_id}

            await until(replaced, "two replacements")
            await chain.mine()
            for key, submission in (("ns1:1", first), ("ns1:2", second)):
                update = await core.ended(key)
                assert update.state == common.OPERATION_STATE_SUCCEEDED
                assert update.external_id != submission.external_id
        assert set((await pins_on(chain, contract)).values()) == {1}
        assert await chain.nonce(DEV_ADDRESSES[0]) == 2


async def test_dropped_transactions_are_sent_again(core: Core) -> None:
    """The pool loses the middle one of three: a gap that only the connector can close."""
    async with anvil() as chain:
        contract = await chain.deploy("Firefly")
        await chain.call("evm_setAutomine", False)
        await core.wire.configure(settings(chain))
        async with core.listening(multiparty(contract)):
            sent = [await core.pin(f"ns1:{n}", contract) for n in range(3)]
            await until(lambda: pool_holds(chain, 3), "three waiting")
            await chain.call("anvil_dropTransaction", sent[1].external_id)

            async def mined() -> bool:
                await chain.mine()
                return await chain.nonce(DEV_ADDRESSES[0]) == 3

            await until(mined, "all three on the chain")
            for n in range(3):
                assert (await core.ended(f"ns1:{n}")).state == common.OPERATION_STATE_SUCCEEDED
        assert set((await pins_on(chain, contract)).values()) == {1}


async def pool_holds(chain: Chain, count: int) -> bool:
    status = await chain.call("txpool_status")
    return int(status["pending"], 16) + int(status["queued"], 16) == count


async def test_a_node_that_goes_away_and_comes_back(core: Core, run_dir: Path) -> None:
    async with anvil("--state", str(run_dir / "state")) as chain:
        await core.wire.configure(settings(chain))
        contract = await chain.deploy("Firefly")
        async with core.listening(multiparty(contract)):
            await core.pin("ns1:1", contract)
            await core.ended("ns1:1")
            await chain.stop(signal.SIGTERM)
            await until(lambda: is_degraded(core), "word that the node is away")
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await core.pin("ns1:2", contract)
            assert code_of(refused.value) is grpc.StatusCode.UNAVAILABLE
            assert reason_of(refused.value) == ("DOWNSTREAM_DOWN", common.DISPOSITION_NOT_SENT)
            known = operations.GetOperationRequest(stream=STREAM.to_ref(), idempotency_key="ns1:2")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await core.wire.call(core.wire.operations.GetOperation, known)
            assert code_of(caught.value) is grpc.StatusCode.NOT_FOUND
            await chain.start()

            async def accepted() -> bool:
                try:
                    await core.pin("ns1:2", contract)
                except grpc.aio.AioRpcError:
                    return False
                return True

            await until(accepted, "the node taking pins again")
            assert (await core.ended("ns1:2")).state == common.OPERATION_STATE_SUCCEEDED
            await core.until(lambda: len(core.pins()) == 2)


async def is_degraded(core: Core) -> bool:
    status = await core.wire.watch_status().read()
    return bool(status.state == connector.RUNTIME_STATE_DEGRADED) and "away" in status.reason


async def test_a_connector_started_before_its_node(core: Core) -> None:
    async with anvil() as chain:
        contract = await chain.deploy("Firefly")
        await chain.stop()
        await core.wire.configure(settings(chain))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await core.pin("ns1:1", contract)
        assert reason_of(caught.value) == ("DOWNSTREAM_DOWN", common.DISPOSITION_NOT_SENT)
        await chain.start()
        contract = await chain.deploy("Firefly")

        async def accepted() -> bool:
            try:
                await core.pin("ns1:1", contract)
            except grpc.aio.AioRpcError:
                return False
            return True

        await until(accepted, "a pin")


async def test_another_chain_behind_the_same_journal_is_refused(run_dir: Path) -> None:
    """A chain begun anew has the nonces of nobody; what is journaled must not reach it."""
    async with anvil() as chain, process(run_dir) as (_, core):
        await core.wire.configure(settings(chain))
    async with anvil("--timestamp", "1700000000") as other, process(run_dir) as (_, core):
        with pytest.raises(grpc.aio.AioRpcError, match="empty data directory") as caught:
            await core.wire.configure(settings(other))
        assert reason_of(caught.value)[0] == "WRONG_CHAIN"
        with pytest.raises(grpc.aio.AioRpcError, match="the configuration says 5"):
            await core.wire.configure(settings(other, chainId=5))


async def test_keys_are_in_no_log(run_dir: Path, tmp_path: Path) -> None:
    secret_file = tmp_path / "key"
    secret_file.write_text(DEV_KEYS[1] + "\n")
    async with anvil() as chain:
        contract = await chain.deploy("Firefly")
        command = ["-m", "photinus_ethereum", "--address", f"unix:{run_dir}/x.sock"]
        command += ["--data-dir", str(run_dir / "data"), "--log-level", "debug"]
        async with child(*command) as running:
            async with dialled(running.address) as wire:
                core = Core(wire)
                keys = [{"privateKey": DEV_KEYS[0]}, {"privateKeyFile": str(secret_file)}]
                await wire.configure(settings(chain, keys=keys))
                await core.pin("ns1:1", contract)
                await core.pin("ns1:2", contract, signing_key=DEV_ADDRESSES[1])
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await wire.configure(
                        settings(chain, keys=[{"privateKey": DEV_KEYS[2][:-1]}]), revision=2
                    )
            running.process.terminate()
            assert await running.ended() == 0
            told = await running.log() + str(caught.value)
        assert told
        assert not [key for key in DEV_KEYS if key[:-1] in told]
    stored = b"".join(path.read_bytes() for path in run_dir.rglob("*") if path.is_file())
    assert not [key for key in DEV_KEYS if bytes.fromhex(key) in stored or key.encode() in stored]
    assert json.loads(told.splitlines()[0])
