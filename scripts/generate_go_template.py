"""Makes the templates of `photinus connector new --language go` from connectors/example-go.

A new project is the example under another name, so it has what the example is tested for. Its stubs
are copied in, not fetched or generated: to build it, Go is enough. `--check` changes nothing and
fails when what is committed is not what would be made. The README and the other files that a project
has and the example has not are written by hand, beside what this makes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "connectors" / "example-go"
TEMPLATES = ROOT / "core" / "src" / "photinus_core" / "app" / "scaffold" / "templates" / "go"
STUBS = Path("gen", "photinus", "connector", "v1")

# What any contract needs, and what is of shared storage.
COMMON = ("go.mod", "go.sum", "main.go", "journal.go")
SHARED_STORAGE = (
    *("connector.go", "storage.go", "connector_test.go"),
    *("describe.json", "settings.schema.json"),
)
COMMON_PROTOS = ("common", "connector", "operation")
SHARED_STORAGE_PROTOS = ("shared_storage",)

# In this order: the longer names first.
REPLACED = (
    ("github.com/photinus-project/photinus/connectors/example-go", "example.com/{{name}}"),
    (
        "// Photinus-example-go is a shared-storage connector",
        "// {{Class}} is a shared-storage connector",
    ),
    (
        '  "docsUrl": "https://github.com/photinus-project/photinus/tree/main/connectors/example-go",\n',
        "",
    ),
    ('"vendor": "Photinus"', '"vendor": "the author of {{name}}"'),
    ("example-go", "{{name}}"),
)


def made() -> dict[Path, str]:
    """All files that this makes: their places and their texts."""
    sources = {Path("common", name): EXAMPLE / name for name in COMMON}
    sources |= {Path("shared-storage", name): EXAMPLE / name for name in SHARED_STORAGE}
    sources |= _stubs("common", COMMON_PROTOS) | _stubs("shared-storage", SHARED_STORAGE_PROTOS)
    return {
        TEMPLATES / f"{place}.tmpl": _as_template(source.read_text(encoding="utf-8"))
        for place, source in sources.items()
    }


def _stubs(folder: str, protos: tuple[str, ...]) -> dict[Path, Path]:
    found = sorted(
        path
        for proto in protos
        for path in (EXAMPLE / STUBS).glob(f"{proto}*.pb.go")
        if path.name.removesuffix(".pb.go").removesuffix("_grpc") == proto
    )
    return {Path(folder) / STUBS / path.name: path for path in found}


def _as_template(text: str) -> str:
    for before, after in REPLACED:
        text = text.replace(before, after)
    return text


def main() -> None:
    """Writes the templates, or with --check only compares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, fail on differences")
    check = parser.parse_args().check
    wanted = made()
    stale = [p for p, text in wanted.items() if not p.exists() or p.read_text("utf-8") != text]
    stale += [path for path in TEMPLATES.rglob("*.go.tmpl") if path not in wanted]
    for path in sorted(stale):
        print(
            f"generate_go_template: {'is not current:' if check else 'wrote'} {path.relative_to(ROOT)}"
        )
        if check:
            continue
        if path in wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[path], encoding="utf-8")
        else:
            path.unlink()
    if check and stale:
        sys.exit("generate_go_template: run `make proto` and commit what it writes")


if __name__ == "__main__":
    main()
