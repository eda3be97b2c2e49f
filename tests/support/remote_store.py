"""A second store under the same path as a scratch store, as another machine would have it, and a way there by ssh.

The daemon of the second store runs in a mount namespace of its own, where other directories lie over the
first one's: same `NIX_STORE_DIR`, other contents. Needs root, because it mounts.
"""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from nixmill.nix.store_path import StorePath
from tests.support.nix_world import end_daemon, wait_for_socket
from tests.support.scratch_store import ScratchStore

SSHD = "/usr/sbin/sshd"
SSHD_CONFIGURATION = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {directory}/host_key
AuthorizedKeysFile {directory}/user_key.pub
PidFile none
StrictModes no
UsePAM no
"""


@dataclass(frozen=True)
class RemoteStore:
    """Where the other store's daemon listens, and where its files really are."""

    socket: str
    contents: Path

    def has(self, path: StorePath) -> bool:
        """Say whether the other store holds the files of a path."""
        return (self.contents / Path(path).name).exists()


@contextlib.contextmanager
def remote_store(store: ScratchStore) -> Iterator[RemoteStore]:
    """Run a daemon whose store has the path of `store` and nothing in it."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("a second store under the same path needs root and the program unshare")
    there = store.root / "remote"
    covered = {there / "store": store.root / "store", there / "var": store.root / "var"}
    for source, target in covered.items():
        source.mkdir(parents=True)
        target.mkdir(exist_ok=True)
    (there / "var/nix").mkdir()
    socket = store.root / "remote.sock"
    mounts = [f"mount --bind {source} {target}" for source, target in covered.items()]
    script = " && ".join([*mounts, "exec nix-daemon"])
    environment = {**store.environment, "NIX_DAEMON_SOCKET_PATH": str(socket)}
    with (there / "daemon.log").open("wb") as log:
        arguments = ["unshare", "--mount", "sh", "-c", script]
        daemon = subprocess.Popen(arguments, env=environment, stdout=log, stderr=log)
        try:
            wait_for_socket(daemon, socket)
            yield RemoteStore(str(socket), there / "store")
        finally:
            end_daemon(daemon)


@dataclass(frozen=True)
class SshServer:
    """A server on the loopback interface that lets one throw-away key in."""

    port: int
    key: Path
    options: tuple[str, ...]

    def address(self, socket: str) -> str:
        """Return the address of the store whose daemon listens at `socket` on the other side."""
        user = os.environ.get("USER", "root")
        return f"ssh-ng://{user}@127.0.0.1:{self.port}?ssh-key={self.key}&remote-store=unix://{socket}"


@contextlib.contextmanager
def ssh_server(directory: Path, port: int) -> Iterator[SshServer]:
    """Run a server; skip the test where none is installed."""
    if not Path(SSHD).exists():
        pytest.skip("sshd is not installed (package openssh-server)")
    directory.mkdir()
    Path("/run/sshd").mkdir(exist_ok=True)  # Debian's sshd wants its empty directory, which only its service makes
    for name in ("host_key", "user_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name)], check=True)
    (directory / "sshd_config").write_text(SSHD_CONFIGURATION.format(port=port, directory=directory))
    known_hosts = directory / "known_hosts"
    known_hosts.write_text(f"[127.0.0.1]:{port} {(directory / 'host_key.pub').read_text()}")
    with (directory / "sshd.log").open("wb") as log:
        server = subprocess.Popen([SSHD, "-D", "-e", "-f", str(directory / "sshd_config")], stderr=log)
        try:
            _wait_until_it_listens(server, directory / "sshd.log")
            options = ("-F", "/dev/null", "-o", f"UserKnownHostsFile={known_hosts}", "-o", "IdentitiesOnly=yes")
            yield SshServer(port, directory / "user_key", options)
        finally:
            server.terminate()
            server.wait()


def _wait_until_it_listens(server: "subprocess.Popen[bytes]", log: Path) -> None:
    while "Server listening" not in log.read_text():
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(timeout=0.01)
            sys.stderr.write(log.read_text())
            raise AssertionError("sshd ended at once")
