"""New connector projects: what `photinus connector new` makes, from the templates beside this file.

A project is the files of `templates/<language>/common` and of `templates/<language>/<contract>`
together; `templates/README.md` says how a template is written. Nothing here is needed to run one.
"""

import keyword
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

TEMPLATES = Path(__file__).with_name("templates")
COMMON = "common"
SUFFIX = ".tmpl"
NAME_FORM = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
NAME_LENGTH_MAX = 40
PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")
# Names under which Python would find something else, or a folder of the project itself.
TAKEN = (
    frozenset({"photinus", "src", "tests", "gen"}) | sys.stdlib_module_names | set(keyword.kwlist)
)


class ScaffoldError(Exception):
    """A project that cannot be made; the text says why and what would do."""


def offered() -> dict[str, tuple[str, ...]]:
    """The contracts there are templates for, by language."""
    return {
        language.name: tuple(
            sorted(entry.name for entry in language.iterdir() if entry.name != COMMON)
        )
        for language in sorted(TEMPLATES.iterdir())
        if language.is_dir()
    }


def create_project(name: str, contract: str, language: str, parent: Path) -> Path:
    """Makes the folder `parent/name` with a project in it, whole or not at all.

    Raises:
        ScaffoldError: for a name, contract or language that will not do, and a folder that exists.
        OSError: when the disk says no.
    """
    values = placeholders(name, contract)
    chosen = _templates(contract, language)
    if not parent.is_dir():
        raise ScaffoldError(f"there is no folder {parent}")
    folder = parent / name
    if folder.exists() or folder.is_symlink():
        raise ScaffoldError(f"{folder} exists; choose another name, or move it away")
    with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=parent) as workshop:
        unfinished = Path(workshop) / name
        for root in chosen:
            _fill(root, unfinished, values)
        unfinished.rename(folder)
    return folder


def placeholders(name: str, contract: str) -> dict[str, str]:
    """What stands for what in templates. Raises ScaffoldError for a name that will not do."""
    if not NAME_FORM.fullmatch(name) or len(name) > NAME_LENGTH_MAX:
        raise ScaffoldError(
            f"{name!r} is no name for a connector: at most {NAME_LENGTH_MAX} lower-case letters,"
            " digits and single dashes between them, a letter first, such as acme-storage"
        )
    module = name.replace("-", "_")
    if module in TAKEN or module.startswith("photinus_"):
        raise ScaffoldError(f"the name {name} is taken; put something before it, such as my-{name}")
    class_name = "".join(part.capitalize() for part in name.split("-"))
    return {
        "name": name,
        "module": module,
        "Class": class_name,
        "contract": contract,
        "plugins": contract.replace("-", ""),
    }


def render(text: str, values: Mapping[str, str]) -> str:
    """`text` with every `{{placeholder}}` replaced. Raises KeyError for one there is not."""
    return PLACEHOLDER.sub(lambda found: values[found[1]], text)


def _templates(contract: str, language: str) -> tuple[Path, Path]:
    there = offered()
    if language not in there:
        raise ScaffoldError(
            f"there are no templates for the language {language!r}; there are: {', '.join(there)}"
        )
    if contract not in there[language]:
        raise ScaffoldError(
            f"there is no template for the contract {contract!r} in {language};"
            f" there are: {', '.join(there[language])}"
        )
    return TEMPLATES / language / COMMON, TEMPLATES / language / contract


def _fill(root: Path, folder: Path, values: Mapping[str, str]) -> None:
    for template in sorted(root.rglob(f"*{SUFFIX}")):
        place = folder / render(str(template.relative_to(root)).removesuffix(SUFFIX), values)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(render(template.read_text(encoding="utf-8"), values), encoding="utf-8")
