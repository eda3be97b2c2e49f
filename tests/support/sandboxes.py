"""Evaluation sandboxes over a scratch store, and listeners that nobody should reach."""

import contextlib
import socket
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from nixmill.edge.daemon.settings import DaemonSettings
from nixmill.edge.sandbox import Sandbox, SandboxLimits
from nixmill.edge.sandbox.net_proxy import is_allowed
from nixmill.edge.sandbox.sandbox import Network
from nixmill.edge.sandbox.upstream import connector
from nixmill.nix.store_path import StorePath
from tests.support.scratch_store import ScratchStore

DEFAULT_LIMITS = SandboxLimits()


def sandbox(
    store: ScratchStore,
    environment: Mapping[str, str] | None = None,
    *,
    readable: Collection[StorePath] = (),
    network: Network = "none",
    limits: SandboxLimits = DEFAULT_LIMITS,
    bwrap: str = "bwrap",
    allow: Callable[[str, int], bool] = is_allowed,
) -> Sandbox:
    """Return a sandbox for evaluations that use this store."""
    Path(store.store_dir).mkdir(exist_ok=True)
    connect = connector("stdio", DaemonSettings.from_environment(store.environment))
    return Sandbox(
        environment or store.environment,
        connect=connect,
        readable=readable,
        network=network,
        limits=limits,
        bwrap=bwrap,
        allow=allow,
    )


class Listener:
    """A port of this machine, which remembers whether anybody came."""

    def __init__(self, listening: socket.socket) -> None:
        listening.settimeout(0)
        self._socket = listening
        self.port: int = listening.getsockname()[1]

    def was_reached(self) -> bool:
        """Say whether a connection waits."""
        try:
            self._socket.accept()[0].close()
        except BlockingIOError:
            return False
        return True


@contextlib.contextmanager
def listener() -> Iterator[Listener]:
    """Listen on 127.0.0.1."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield Listener(listening)
