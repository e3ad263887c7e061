"""Goal: the house rules that ruff, mypy and the import contracts do not know are kept.

Method: read the files git would commit (and those it has) as text or as syntax trees, and the
connector protos by their descriptors. A finding names file, line and what to do instead. A comment
`# tidy: reason` on the line of a call, or above it, lets that call be.
"""

import ast
import importlib
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from photinus.connector.v1 import common_pb2

ROOT = Path(__file__).resolve().parents[2]
LINES_MAX = 600
# Longer on purpose; an entry that is no longer needed fails.
LONG = {
    "core/src/photinus_core/ports/store.py": "one port: its readers look for a method, not for a file",
}

NOT_OURS = (
    "proto/gen/",
    "proto/google/",
    "gateway/gen/",
    "connectors/example-go/gen/",
    "gateway/internal/swaggerui/dist/",
)

# Calls that change nothing, or are idempotent by other means; all others carry a MutationContext.
WITHOUT_KEY = {
    "BlockchainService.ResolveKey": "question",
    "BlockchainService.QueryContract": "question",
    "BlockchainService.ParseInterface": "question",
    "BlockchainService.GenerateInterface": "question",
    "BlockchainService.DescribeEvent": "question",
    "BlockchainService.NormalizeLocation": "question",
    "BlockchainService.GetNetworkVersion": "question",
    "BlockchainService.GetTransactionStatus": "question",
    "BlockchainService.GetParamSchema": "question",
    "ConnectorService.Describe": "question",
    "ConnectorService.Validate": "question",
    "ConnectorService.Configure": "idempotent by its content and revision",
    "ConnectorService.NotifyRegistration": "only told, for the connector's log",
    "ConnectorService.WatchStatus": "question",
    "ConnectorService.Drain": "draining twice is draining",
    "DataExchangeService.GetEndpoint": "question",
    "DataExchangeService.DownloadBlob": "question",
    "EventService.Stream": "fenced by its epoch, acknowledged by sequence",
    "OperationService.GetOperation": "question",
    "OperationService.ListOperations": "question",
    "SharedStorageService.Download": "question",
    "TokensService.CheckInterface": "question",
}

Finding = tuple[int, str]
Rule = Callable[[ast.Call, str], str | None]


@cache
def tracked() -> tuple[str, ...]:
    """Paths of our own text files that are committed or would be."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return tuple(
        path
        for path in sorted(set(listed.splitlines()))
        if not path.startswith(NOT_OURS) and (ROOT / path).is_file()
    )


def ours(*suffixes: str, below: str = "") -> list[str]:
    return [path for path in tracked() if path.endswith(suffixes) and path.startswith(below)]


def in_source(path: str) -> bool:
    """Code that ships, as opposed to tests, scripts and benchmarks."""
    return path.startswith(("core/", "connectors/", "client/"))


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8", errors="replace")


# --------------------------------------------------------------------------------- banned calls


def bare_task(call: ast.Call, path: str) -> str | None:
    name = dotted(call.func)
    loose = name in {"asyncio.create_task", "asyncio.ensure_future"}
    on_a_loop = name.endswith(("loop.create_task", "loop().create_task"))
    if in_source(path) and not path.endswith("/tasks.py") and (loose or on_a_loop):
        return "a task nobody owns: use a TaskGroup, or the helper in tasks.py of the distribution"
    return None


def gather(call: ast.Call, path: str) -> str | None:
    if in_source(path) and dotted(call.func) == "asyncio.gather":
        return "gather leaves the others running when one fails: use a TaskGroup"
    return None


def blocking_sleep(call: ast.Call, path: str) -> str | None:
    if dotted(call.func) == "time.sleep" and not path.startswith(("scripts/", "tests/support/")):
        return "time.sleep blocks: await asyncio.sleep; in tests wait for a condition"
    return None


def fixed_sleep_in_test(call: ast.Call, path: str) -> str | None:
    a_test = path.startswith("tests/") and Path(path).name.startswith("test_")
    if a_test and dotted(call.func) == "asyncio.sleep" and ast.unparse(call.args[0]) != "0":
        return "a fixed sleep is too short or too long: wait for a condition with a timeout"
    return None


def unbounded_queue(call: ast.Call, path: str) -> str | None:
    if (
        in_source(path)
        and dotted(call.func) == "asyncio.Queue"
        and not (call.args or call.keywords)
    ):
        return "a queue without a bound grows until memory ends: give it a maxsize"
    return None


def wall_clock_in_core(call: ast.Call, path: str) -> str | None:
    banned = {
        "time.time",
        "time.time_ns",
        "datetime.now",
        "datetime.utcnow",
        "datetime.datetime.now",
    }
    with_time = tuple(
        f"core/src/photinus_core/{place}" for place in ("app/", "host/", "model/ids.py")
    )
    if not path.startswith("core/src/") or path.startswith(with_time):
        return None
    if dotted(call.func) in banned and not path.endswith("clock.py"):
        return "time comes from ports.Clock, so that tests and the simulator own it"
    return None


def old_loop(call: ast.Call, path: str) -> str | None:
    if dotted(call.func) == "asyncio.get_event_loop":
        return f"use asyncio.get_running_loop in {Path(path).name}"
    return None


RULES: tuple[Rule, ...] = (
    bare_task,
    gather,
    blocking_sleep,
    fixed_sleep_in_test,
    unbounded_queue,
    wall_clock_in_core,
    old_loop,
)


# The last names of all calls that some rule looks at: most files have none and need no parsing.
LOOKED_AT = re.compile(
    r"\b(create_task|ensure_future|gather|sleep|Queue|time|time_ns|now|utcnow|get_event_loop)\b[(\[]"
)


def dotted(node: ast.expr) -> str:
    """`a.b().c` as text; calls and names only."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=name):
            return f"{dotted(value)}.{name}"
        case ast.Call(func=func):
            return f"{dotted(func)}()"
        case ast.Subscript(value=value):
            return dotted(value)
        case _:
            return "?"


def banned_calls(source: str, path: str) -> Iterator[Finding]:
    if not LOOKED_AT.search(source):
        return
    lines = source.splitlines()
    tree = ast.parse(source)
    polling = {
        call for loop in ast.walk(tree) if isinstance(loop, ast.While) for call in ast.walk(loop)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not LOOKED_AT.search(f"{dotted(node.func)}("):
            continue
        rules = [rule for rule in RULES if not (rule is fixed_sleep_in_test and node in polling)]
        if not any("# tidy: " in line for line in lines[max(node.lineno - 2, 0) : node.lineno]):
            yield from ((node.lineno, found) for rule in rules if (found := rule(node, path)))


def test_no_banned_calls() -> None:
    report(
        f"{path}:{line}: {text}"
        for path in ours(".py")
        for line, text in banned_calls(read(path), path)
    )


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("asyncio.create_task(x())", "core/src/photinus_core/app/a.py"),
        ("asyncio.get_running_loop().create_task(x())", "connectors/dx/src/photinus_dx/a.py"),
        ("self._loop.create_task(x())", "client/src/photinus_client/a.py"),
        ("asyncio.gather(a, b)", "core/src/photinus_core/app/a.py"),
        ("time.sleep(1)", "tests/unit/test_a.py"),
        ("asyncio.sleep(0.1)", "tests/e2e/test_a.py"),
        ("asyncio.Queue[int]()", "core/src/photinus_core/app/a.py"),
        ("datetime.now(UTC)", "core/src/photinus_core/messaging/a.py"),
        ("asyncio.get_event_loop()", "tests/support/a.py"),
    ],
)
def test_each_rule_finds_its_call(source: str, path: str) -> None:
    assert list(banned_calls(source, path))


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("group.create_task(x())", "core/src/photinus_core/app/a.py"),
        ("asyncio.create_task(x())", "connectors/sdk/src/photinus_sdk/tasks.py"),
        ("asyncio.sleep(0)", "tests/unit/test_a.py"),
        ("while not done():\n    asyncio.sleep(0.01)", "tests/unit/test_a.py"),
        ("# tidy: awaited in aclose\nasyncio.create_task(x())", "core/src/photinus_core/app/a.py"),
        ("asyncio.Queue[int](maxsize=8)", "core/src/photinus_core/app/a.py"),
    ],
)
def test_rules_leave_the_good_form_alone(source: str, path: str) -> None:
    assert not list(banned_calls(source, path))


# ------------------------------------------------------------------------------------ text rules


def test_no_work_is_left_for_later_in_comments() -> None:
    later = re.compile(r"\b(TO" + r"DO|FIX" + r"ME)\b")
    suffixes = (".py", ".go", ".proto", ".sol", ".sh", ".yaml", ".yml", ".toml", ".sql")
    report(matches(later, ours(*suffixes), "finish it, or open an issue"))


def test_suppressions_say_why() -> None:
    """`# noqa: X - reason`, `# type: ignore[x]  # reason`, `# pragma: no cover - reason`."""
    bare = re.compile(
        r"#\s*(noqa(:\s*[A-Z]+\d+(,\s*[A-Z]+\d+)*)?|type:\s*ignore(\[[\w, -]+\])?|pragma: no cover)"
        r"\s*(#\s*)?$"
    )
    report(matches(bare, ours(".py"), "say why on the same line"))


def test_no_path_of_a_developers_machine() -> None:
    """Paths in the home of someone, or where someone keeps a checkout, work nowhere else."""
    machine = re.compile(r"(?<![\w.$~-])/(work|root|home/\w+|Users/\w+)/")
    report(matches(machine, [path for path in tracked() if text_file(path)], "use a relative path"))


def test_no_registry_is_named() -> None:
    """Locks work with any mirror; which one is the machine's business."""
    hosts = (
        "registry.npm" + "js.org",
        "py" + "pi.org",
        "pythonhosted" + ".org",
        "proxy.go" + "lang.org",
    )
    registry = re.compile("|".join(re.escape(host) for host in hosts))
    report(
        matches(registry, [path for path in tracked() if text_file(path)], "leave the address out")
    )


def test_files_are_short_enough_to_read() -> None:
    lengths = {path: read(path).count("\n") for path in ours(".py", ".go", ".sol")}
    report(
        f"{path}: {length} lines, at most {LINES_MAX}: split it by meaning"
        for path, length in lengths.items()
        if length > LINES_MAX and path not in LONG
    )
    report(f"{path}: no longer long" for path in LONG if lengths.get(path, 0) <= LINES_MAX)


def text_file(path: str) -> bool:
    return b"\0" not in (ROOT / path).read_bytes()[:1024]


def matches(pattern: re.Pattern[str], paths: Iterable[str], advice: str) -> Iterator[str]:
    for path in paths:
        for number, line in enumerate(read(path).splitlines(), 1):
            if pattern.search(line):
                yield f"{path}:{number}: {line.strip()[:80]}: {advice}"


# ---------------------------------------------------------------------------------------- protos


def connector_rpcs() -> Iterator[MethodDescriptor]:
    for proto in sorted((ROOT / "proto/photinus/connector/v1").glob("*.proto")):
        module = importlib.import_module(f"photinus.connector.v1.{proto.stem}_pb2")
        for service in module.DESCRIPTOR.services_by_name.values():
            yield from service.methods


def has_mutation_context(message: Descriptor) -> bool:
    """In the request itself, or in the header that opens an upload."""
    wanted = common_pb2.MutationContext.DESCRIPTOR
    return any(
        field.message_type is not None
        and (
            field.message_type == wanted
            or (field.name == "header" and has_mutation_context(field.message_type))
        )
        for field in message.fields
    )


def test_every_mutating_rpc_has_an_idempotency_key() -> None:
    """Connector protocol §3: without a key a call can be neither repeated nor reconciled."""
    assert "idempotency_key" in common_pb2.MutationContext.DESCRIPTOR.fields_by_name
    without = {
        f"{rpc.containing_service.name}.{rpc.name}"
        for rpc in connector_rpcs()
        if not has_mutation_context(rpc.input_type)
    }
    assert without == set(WITHOUT_KEY)


def report(findings: Iterable[str]) -> None:
    found = list(findings)
    assert not found, "\n" + "\n".join(found)
