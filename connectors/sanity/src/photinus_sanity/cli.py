"""The console command `connector-sanity`: run, list, describe."""

from __future__ import annotations

import argparse
import asyncio
import shlex
import sys
from pathlib import Path

import grpc
from google.protobuf import json_format
from photinus.connector.v1 import connector_pb2 as connector

from photinus_sanity import reports
from photinus_sanity.catalogue import GROUPS, Profile
from photinus_sanity.checks import all_checks
from photinus_sanity.runner import Outcome, Plan, Status, run_checks
from photinus_sanity.session import QUIET_S, Session
from photinus_sanity.setup import SetupError, read_setup
from photinus_sanity.targets import Attached, Launched, Target, UnreachableError
from photinus_sanity.wire import CHANNEL_OPTIONS, Ear, Refusal, Wire

EXIT_CODES = """exit codes:
  0  every MUST passed (with --strict: every check)
  1  a MUST failed
  2  the command line or a file cannot be used
  3  the connector cannot be reached, does not start or refuses its settings
  4  nothing new failed, but --known-failing lists checks that do not fail
"""


def main(arguments: list[str] | None = None) -> None:
    """Runs the command and exits with its code."""
    options = _parser().parse_args(arguments)
    try:
        sys.exit(asyncio.run(options.command(options)))
    except (SetupError, OSError) as error:
        _say(f"connector-sanity: {error}", error=True)
        sys.exit(reports.USAGE)
    except UnreachableError as error:
        _say(f"connector-sanity: {error}", error=True)
        sys.exit(reports.UNREACHABLE)


async def run(options: argparse.Namespace) -> int:
    """Runs the suite; the exit code."""
    unknown = set(options.only) - {check.id for check in all_checks()} - set(GROUPS)
    if unknown:
        raise SetupError(f"there are no checks {', '.join(sorted(unknown))}; see `list`")
    known = reports.read_known_failing(options.known_failing) if options.known_failing else []
    plan = Plan(
        Profile[options.profile.upper()],
        read_setup(options.settings, options.fixture),
        tuple(options.only),
        options.quiet,
        options.repeat,
    )

    def told(outcome: Outcome) -> None:
        if outcome.status is not Status.NOT_APPLICABLE:
            _say(reports.line_of(outcome))

    async with Session(_target(options), plan.setup, plan.quiet_s) as session:
        described = session.described
        outcomes = await run_checks(session, plan, told)
    found = reports.verdict(outcomes, known, strict=options.strict)
    _say(reports.summary(outcomes, found))
    if options.junit:
        options.junit.write_text(reports.to_junit(outcomes, found))
    if options.json:
        options.json.write_text(reports.to_json(described, outcomes))
    return found.exit_code


async def list_checks(options: argparse.Namespace) -> int:
    """Prints the catalogue."""
    checks = [check for check in all_checks() if check.profile <= Profile[options.profile.upper()]]
    _say(reports.rows(checks) if options.as_json else reports.table(checks))
    return reports.OK


async def describe(options: argparse.Namespace) -> int:
    """Prints what a connector says of itself."""
    target = _target(options)
    try:
        await target.start()
        async with grpc.aio.insecure_channel(target.address, options=CHANNEL_OPTIONS) as channel:
            answer = await Wire(channel, "", Ear()).call(
                "ConnectorService.Describe", connector.DescribeRequest(), metadata=(), timeout_s=10
            )
    except Refusal as refusal:
        raise UnreachableError(str(refusal)) from None
    finally:
        await target.aclose()
    _say(json_format.MessageToJson(answer, preserving_proto_field_name=True))
    return reports.OK


def _target(options: argparse.Namespace) -> Target:
    if options.launch:
        return Launched(shlex.split(options.launch), data_dir=options.data_dir)
    return Attached(options.address)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="connector-sanity",
        description="Checks that a connector keeps the protocol. Use one that holds nothing of value.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="run | list | describe")
    runs = commands.add_parser("run", help="run the checks against a connector")
    runs.set_defaults(command=run)
    _add_target(runs)
    runs.add_argument("--settings", type=Path, help="JSON file with the connector's configuration")
    runs.add_argument("--fixture", type=Path, help="JSON file that says what the checks may use")
    runs.add_argument("--profile", choices=_profiles(), default="quick")
    runs.add_argument(
        "--only", nargs="+", default=[], metavar="ID", help="checks or groups, e.g. EVT BLK-003"
    )
    runs.add_argument("--known-failing", type=Path, help="file with ids that are expected to fail")
    runs.add_argument("--strict", action="store_true", help="a failed SHOULD counts as well")
    runs.add_argument("--repeat", type=int, default=1, help="run every check so many times")
    runs.add_argument(
        "--quiet",
        type=float,
        default=QUIET_S,
        metavar="S",
        help="seconds to wait to see that something does not happen",
    )
    runs.add_argument("--junit", type=Path, help="write JUnit XML here")
    runs.add_argument("--json", type=Path, help="write all outcomes here as JSON")
    lists = commands.add_parser("list", help="list the checks with the rules they enforce")
    lists.set_defaults(command=list_checks)
    lists.add_argument("--profile", choices=_profiles(), default="chaos")
    lists.add_argument("--json", action="store_true", dest="as_json")
    describes = commands.add_parser("describe", help="print what a connector says of itself")
    describes.set_defaults(command=describe)
    _add_target(describes)
    return parser


def _add_target(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--address", help="unix:/path or 127.0.0.1:port of a running connector")
    which.add_argument("--launch", metavar="COMMAND", help="command that starts the connector")
    parser.add_argument(
        "--data-dir", type=Path, help="PHOTINUS_DATA_DIR of a launched one; else a temporary one"
    )


def _profiles() -> list[str]:
    return [profile.name.lower() for profile in Profile]


def _say(text: str, *, error: bool = False) -> None:
    print(text, file=sys.stderr if error else sys.stdout, flush=True)
