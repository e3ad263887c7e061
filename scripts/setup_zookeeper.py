"""Set-up's ZooKeeper, for tests and clusters on one machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from scripts.setup_parts import (
    BIN,
    ROOT,
    TOOLCHAIN,
    VENV,
    Step,
    StepError,
    call,
    relink,
    system_path,
    version_of,
)

JAVA_MIN = (11,)  # what ZooKeeper 3.8 asks for

ZOOKEEPER_PACKAGES = (
    "libzookeeper-java",
    "libslf4j-java",
    "libnetty-java",
    "libdropwizard-metrics-java",
    "libsnappy-java",
    "libcommons-cli-java",
    "libcommons-io-java",
    "libjackson2-core-java",
    "libjackson2-databind-java",
    "libjackson2-annotations-java",
)
# What of these packages a server needs on its class path; the rest binds to other loggers.
ZOOKEEPER_JARS = (
    *("zookeeper", "zookeeper-jute", "slf4j-api", "slf4j-simple", "metrics-core", "snappy-java"),
    *("commons-cli", "commons-io", "jackson-*", "netty-*"),
)
AS_MYSELF = ("-o", "APT::Sandbox::User=")  # apt's own user may not write into a checkout
ZOOKEEPER_MAIN = "org.apache.zookeeper.server.quorum.QuorumPeerMain"


def zookeeper_step() -> Step:
    """`zookeeper-server <zoo.cfg>`: a ZooKeeper that nobody has to install or be root for.

    Debian's packages, checked by apt and unpacked below .toolchain; a Java, too, where the machine
    has none. Where there is no apt, the `zkServer.sh` on PATH.
    """
    folder = TOOLCHAIN / "zookeeper"
    program = BIN / "zookeeper-server"
    link = VENV / "bin" / "zookeeper-server"  # beside `photinus`

    def install(log: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
            script = zookeeper_of_the_machine()
        else:
            script = unpacked_zookeeper(folder, log)
        program.write_text(f"#!/bin/sh\n# usage: zookeeper-server <zoo.cfg>\n{script}\n")
        program.chmod(0o755)
        relink(link, program)

    return Step(
        name="zookeeper",
        doing="installing ZooKeeper (for tests and clusters on one machine)",
        inputs=list,
        outputs=lambda: [program, link],
        run=install,
        settings=f"{ZOOKEEPER_PACKAGES} {ZOOKEEPER_JARS} {java_of_the_machine()} {ROOT}",
    )


def zookeeper_of_the_machine() -> str:
    """A script around an installed ZooKeeper."""
    found = shutil.which("zkServer.sh", path=system_path())
    if found is None:
        message = "there is no apt here to take ZooKeeper from; put its zkServer.sh on PATH"
        raise StepError(message)
    return f'exec "{found}" start-foreground "$1"'


def java_of_the_machine() -> str | None:
    """The Java on PATH, when it is new enough."""
    found = version_of(["java", "--version"], r"\b(\d+)\.")
    return shutil.which("java", path=system_path()) if found and found >= JAVA_MIN else None


def unpacked_zookeeper(folder: Path, log: Path) -> str:
    """Fetches and unpacks Debian's packages; gives the script that runs the server."""
    java = java_of_the_machine()
    try:
        fetch_packages([], folder, log, with_java=java is None)
    except StepError:
        # No lists yet, or old ones: lists of our own, for which nobody has to be root.
        print("setup: apt knows too little; fetching its lists", flush=True)
        lists = folder / "apt"
        for part in ("state/lists/partial", "cache/archives/partial"):
            (lists / part).mkdir(parents=True)
        ours = ["-o", f"Dir::State={lists}/state", "-o", f"Dir::Cache={lists}/cache"]
        call(["apt-get", *ours, *AS_MYSELF, "update"], log)
        fetch_packages(ours, folder, log, with_java=java is None)
        shutil.rmtree(lists)
    unpacked = folder / "unpacked"
    for package in sorted(folder.glob("*.deb")):
        call(["dpkg-deb", "-x", package, unpacked], log)
        package.unlink()
    jars = sorted(
        str(path) for name in ZOOKEEPER_JARS for path in unpacked.glob(f"usr/share/java/{name}.jar")
    )
    if not any(jar.endswith("/zookeeper.jar") for jar in jars):
        raise StepError(f"the packages held no zookeeper.jar; all of apt's output: {log}")
    path = os.pathsep.join(jars)
    return (
        f'exec "{java or unpacked_java(unpacked)}" ${{ZOOKEEPER_JVM:--Xmx256m -XX:+UseSerialGC}} \\\n'
        f'    -cp "{path}" \\\n    {ZOOKEEPER_MAIN} "$@"'
    )


def fetch_packages(options: Sequence[str], into: Path, log: Path, *, with_java: bool) -> None:
    """Downloads packages with apt, which checks their signatures; nothing is installed."""
    packages = [*ZOOKEEPER_PACKAGES, *([java_package(options)] if with_java else [])]
    call(["apt-get", *options, *AS_MYSELF, "download", *packages], log, cwd=into)


def java_package(options: Sequence[str]) -> str:
    """The package with the Java of this release of Debian or Ubuntu."""
    command = ["apt-cache", *options, "depends", "default-jre-headless"]
    text = subprocess.run(command, check=False, capture_output=True, text=True).stdout
    found = re.search(r"openjdk-\d+-jre-headless", text)
    if found is None:
        raise StepError("apt knows no Java; install one of version 11 or newer and try again")
    return found[0]


def unpacked_java(root: Path) -> Path:
    """The unpacked Java, with its links into /etc pointed at what was unpacked."""
    java = next(root.glob("usr/lib/jvm/*/bin/java"), None)
    if java is None:
        raise StepError("the package of Java held no Java; install one and try again")
    for link in java.parents[1].rglob("*"):
        if link.is_symlink() and str(link.readlink()).startswith("/etc/"):
            relink(link, root / str(link.readlink()).lstrip("/"))
    return java
