"""Goal: a distribution declares every library it imports.

In the shared development environment an undeclared import works, because some other distribution
brings the library; installed alone, it fails.

Method: read the imports of each distribution's sources, and its manifest.
"""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[3]
WORKSPACE = tomllib.loads((ROOT / "pyproject.toml").read_text())
MEMBERS = [m for m in WORKSPACE["tool"]["uv"]["workspace"]["members"] if m != "proto"]

# Import packages that several distributions share.
SHARED = {
    "google.protobuf": "protobuf",
    "google.rpc": "googleapis-common-protos",
    "google.api": "googleapis-common-protos",
}


def imported(source: str) -> set[str]:
    """Dotted names of the modules that a file imports from outside its package."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def distributions_of(module: str, installed: dict[str, list[str]]) -> set[str]:
    """Names of the distributions that bring a module; empty for the standard library."""
    for prefix, distribution in SHARED.items():
        if module.startswith(prefix + "."):
            return {distribution}
    top = module.split(".", maxsplit=1)[0]
    if top in sys.stdlib_module_names:
        return set()
    return {canonicalize_name(name) for name in installed.get(top, [f"unknown: {top}"])}


@pytest.mark.parametrize("member", MEMBERS)
def test_imports_are_declared(member: str) -> None:
    project = tomllib.loads((ROOT / member / "pyproject.toml").read_text())["project"]
    extras = project.get("optional-dependencies", {}).values()
    wanted = [*project["dependencies"], *(text for extra in extras for text in extra)]
    declared = {canonicalize_name(Requirement(text).name) for text in wanted}
    declared |= {canonicalize_name(project["name"])}
    installed = {
        **packages_distributions(),
        **{
            re.sub("-", "_", f"photinus-{Path(m).name}"): [f"photinus-{Path(m).name}"]
            for m in MEMBERS
        },
        "photinus": ["photinus-protos"],
    }
    missing = {
        f"{path.relative_to(ROOT)} imports {module}: {distributions} is not declared"
        for path in (ROOT / member / "src").rglob("*.py")
        for module in imported(path.read_text())
        if (distributions := distributions_of(module, installed)) and not distributions & declared
    }
    assert not missing, "\n" + "\n".join(sorted(missing))
