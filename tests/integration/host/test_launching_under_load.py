"""A core that is busy with calls launches processes that live.

Method: a process of its own, since gRPC reads its environment once: it is made as `photinus serve` is
(uvloop, the program's package loaded first), keeps gRPC's threads busy, and launches children.
"""

import os
import subprocess
import sys

LAUNCHES = 100
PROGRAM = f"""
import photinus_core.app
import asyncio, os, grpc, uvloop

async def main():
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()

    async def chat():
        options = [("grpc.use_local_subchannel_pool", 1)]
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{{port}}", options)
        call = channel.unary_unary("/no/body")
        while True:
            try:
                await call(b"")
            except grpc.aio.AioRpcError:
                pass

    chats = [asyncio.create_task(chat()) for _ in range(16)]
    codes = []
    for _ in range({LAUNCHES}):
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(
            "true", stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
        )
        await child.communicate()
        codes.append(child.returncode)
    print(sum(code != 0 for code in codes), "crashed", flush=True)
    os._exit(0)

uvloop.run(main())
"""


def test_children_of_a_busy_core_do_not_crash() -> None:
    """Found by the robustness tests: connectors died between fork and exec, and were given up."""
    environment = {k: v for k, v in os.environ.items() if k != "GRPC_ENABLE_FORK_SUPPORT"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
    )
    assert done.stdout.strip() == "0 crashed"
