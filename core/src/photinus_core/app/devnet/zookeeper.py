"""A ZooKeeper server for the members of a development cluster, and each member's place in it.

The server is found on the machine. It listens on loopback only and keeps its data below the
network's folder. One server is enough where all else runs on one machine.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path
from typing import Final

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException, NoNodeError
from kazoo.handlers.threading import KazooTimeoutError

from photinus_core.app.devnet.processes import Processes, Program, StartError

READY_S: Final = 60.0
PROBE_S: Final = 1.0
FORGET_S: Final = 10.0
PLACE: Final = "/photinus"
TICK_MS: Final = 500
"""Sessions last between 2 and 20 of these."""
HEAP: Final = "128m"
FOLDER_VARIABLE: Final = "PHOTINUS_ZOOKEEPER"
MAIN: Final = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
_LAUNCHER: Final = Path(__file__).resolve().parents[5] / ".toolchain/bin/zookeeper-server"
"""What `scripts/setup test` of a checkout provides."""
JVM: Final = (f"-Xmx{HEAP}", "-XX:+UseSerialGC", "-Dzookeeper.jmx.log4j.disable=true")
_PLACES: Final = (
    "/usr/share/java",
    "/usr/share/zookeeper/lib",
    "/opt/zookeeper/lib",
    "/usr/local/zookeeper/lib",
)
MISSING: Final = (
    "ZooKeeper is not installed: `apt-get install --no-install-recommends zookeeper`, or unpack a "
    f"release from zookeeper.apache.org and set {FOLDER_VARIABLE} to its lib folder, "
    "or give an ensemble with --zookeeper HOSTS"
)
MISSING_JAVA: Final = (
    "ZooKeeper needs Java: `apt-get install default-jre-headless`, "
    "or give an ensemble with --zookeeper HOSTS"
)


def find_java() -> str:
    """The `java` program.

    Raises:
        StartError: there is none.
    """
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin") if home else None
    found = found or shutil.which("java")
    if found is None:
        raise StartError(MISSING_JAVA)
    return found


def find_class_path() -> str:
    """The class path of ZooKeeper's server.

    Raises:
        StartError: it is not installed; the text says what to install.
    """
    named = os.environ.get(FOLDER_VARIABLE)
    for place in (named, *_PLACES) if named else _PLACES:
        folder = Path(place)
        main = _jar_of(folder)
        if main is None:
            continue
        # Debian's jar names the jars it needs; a release's stand beside it.
        return str(main) if folder == Path(_PLACES[0]) else f"{main}:{main.parent}/*"
    raise StartError(MISSING)


def _jar_of(folder: Path) -> Path | None:
    found = [*folder.glob("zookeeper.jar"), *sorted(folder.glob("zookeeper-[0-9]*.jar"))]
    return next((jar for jar in found if jar.exists()), None)


def find_server() -> tuple[list[str], dict[str, str]]:
    """The command that starts a server, but for its configuration, and its environment.

    Raises:
        StartError: something is missing; the text says what to install.
    """
    if FOLDER_VARIABLE not in os.environ and _LAUNCHER.exists():
        return [str(_LAUNCHER)], {"ZOOKEEPER_JVM": " ".join(JVM)}
    return [find_java(), *JVM, "-cp", find_class_path(), MAIN], {}


async def start_zookeeper(processes: Processes, folder: Path, port: int) -> None:
    """Starts our own server.

    Raises:
        StartError: it is not installed, or does not start.
    """
    data, settings = folder / "data", folder / "zoo.cfg"
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    settings.write_text(
        f"tickTime={TICK_MS}\n"
        f"dataDir={data.absolute()}\n"
        "clientPortAddress=127.0.0.1\n"
        f"clientPort={port}\n"
        "admin.enableServer=false\n"
        "4lw.commands.whitelist=srvr\n"
        "maxClientCnxns=0\n"
        "autopurge.purgeInterval=1\n"
    )
    command, environment = find_server()
    child = await processes.run(
        Program("zookeeper", [*command, str(settings)], environment, folder=folder)
    )
    await processes.wait_ready(child, lambda: answers(port), READY_S)


async def answers(port: int) -> bool:
    """Whether the server takes sessions."""
    try:
        async with asyncio.timeout(PROBE_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(b"srvr")
                return b"Mode:" in await reader.read()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False


async def forget(hosts: str, network: str) -> None:
    """Removes everything of a network from an ensemble that is not ours.

    Raises:
        StartError: it cannot be reached.
    """
    await asyncio.to_thread(_forget, hosts, f"{PLACE}/{network}")


def _forget(hosts: str, path: str) -> None:
    client = KazooClient(hosts=hosts, timeout=FORGET_S)
    try:
        client.start(timeout=FORGET_S)
        client.delete(path, recursive=True)
    except NoNodeError:
        pass
    except (KazooException, KazooTimeoutError, OSError) as failure:
        message = f"what the former network left in ZooKeeper ({hosts}) cannot go: {failure!r}"
        raise StartError(message) from failure
    finally:
        client.stop()
        client.close()


def chroot(network: str, index: int) -> str:
    """Where a member's replicas elect their leaders."""
    return f"{PLACE}/{network}/member{index}"
