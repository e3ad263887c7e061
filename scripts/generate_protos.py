"""Generates code from the protos: Python into proto/gen/python, Go into the `gen` of Go modules.

One generator, `protoc` of the locked grpcio-tools, makes every file: others embed descriptors that
differ in detail and would make needless diffs. `--check` changes nothing and fails when what is
committed is not what would be made.
"""

from __future__ import annotations

import argparse
import filecmp
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.generate_contracts import python_of  # noqa: E402 - this file is run as a program, too

PROTO = ROOT / "proto"
PYTHON_OUT = PROTO / "gen" / "python" / "photinus"
BINDINGS = PROTO / "rest" / "firefly_v1.yaml"
VENV_BIN = Path(sys.executable).parent
GO_BIN = ROOT / ".toolchain" / "bin"
CONNECTOR_PACKAGE = "photinus/connector/v1"


@dataclass(frozen=True)
class GoModule:
    """A Go module with generated code of its own, in its folder `gen`."""

    folder: Path
    packages: tuple[str, ...]
    rest: bool = False  # also REST handlers


# No module borrows another's code: an author can take example-go as it is.
GO_MODULES = (
    GoModule(ROOT / "gateway", ("photinus/api/v1", "photinus/options/v1"), rest=True),
    GoModule(ROOT / "connectors" / "example-go", ("photinus/connector/v1",)),
)

# Hand-written: the docstring of the whole distribution, and its typing marker.
PYTHON_KEPT = frozenset({"__init__.py", "py.typed"})


def proto_files(*under: str) -> list[str]:
    """The proto files below the given folders of proto/, as protoc names them, sorted."""
    found = [path for folder in under for path in (PROTO / folder).rglob("*.proto")]
    return sorted(path.relative_to(PROTO).as_posix() for path in found)


def protoc(arguments: list[str]) -> None:
    """Runs the locked protoc on proto/; its own message tells what is wrong."""
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}", *arguments]
    if subprocess.run(command, check=False).returncode != 0:
        sys.exit("generate_protos: protoc failed (see above)")


def make_python(out: Path) -> None:
    """Messages, gRPC stubs and strict type stubs for every proto of ours."""
    files = proto_files("photinus")
    if files:
        protoc(
            [
                f"--plugin=protoc-gen-mypy={VENV_BIN / 'protoc-gen-mypy'}",
                f"--plugin=protoc-gen-mypy_grpc={VENV_BIN / 'protoc-gen-mypy_grpc'}",
                f"--python_out={out}",
                f"--mypy_out=quiet:{out}",
                *files,
            ]
        )
    with_services = [file for file in files if _declares_service(PROTO / file)]
    if with_services:
        # only_async: nothing here uses gRPC outside an event loop, and the types get simpler.
        protoc(
            [
                f"--plugin=protoc-gen-mypy_grpc={VENV_BIN / 'protoc-gen-mypy_grpc'}",
                f"--grpc_python_out={out}",
                f"--mypy_grpc_out=quiet,only_async:{out}",
                *with_services,
            ]
        )
    make_contracts(out)
    packages = {folder for file in files for folder in Path(file).parents if folder.parts[1:]}
    for package in packages:
        text = f'"""Generated from proto/{package.as_posix()}; do not edit."""\n'
        (out / package / "__init__.py").write_text(text)


def make_contracts(out: Path) -> None:
    """The contracts of connectors as classes to be implemented; see generate_contracts."""
    described = out / "described.binpb"
    files = proto_files(CONNECTOR_PACKAGE)
    protoc([f"--descriptor_set_out={described}", "--include_source_info", *files])
    text = python_of(FileDescriptorSet.FromString(described.read_bytes()))
    described.unlink()
    (out / CONNECTOR_PACKAGE / "contracts.py").write_text(text)


def make_go(module: GoModule, out: Path) -> None:
    """Messages, gRPC stubs and, for the gateway, REST handlers."""
    base = f"{_go_module(module.folder / 'go.mod')}/gen"
    files = proto_files(*module.packages)
    mappings = ",".join(f"M{file}={base}/{_go_package(file)}" for file in files)
    arguments = [f"--go_out=module={base},{mappings}:{out}"]
    arguments.append(f"--go-grpc_out=module={base},{mappings}:{out}")
    plugins = ["protoc-gen-go", "protoc-gen-go-grpc"]
    if module.rest:
        options = f"module={base},grpc_api_configuration={BINDINGS},{mappings}"
        arguments.append(f"--grpc-gateway_out={options}:{out}")
        plugins.append("protoc-gen-grpc-gateway")
    protoc([*(f"--plugin={name}={GO_BIN / name}" for name in plugins), *arguments, *files])


def _declares_service(path: Path) -> bool:
    return any(line.startswith("service ") for line in path.read_text().splitlines())


def _go_module(manifest: Path) -> str:
    for line in manifest.read_text().splitlines():
        if line.startswith("module "):
            return line.split()[1]
    sys.exit(f"generate_protos: {manifest} has no module line")


def _go_package(file: str) -> str:
    """`photinus/api/v1/x.proto` lives in Go package `apiv1`, whose folder is photinus/api/v1."""
    folder = Path(file).parent
    return f"{folder.as_posix()};{''.join(folder.parts[1:])}"


def files_below(folder: Path) -> set[Path]:
    """Relative paths of all files below a folder, caches apart."""
    found = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {path.relative_to(folder) for path in found}


def differences(made: Path, committed: Path, kept: frozenset[str]) -> list[Path]:
    """Paths that were added, changed or are no longer made."""
    names = files_below(made) | {p for p in files_below(committed) if p.as_posix() not in kept}
    return sorted(
        name
        for name in names
        if not (made / name).exists()
        or not (committed / name).exists()
        or not filecmp.cmp(made / name, committed / name, shallow=False)
    )


def install(made: Path, committed: Path, changed: list[Path]) -> None:
    """Makes the committed folder equal to what was made; equal files are not touched."""
    for name in changed:
        target = committed / name
        if (made / name).exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            # A reader never sees half a file.
            partial = target.with_name(target.name + ".partial")
            shutil.copyfile(made / name, partial)
            partial.replace(target)
        else:
            target.unlink()


def main() -> None:
    """Generates, or with --check only compares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, fail on differences")
    parser.add_argument("--only", choices=("python", "go"), help="only this language")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="photinus-protos-") as folder:
        jobs: list[tuple[Path, Path, frozenset[str]]] = []
        if options.only != "go":
            out = Path(folder) / "python"
            out.mkdir()
            make_python(out)
            jobs.append((out / "photinus", PYTHON_OUT, PYTHON_KEPT))
        if options.only != "python":
            for module in GO_MODULES:
                out = Path(folder) / f"go-{module.folder.name}"
                out.mkdir()
                make_go(module, out)
                jobs.append((out, module.folder / "gen", frozenset()))
        stale = False
        for made, committed, kept in jobs:
            changed = differences(made, committed, kept)
            for name in changed:
                verb = "is not current:" if options.check else "wrote"
                print(f"generate_protos: {verb} {(committed / name).relative_to(ROOT)}")
            stale = stale or bool(changed)
            if not options.check:
                install(made, committed, changed)
        if options.check and stale:
            sys.exit("generate_protos: run `make proto` and commit what it writes")


if __name__ == "__main__":
    main()
