"""Goal: what is promised to be small stays small: the author kit, and the example in Go.

Method: count lines of code as the documents say: those with anything on them but comments, docstrings and imports.
Generated code and tests are not counted. Whoever needs more first looks for what stands twice, or is no part of it.
"""

import ast
import re
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
KIT = ROOT / "connectors/sdk/src/photinus_sdk"
EXAMPLE = ROOT / "connectors/example-go"
KIT_MAX = 1550
EXAMPLE_MAX = 499

NO_CODE = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT),
    *(tokenize.ENCODING, tokenize.ENDMARKER),
}
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def lines_of_python(path: Path) -> int:
    with path.open("rb") as file:
        tokens = [token for token in tokenize.tokenize(file.readline) if token.type not in NO_CODE]
    lines = {line for token in tokens for line in range(token.start[0], token.end[0] + 1)}
    for node in ast.walk(ast.parse(path.read_text())):
        left_out: ast.stmt | None = None
        if isinstance(node, ast.Import | ast.ImportFrom):
            left_out = node
        elif isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            left_out = node.body[0]
        if left_out is not None:
            lines -= set(range(left_out.lineno, (left_out.end_lineno or left_out.lineno) + 1))
    return len(lines)


def lines_of_go(path: Path) -> int:
    # gofmt puts every import of a file into one block, and ends that with a parenthesis of its own.
    code = re.sub(r"^import \(.*?^\)$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    lines = map(str.strip, code.splitlines())
    return sum(1 for line in lines if line and not line.startswith("//"))


def test_the_author_kit_is_small() -> None:
    found = {path.name: lines_of_python(path) for path in sorted(KIT.rglob("*.py"))}
    assert sum(found.values()) <= KIT_MAX, found


def test_the_example_in_go_is_small() -> None:
    sources = (path for path in EXAMPLE.glob("*.go") if not path.name.endswith("_test.go"))
    found = {path.name: lines_of_go(path) for path in sorted(sources)}
    assert sum(found.values()) <= EXAMPLE_MAX, found


def test_only_code_is_counted(tmp_path: Path) -> None:
    python, go = tmp_path / "a.py", tmp_path / "a.go"
    python.write_text(
        '"""Of the module.\n\nAnd more."""\n\nimport ast\nfrom os import (\n    path,\n)\n\n\n# why\n'
        'def f() -> str:\n    """Says."""\n    return """a\nb"""  # because\n'
    )
    assert lines_of_python(python) == 3
    go.write_text(
        '// A.\npackage a\n\nimport (\n\t"os"\n\n\tb "c"\n)\n\n// F.\nfunc F() {\n\tb.C()\n}\n'
    )
    assert lines_of_go(go) == 4
