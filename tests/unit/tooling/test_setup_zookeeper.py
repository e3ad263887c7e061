"""Goal: ZooKeeper comes from Debian's packages, with a Java where there is none, without being root; where there is no
apt, from the machine; and what cannot be had is said.

Method: fake programs on PATH in place of apt, dpkg and Java; what they were asked is written down.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from scripts import setup_parts, setup_zookeeper
from scripts.setup_parts import StepError

APT_GET = """\
echo "$*" >> {calls}
case "$*" in
*update*) touch {folder}/updated ;;
*download*)
    if [ -e {folder}/needs-lists ] && [ ! -e {folder}/updated ]; then exit 100; fi
    for word; do case $word in lib*|openjdk*) touch "$word.deb" ;; esac; done ;;
esac
"""
DPKG = """\
mkdir -p "$3/usr/share/java"
case "$2" in
*libzookeeper*) touch "$3/usr/share/java/zookeeper.jar" ;;
*libnetty*) touch "$3/usr/share/java/netty-common.jar" ;;
*libslf4j*) touch "$3/usr/share/java/slf4j-api.jar" "$3/usr/share/java/slf4j-log4j12.jar" ;;
*openjdk*)
    mkdir -p "$3/usr/lib/jvm/java-17/bin" "$3/usr/lib/jvm/java-17/lib" "$3/etc/java-17"
    echo 'echo "$@"' > "$3/usr/lib/jvm/java-17/bin/java"
    chmod +x "$3/usr/lib/jvm/java-17/bin/java"
    echo here > "$3/etc/java-17/jvm.cfg"
    ln -s /etc/java-17/jvm.cfg "$3/usr/lib/jvm/java-17/lib/jvm.cfg" ;;
esac
"""
APT_CACHE = "echo '  Depends: openjdk-17-jre-headless'\n"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout and a PATH with fake apt and dpkg, and nothing else but the shell's own programs."""
    for folder in (".toolchain/stamps", ".toolchain/log", ".toolchain/bin", ".venv/bin", "bin"):
        (tmp_path / folder).mkdir(parents=True)
    for module in (setup_parts, setup_zookeeper):
        monkeypatch.setattr(module, "ROOT", tmp_path)
        monkeypatch.setattr(module, "VENV", tmp_path / ".venv")
        monkeypatch.setattr(module, "BIN", tmp_path / ".toolchain" / "bin")
    monkeypatch.setattr(setup_zookeeper, "TOOLCHAIN", tmp_path / ".toolchain")
    monkeypatch.setattr(setup_parts, "STAMPS", tmp_path / ".toolchain" / "stamps")
    monkeypatch.setattr(setup_parts, "LOGS", tmp_path / ".toolchain" / "log")
    for name in ("sh", "touch", "mkdir", "chmod", "ln", "echo"):
        (tmp_path / "bin" / name).symlink_to(f"/bin/{name}")
    calls = tmp_path / "calls"
    calls.touch()
    program(tmp_path, "apt-get", APT_GET.format(calls=calls, folder=tmp_path))
    program(tmp_path, "apt-cache", APT_CACHE)
    program(tmp_path, "dpkg-deb", DPKG)
    program(tmp_path, "java", "echo 'openjdk 17.0.15 2025-04-15'\n")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


def program(machine: Path, name: str, script: str) -> None:
    path = machine / "bin" / name
    path.write_text(f"#!/bin/sh\n{script}")
    path.chmod(0o755)


def server(machine: Path) -> str:
    """What the installed program runs, without the first line."""
    for place in (".toolchain/bin", ".venv/bin"):
        assert (machine / place / "zookeeper-server").read_text().startswith("#!/bin/sh\n")
    return (machine / ".toolchain/bin/zookeeper-server").read_text()


def asked(machine: Path) -> list[str]:
    return (machine / "calls").read_text().splitlines()


def test_packages_are_fetched_and_unpacked_for_the_java_that_is_there(machine: Path) -> None:
    setup_parts.perform(setup_zookeeper.zookeeper_step())
    script = server(machine)
    assert f'exec "{machine}/bin/java"' in script
    for jar in ("zookeeper", "netty-common", "slf4j-api"):
        assert f"/{jar}.jar" in script
    assert "log4j12" not in script, "a second logger is in the way"
    (download,) = asked(machine)
    assert "libzookeeper-java" in download
    assert "openjdk" not in download
    assert not list((machine / ".toolchain/zookeeper").glob("*.deb"))
    setup_parts.perform(setup_zookeeper.zookeeper_step())
    assert len(asked(machine)) == 1, "done once"


@pytest.mark.parametrize("old", [None, "openjdk 1.8.0", "openjdk 10.0.2 2018"])
def test_a_java_comes_along_where_there_is_none_new_enough(machine: Path, old: str | None) -> None:
    (machine / "bin" / "java").unlink()
    if old is not None:
        program(machine, "java", f"echo '{old}'\n")
    setup_parts.perform(setup_zookeeper.zookeeper_step())
    assert "openjdk-17-jre-headless" in asked(machine)[0]
    java = machine / ".toolchain/zookeeper/unpacked/usr/lib/jvm/java-17"
    assert f'exec "{java}/bin/java"' in server(machine)
    assert (java / "lib" / "jvm.cfg").read_text() == "here\n", (
        "links into /etc lead to what was unpacked"
    )
    ran = subprocess.run(
        [machine / ".venv/bin/zookeeper-server", "zoo.cfg"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.endswith("QuorumPeerMain zoo.cfg\n")


def test_lists_of_ones_own_are_fetched_when_apt_has_none(machine: Path) -> None:
    (machine / "needs-lists").touch()
    setup_parts.perform(setup_zookeeper.zookeeper_step())
    first, update, second = asked(machine)
    own = f"Dir::State={machine}/.toolchain/zookeeper/apt/state"
    assert own not in first
    assert own in update
    assert own in second
    assert not (machine / ".toolchain/zookeeper/apt").exists()


def test_without_apt_the_machines_zookeeper_serves(machine: Path) -> None:
    (machine / "bin" / "apt-get").unlink()
    with pytest.raises(StepError, match=r"put its zkServer\.sh on PATH"):
        setup_parts.perform(setup_zookeeper.zookeeper_step())
    program(machine, "zkServer.sh", 'echo "serving $*"\n')
    setup_parts.perform(setup_zookeeper.zookeeper_step())
    ran = subprocess.run(
        [machine / ".venv/bin/zookeeper-server", "zoo.cfg"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == "serving start-foreground zoo.cfg\n"


def test_packages_without_a_server_are_said(machine: Path) -> None:
    program(machine, "dpkg-deb", 'mkdir -p "$3"\n')
    with pytest.raises(StepError, match=r"held no zookeeper\.jar"):
        setup_parts.perform(setup_zookeeper.zookeeper_step())


def test_a_release_without_java_is_said(machine: Path) -> None:
    (machine / "bin" / "java").unlink()
    program(machine, "apt-cache", "exit 0\n")
    with pytest.raises(StepError, match="apt knows no Java"):
        setup_parts.perform(setup_zookeeper.zookeeper_step())
