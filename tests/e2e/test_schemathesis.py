"""Goal: a member answers nothing that its OpenAPI document does not declare, whatever it is asked.

Method: Schemathesis makes requests from the document that a gateway serves, right ones and wrong ones, the same in
every run: bounds of each parameter and member, what is required left out, other types, and a few by chance. No answer
may be an error of the server (5xx), have a status or a type that is not declared, or a body that breaks its schema.
Paths of a named namespace are left out, as they are the bare ones again; so are queries as JSON, which `test_queries`
asks.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.support.golden import REPOSITORY
from tests.support.network import RunningNetwork

PROGRAM: Final = REPOSITORY / ".toolchain" / "bin" / "schemathesis"
LEFT_OUT: Final = r"^/namespaces/\{ns\}/|/query$"
EXAMPLES: Final = 1
ASKED_MIN: Final = 1_000
RUN_S: Final = 800.0
SHOWN: Final = 8_000
CHECKS: Final = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)


@pytest.mark.timeout(RUN_S + 60)
def test_a_member_answers_as_its_document_says(network: RunningNetwork, tmp_path: Path) -> None:
    assert PROGRAM.exists(), "run `scripts/setup test`"
    url = network.members[0].url
    command: list[str | Path] = [
        *(PROGRAM, "run", f"{url}/api/openapi.json", "--url", f"{url}/api/v1"),
        *("--exclude-path-regex", LEFT_OUT, "--checks", ",".join(CHECKS)),
        *("--phases", "coverage,fuzzing", "--max-examples", str(EXAMPLES)),
        *("--generation-deterministic", "--seed", "1", "--workers", "4"),
        *("--header", "Request-Timeout: 500ms", "--request-timeout", "60"),
        *("--suppress-health-check", "all", "--no-color"),
    ]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=RUN_S, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-SHOWN:]}\n{done.stderr[-SHOWN:]}"
    asked = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    assert asked, done.stdout[-SHOWN:]
    assert int(asked[1]) == int(asked[2]) >= ASKED_MIN
