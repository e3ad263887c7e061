"""Results for people, for JUnit readers and as JSON; the list of known failures; the exit code."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from photinus.connector.v1 import connector_pb2 as connector

from photinus_sanity.catalogue import GROUPS, Check, Level
from photinus_sanity.runner import Outcome, Status

OK, FAILED, USAGE, UNREACHABLE, STALE = 0, 1, 2, 3, 4

MARKS = {Status.PASSED: "ok", Status.FAILED: "FAILED", Status.NOT_APPLICABLE: "n/a"}


@dataclass(frozen=True)
class Verdict:
    """What a run comes to.

    Attributes:
        failed: MUSTs (with `strict` all) that failed and are not known to.
        warned: SHOULDs that failed.
        known: Failures that were expected.
        stale: Ids that were expected to fail and did not.
    """

    failed: tuple[Outcome, ...]
    warned: tuple[Outcome, ...]
    known: tuple[Outcome, ...]
    stale: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        if self.failed:
            return FAILED
        return STALE if self.stale else OK


def verdict(
    outcomes: Sequence[Outcome], known_failing: Iterable[str] = (), *, strict: bool = False
) -> Verdict:
    """Judges a run. An id that is known to fail but passed, or did not run, is stale."""
    known_ids = set(known_failing)
    failures = [outcome for outcome in outcomes if outcome.status is Status.FAILED]
    new = [outcome for outcome in failures if outcome.check.id not in known_ids]
    binding = [o for o in new if strict or o.check.level is Level.MUST]
    return Verdict(
        tuple(binding),
        tuple(outcome for outcome in new if outcome not in binding),
        tuple(outcome for outcome in failures if outcome.check.id in known_ids),
        tuple(sorted(known_ids - {outcome.check.id for outcome in failures})),
    )


def read_known_failing(path: Path) -> list[str]:
    """Ids, one per line; `#` begins a comment. Raises OSError."""
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return [line for line in lines if line]


def line_of(outcome: Outcome) -> str:
    """One line for a person, more when it failed."""
    check = outcome.check
    mark = MARKS[outcome.status]
    if outcome.status is Status.FAILED and check.level is Level.SHOULD:
        mark = "warning"
    text = f"{mark:<8} {check.id:<8} {check.level.value:<6} {check.title}"
    if outcome.status is Status.FAILED:
        text += f"\n           found: {outcome.message}"
        text += f"\n           rule:  {check.rule}\n           fix:   {check.fix}"
    elif outcome.status is Status.NOT_APPLICABLE:
        text += f" ({outcome.message})"
    return text


def summary(outcomes: Sequence[Outcome], found: Verdict) -> str:
    """The last lines of a run."""
    count = {status: sum(o.status is status for o in outcomes) for status in Status}
    lines = [
        (
            f"{count[Status.PASSED]} passed, {len(found.failed)} failed, {len(found.warned)} warnings,"
            f" {len(found.known)} known failures, {count[Status.NOT_APPLICABLE]} not applicable"
        )
    ]
    reasons: dict[str, list[str]] = {}
    for outcome in outcomes:
        if outcome.status is Status.NOT_APPLICABLE:
            reasons.setdefault(outcome.message, []).append(outcome.check.id)
    lines += [f"n/a: {why}: {' '.join(ids)}" for why, ids in reasons.items()]
    lines += [f"stale in --known-failing, take it out: {check_id}" for check_id in found.stale]
    return "\n".join(lines)


def to_json(described: connector.DescribeResponse | None, outcomes: Sequence[Outcome]) -> str:
    """All outcomes as JSON; `described` names the connector."""
    name = {"name": described.name, "version": described.version} if described else {}
    rows = [
        {
            "id": outcome.check.id,
            "level": outcome.check.level.value,
            "status": outcome.status.value,
            "title": outcome.check.title,
            "rule": outcome.check.rule,
            "fix": outcome.check.fix,
            "message": outcome.message,
            "duration_s": round(outcome.duration_s, 3),
        }
        for outcome in outcomes
    ]
    return json.dumps({"connector": name, "checks": rows}, indent=2, ensure_ascii=False)


def to_junit(outcomes: Sequence[Outcome], found: Verdict) -> str:
    """All outcomes as JUnit XML: one suite per group, failures only for what decides the exit code."""
    root = ET.Element("testsuites", name="connector-sanity")
    for group in GROUPS:
        members = [outcome for outcome in outcomes if outcome.check.group == group]
        if not members:
            continue
        failed = [outcome for outcome in members if outcome in found.failed]
        other = [o for o in members if o.status is not Status.PASSED and o not in failed]
        suite = ET.SubElement(
            root,
            "testsuite",
            name=group,
            tests=str(len(members)),
            failures=str(len(failed)),
            skipped=str(len(other)),
            errors="0",
            time=f"{sum(outcome.duration_s for outcome in members):.3f}",
        )
        for outcome in members:
            _case(suite, outcome, found)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True)


def _case(suite: ET.Element, outcome: Outcome, found: Verdict) -> None:
    check = outcome.check
    case = ET.SubElement(
        suite,
        "testcase",
        classname=f"{check.group}.{check.level.value}",
        name=f"{check.id} {check.title}",
        time=f"{outcome.duration_s:.3f}",
    )
    if outcome in found.failed:
        failure = ET.SubElement(case, "failure", message=_xml_text(outcome.message))
        failure.text = f"rule: {check.rule}\nfix: {check.fix}"
    elif outcome.status is not Status.PASSED:
        kind = "known to fail: " if outcome in found.known else ""
        kind = "warning: " if outcome in found.warned else kind
        ET.SubElement(case, "skipped", message=_xml_text(kind + outcome.message))


def _xml_text(text: str) -> str:
    """Text without the characters XML does not allow."""
    return "".join(c if c in "\t\n" or ord(c) >= 32 else "\N{REPLACEMENT CHARACTER}" for c in text)


def table(checks: Iterable[Check]) -> str:
    """The catalogue for a person, by group."""
    lines: list[str] = []
    group = ""
    for check in checks:
        if check.group != group:
            group = check.group
            lines += ["", f"{group}: {GROUPS[group]}"]
        profile = check.profile.name.lower()
        lines.append(f"  {check.id:<8} {check.level.value:<6} {profile:<5} {check.title}")
        lines.append(f"  {'':<8} {check.rule}. Fix: {check.fix}")
    return "\n".join(lines).lstrip("\n")


def rows(checks: Iterable[Check]) -> str:
    """The catalogue as JSON."""
    return json.dumps(
        [
            {
                "id": check.id,
                "level": check.level.value,
                "profile": check.profile.name.lower(),
                "title": check.title,
                "rule": check.rule,
                "fix": check.fix,
            }
            for check in checks
        ],
        indent=2,
        ensure_ascii=False,
    )
