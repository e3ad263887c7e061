"""Goal: the locks cover what the manifests ask for, by hash and without naming an index.

Method: read manifests and locks as they are committed; nothing is resolved.
"""

import json
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[3]
WORKSPACE = tomllib.loads((ROOT / "pyproject.toml").read_text())
MEMBERS = WORKSPACE["tool"]["uv"]["workspace"]["members"]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)")


def pins(lock: Path) -> dict[str, str]:
    found = (PINNED.match(line) for line in lock.read_text().splitlines())
    return {canonicalize_name(match[1]): match[2] for match in found if match}


def manifest(member: str) -> Path:
    return ROOT / member / "pyproject.toml"


def test_every_folder_with_a_manifest_is_a_member() -> None:
    folders = ("proto", "client", "core", "connectors/*")
    found = {
        path.parent.relative_to(ROOT).as_posix()
        for folder in folders
        for path in ROOT.glob(f"{folder}/pyproject.toml")
    }
    assert found == set(MEMBERS)


@pytest.mark.parametrize("member", [".", *MEMBERS])
def test_the_lock_satisfies_the_manifest(member: str) -> None:
    read = tomllib.loads(manifest(member).read_text())
    wanted = [*read["project"]["dependencies"], *read.get("dependency-groups", {}).get("dev", [])]
    locked = pins(ROOT / "requirements" / "dev.txt")
    for requirement in map(Requirement, wanted):
        if not requirement.name.startswith("photinus-"):
            version = locked.get(canonicalize_name(requirement.name))
            assert version is not None, f"{requirement} is not locked: run `make lock`"
            assert requirement.specifier.contains(version, prereleases=True), requirement


@pytest.mark.parametrize("member", [".", *MEMBERS])
def test_every_dependency_says_why(member: str) -> None:
    dependency = re.compile(r'^\s+"(?!photinus-)[A-Za-z0-9._-]+(\[[\w,]+\])?([<>=!~][^"]*)?",(.*)$')
    text = manifest(member).read_text().split("[tool.")[0]
    silent = [
        line.strip()
        for line in text.splitlines()
        if (found := dependency.match(line)) and not found[3].strip().startswith("# ")
    ]
    assert silent == []


def test_all_distributions_have_one_version() -> None:
    versions = {
        tomllib.loads(manifest(member).read_text())["project"]["version"] for member in MEMBERS
    }
    assert len(versions) == 1


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_python_locks_have_hashes_and_no_index(lock: Path) -> None:
    blocks = re.split(r"\n(?=[A-Za-z0-9])", lock.read_text().strip())
    assert blocks
    for block in blocks:
        assert PINNED.match(block), block
        assert "--hash=sha256:" in block, block
    assert "://" not in lock.read_text()


def test_locks_agree_on_versions() -> None:
    """What builds the source-only dependencies is what is installed with them."""
    dev = pins(ROOT / "requirements" / "dev.txt")
    bootstrap = pins(ROOT / "requirements" / "bootstrap.txt")
    assert {
        name: version for name, version in bootstrap.items() if dev.get(name, version) != version
    } == {}


@pytest.mark.parametrize(
    "folder", ["tools/npm", "tools/firefly-sdk", "connectors/example-typescript"]
)
def test_the_npm_locks_have_hashes_and_no_addresses(folder: str) -> None:
    lock = json.loads((ROOT / folder / "package-lock.json").read_text())
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert packages
    for name, package in packages.items():
        assert "integrity" in package, name
        assert "resolved" not in package, name


@pytest.mark.parametrize("module", ["protoc-go", "geth"])
def test_go_tools_are_pinned_by_sum(module: str) -> None:
    folder = ROOT / "tools" / module
    required = re.findall(r"^\t(\S+) (v\S+)", (folder / "go.mod").read_text(), re.MULTILINE)
    assert required
    sums = (folder / "go.sum").read_text()
    assert [name for name, version in required if f"{name} {version}" not in sums] == []
