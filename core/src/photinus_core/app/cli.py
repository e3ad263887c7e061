"""The `photinus` command.

What a command needs is loaded when it runs: `photinus up --in-memory` is to be up in about a second, and its
processes start before the core is loaded.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import uvloop

from photinus_core.app.choices import CLUSTER_REPLICAS, COLLECTIONS, DRAIN_S
from photinus_core.app.devnet.layout import MEMBERS_MAX
from photinus_core.app.devnet.processes import StartError
from photinus_core.app.reaching import add_api, api_of
from photinus_core.app.telling import complain, tell

if TYPE_CHECKING:
    from photinus_core.app import commands, operating
    from photinus_core.app.devnet.cluster import ClusterPlan
else:

    class _Later:
        """A module that is loaded when something of it is used."""

        def __init__(self, name: str) -> None:
            self._name = name

        def __getattr__(self, name: str) -> object:
            return getattr(import_module(f"photinus_core.app.{self._name}"), name)

    commands, operating = _Later("commands"), _Later("operating")

DEFAULT_DIRECTORY: Final = Path(".photinus")
INTERRUPTED: Final = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; gives the exit code."""
    parser = _parser()
    parsed = parser.parse_args(arguments)
    if not hasattr(parsed, "run"):
        parser.print_help()
        return 2
    try:
        return int(parsed.run(parsed))
    except KeyboardInterrupt:
        return INTERRUPTED
    except (StartError, OSError) as failure:
        complain(f"photinus: {failure}")
        return 1
    except Exception as failure:  # noqa: BLE001 - raised again unless it is one of ours
        return _explained(failure)


def _explained(failure: Exception) -> int:
    """Tells a failure that is the user's to mend; raises any other again."""
    from photinus_core.app.config import ConfigError  # noqa: PLC0415 - see above
    from photinus_core.model.errors import PhotinusError  # noqa: PLC0415 - see above

    match failure:
        case ConfigError():
            for problem in failure.problems:
                complain(str(problem))
            return 2
        case PhotinusError():
            complain(f"photinus: {failure}")
            return 1
        case ExceptionGroup(exceptions=(only,)):  # what failed within a group of tasks
            return _explained(only)
        case _:
            raise failure


class _Version(argparse.Action):
    """Looks the version up when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version  # noqa: PLC0415 - see above

        tell(version("photinus-core"))
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="photinus", description="A multi-party node, compatible with Hyperledger FireFly."
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version")
    parsers = parser.add_subparsers(title="commands", metavar="COMMAND")

    up = parsers.add_parser("up", help="start a network on this machine, until Ctrl-C")
    up.add_argument("--members", type=int, default=2, help=f"how many members (1-{MEMBERS_MAX})")
    up.add_argument(
        "--cluster",
        action="store_true",
        help="run several replicas of each member, over a PostgreSQL and a ZooKeeper started here",
    )
    up.add_argument(
        "--replicas", type=int, default=None, help="replicas of each member (1; in a cluster 2)"
    )
    up.add_argument("--postgres", default="", metavar="URL", help="a PostgreSQL server to use")
    up.add_argument("--zookeeper", default="", metavar="HOSTS", help="a ZooKeeper ensemble to use")
    up.add_argument(
        "--plugins",
        type=_absolute,
        default=None,
        metavar="FILE",
        help="YAML with plugins of your own in place of ours: `plugins:` as in a node's configuration",
    )
    up.add_argument("--fresh", action="store_true", help="throw away the former network first")
    up.add_argument(
        "--in-memory",
        action="store_true",
        help="no chain, no files: for unit tests of applications; nothing of it stays",
    )
    up.add_argument(
        "command",
        nargs="*",
        metavar="-- COMMAND",
        help="with --in-memory: run this with the members' URLs in its environment, then end",
    )
    _add_directory(up)
    up.set_defaults(run=_up)

    down = parsers.add_parser("down", help="end the network of this folder")
    _add_directory(down)
    down.set_defaults(run=lambda a: _run(commands.down(a.dir)))

    status = parsers.add_parser("status", help="show the network of this folder")
    _add_directory(status)
    status.set_defaults(run=lambda a: _run(commands.status(a.dir)))

    demo = parsers.add_parser("demo", help="two organisations agree on a document, from nothing")
    demo.add_argument("--dir", type=_absolute, default=None, help="keep the network in this folder")
    demo.set_defaults(run=lambda a: _run(commands.demo(a.dir)))

    connectors = parsers.add_parser("connectors", help="show the connectors of a node")
    add_api(connectors, os.environ)
    connectors.set_defaults(run=lambda a: _run(commands.connectors(api_of(a, os.environ))))

    _add_connector(parsers.add_parser("connector", help="write a connector of your own"))

    explain = parsers.add_parser("explain", help="say what something waits for")
    kinds = explain.add_subparsers(required=True, metavar="KIND")
    message = kinds.add_parser("message", help="a message")
    message.add_argument("id", help="id of the message")
    message.add_argument("--namespace", default="", help="its namespace (the default one)")
    add_api(message, os.environ)
    message.set_defaults(
        run=lambda a: _run(commands.explain_message(api_of(a, os.environ), a.namespace, a.id))
    )

    _add_operating(parsers.add_parser)

    config = parsers.add_parser("config", help="look at a configuration")
    actions = config.add_subparsers(required=True, metavar="ACTION")
    check = actions.add_parser("check", help="check a file; errors have line numbers")
    check.add_argument("file", type=Path, help="FireFly-shaped YAML")
    check.set_defaults(run=lambda a: commands.check_config(a.file))

    serve = parsers.add_parser("serve", help="run one core with a configuration")
    _add_config(serve)
    serve.set_defaults(run=_serve)
    return parser


def _add_connector(connector: argparse.ArgumentParser) -> None:
    actions = connector.add_subparsers(required=True, metavar="ACTION")
    new = actions.add_parser("new", help="make a project that passes the conformance suite")
    new.add_argument("name", metavar="NAME", help="name of connector, project and folder")
    new.add_argument(
        "--contract",
        required=True,
        help="what it connects: shared-storage, blockchain, data-exchange or tokens",
    )
    new.add_argument("--language", default="python", help="python or go (python)")
    new.add_argument("--dir", type=Path, default=Path(), help="where to make the folder (here)")
    new.set_defaults(run=lambda a: commands.new_connector(a.name, a.contract, a.language, a.dir))


def _up(parsed: argparse.Namespace) -> int:
    if not parsed.in_memory:
        if parsed.command:
            raise StartError("a command to run goes with --in-memory")
        plan = _cluster_plan(parsed)
        made = commands.up(parsed.dir, parsed.members, plan, parsed.plugins, fresh=parsed.fresh)
        return _run(made)
    lasting = ("cluster", "replicas", "postgres", "zookeeper", "plugins", "fresh")
    elsewhere = parsed.dir != DEFAULT_DIRECTORY.absolute()
    if elsewhere or any(getattr(parsed, name) for name in lasting):
        raise StartError("--in-memory keeps nothing: it goes with --members alone")
    from photinus_core.app import memory_command  # noqa: PLC0415 - see above

    return _run(memory_command.up(parsed.members, parsed.command))


def _add_operating(add: Callable[..., argparse.ArgumentParser]) -> None:
    cluster = add("cluster", help="show replicas, who leads what, and what waits")
    add_api(cluster, os.environ)
    cluster.set_defaults(run=lambda a: _run(operating.cluster(api_of(a, os.environ))))
    actions = cluster.add_subparsers(required=False, metavar="ACTION")
    rebind = actions.add_parser(
        "rebind", help="use a rebuilt ZooKeeper ensemble; all replicas must be down"
    )
    _add_config(rebind)
    rebind.set_defaults(run=lambda a: _run(operating.rebind_ensemble(a.config, _folder(a))))

    drain = add("drain", help="take a replica out: hand over, send clients elsewhere")
    add_api(drain, os.environ)
    drain.add_argument("--timeout", type=float, default=DRAIN_S, help="seconds to wait (30)")
    drain.set_defaults(run=lambda a: _run(operating.drain(api_of(a, os.environ), a.timeout)))

    prune = add("prune", help="delete what is old and no longer needed")
    prune.add_argument(
        "--older-than", type=_age, required=True, metavar="AGE", help="such as 90d, 12h, 2w"
    )
    prune.add_argument(
        "--collection",
        action="append",
        choices=COLLECTIONS,
        help="which one, may be given again (all of these)",
    )
    prune.add_argument("--namespace", default="", help="in which namespace (the default one)")
    prune.add_argument("--dry-run", action="store_true", help="only count")
    add_api(prune, os.environ)
    prune.set_defaults(run=lambda a: _run(operating.prune(api_of(a, os.environ), _pruning(a))))


def _pruning(parsed: argparse.Namespace) -> operating.Pruning:
    chosen = parsed.collection or COLLECTIONS
    ordered = tuple(name for name in COLLECTIONS if name in chosen)
    return operating.Pruning(parsed.namespace, ordered, parsed.older_than, parsed.dry_run)


def _age(text: str) -> int:
    try:
        return operating.read_age(text)
    except ValueError as failure:
        raise argparse.ArgumentTypeError(str(failure)) from failure


def _cluster_plan(parsed: argparse.Namespace) -> ClusterPlan:
    from photinus_core.app.devnet.cluster import ClusterPlan  # noqa: PLC0415 - see above

    shared = parsed.cluster or parsed.zookeeper
    replicas = parsed.replicas or (CLUSTER_REPLICAS if shared else 1)
    return ClusterPlan(
        replicas=replicas, postgres=parsed.postgres, zookeeper=parsed.zookeeper, own=parsed.cluster
    )


def _serve(parsed: argparse.Namespace) -> int:
    from photinus_core.app.config import load  # noqa: PLC0415 - the other commands need no node
    from photinus_core.app.logs import set_up_logs  # noqa: PLC0415 - likewise
    from photinus_core.app.serve import serve  # noqa: PLC0415 - likewise

    settings = load(parsed.config)
    directory = _folder(parsed)
    set_up_logs(settings.log, directory)
    for warning in settings.warnings:
        logging.getLogger(__name__).warning("%s", warning)
    uvloop.run(serve(settings, directory, lambda _: None, parsed.config.absolute()))
    return 0


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", "-f", type=Path, required=True, help="FireFly-shaped YAML")
    parser.add_argument(
        "--dir", type=Path, default=None, help="where relative paths begin (the file's folder)"
    )


def _folder(parsed: argparse.Namespace) -> Path:
    folder: Path = parsed.dir or parsed.config.absolute().parent
    return folder


def _run(command: Coroutine[Any, Any, int]) -> int:
    async def cancellable() -> int:
        task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        if task is not None:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, task.cancel)
        try:
            return await command
        except asyncio.CancelledError:
            return INTERRUPTED

    return uvloop.run(cancellable())


def _add_directory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dir",
        type=_absolute,
        default=DEFAULT_DIRECTORY.absolute(),
        help="folder of the network (.photinus)",
    )


def _absolute(text: str) -> Path:
    return Path(text).absolute()


if __name__ == "__main__":
    sys.exit(main())
