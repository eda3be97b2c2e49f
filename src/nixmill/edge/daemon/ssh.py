"""Daemons on other machines: `ssh -N -L` forwards their socket to one of ours.

Options reach the daemon this way, which they do not through a `nix-daemon --stdio` that passes everything on.
Trust is that of the ssh user. All questions to a machine share one ssh, so that each costs milliseconds. A connection
that builds has an ssh of its own: when only a channel closes, ssh merely half-closes it, the daemon does not notice,
and a silent builder lives on (seen with OpenSSH 9.2 and every Nix); when ssh dies, the builder dies within 50 ms.
"""

import asyncio
import contextlib
import tempfile
from pathlib import Path
from typing import Final

from nixmill.doors import DoorError
from nixmill.edge.daemon import errors
from nixmill.edge.daemon.address import SshAddress
from nixmill.edge.daemon.connection import Connection
from nixmill.edge.daemon.settings import DaemonSettings
from nixmill.edge.daemon.transport import open_socket

CONNECT_S: Final = 15
"""How long ssh may take to log in."""
ALIVE_S: Final = 15
"""A machine that answers nothing for three times this long is taken for lost."""
POLL_S: Final = 0.02
LOGINS_AT_ONCE: Final = 4
"""sshd drops logins beyond ten that have not been completed (`MaxStartups`)."""
_OPTIONS: Final = {
    "BatchMode": "yes",
    "ConnectTimeout": str(CONNECT_S),
    "ExitOnForwardFailure": "yes",
    "ServerAliveInterval": str(ALIVE_S),
    "ServerAliveCountMax": "3",
    "StreamLocalBindUnlink": "yes",
    "StreamLocalBindMask": "0177",
    "ControlMaster": "no",
    "ControlPath": "none",
}


class SshForward:
    """One machine's forwarded socket. ssh is started when first needed, and again if it died."""

    def __init__(self, address: SshAddress, settings: DaemonSettings) -> None:
        """Start nothing yet."""
        self._address = address
        self._settings = settings
        self._process: asyncio.subprocess.Process | None = None
        self._directory = tempfile.TemporaryDirectory(prefix="nm-ssh")
        self._starting = asyncio.Lock()

    async def socket(self) -> str:
        """Return the path of the socket; raise `DoorError` where ssh cannot log in."""
        path = f"{self._directory.name}/s"
        async with self._starting:
            if self._process is None or self._process.returncode is not None:
                _remove(path)
                self._process = await self._start(path)
                await _established(self._process, path, self._address, self._words)
        return path

    async def close(self) -> None:
        """End ssh, and with it every connection through it."""
        if self._process is not None:
            await _end(self._process)
        self._directory.cleanup()

    @property
    def _words(self) -> Path:
        """Where ssh's complaints go."""
        return Path(self._directory.name) / "stderr"

    async def _start(self, path: str) -> asyncio.subprocess.Process:
        with self._words.open("wb") as words:
            return await asyncio.create_subprocess_exec(
                *_arguments(self._address, self._settings, path),
                env=dict(self._settings.environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=words,
                start_new_session=True,
            )


class SshDialler:
    """Makes connections to one machine."""

    def __init__(self, address: SshAddress, settings: DaemonSettings) -> None:
        """Start nothing yet."""
        self._address = address
        self._settings = settings
        self._shared = SshForward(address, settings)
        self._logins = asyncio.Semaphore(LOGINS_AT_ONCE)

    async def dial(self) -> Connection:
        """Connect through the ssh that all questions share."""
        return await self._open(await self._shared.socket())

    async def dial_alone(self) -> Connection:
        """Connect through an ssh that ends with the connection."""
        forward = SshForward(self._address, self._settings)
        try:
            async with self._logins:
                connection = await self._open(await forward.socket())
        except BaseException:
            await forward.close()
            raise
        connection.on_close = forward.close
        return connection

    async def close(self) -> None:
        """End the shared ssh."""
        await self._shared.close()

    async def _open(self, path: str) -> Connection:
        name = f"ssh://{self._address.destination}"
        return await open_socket(path, self._settings.newest_minor, address=name)


def _arguments(address: SshAddress, settings: DaemonSettings, path: str) -> list[str]:
    options = [word for name, value in _OPTIONS.items() for word in ("-o", f"{name}={value}")]
    port = ["-p", str(address.port)] if address.port else []
    key = ["-i", address.key_file] if address.key_file else []
    forward = ["-N", "-L", f"{path}:{address.socket_path}"]
    return [settings.ssh, *settings.ssh_options, *options, *port, *key, *forward, "--", address.destination]


async def _established(process: asyncio.subprocess.Process, path: str, address: SshAddress, words: Path) -> None:
    """Wait for the socket; ssh makes it once it has logged in."""
    deadline = asyncio.get_running_loop().time() + 2 * CONNECT_S
    while not _is_there(path):
        if process.returncode is not None:
            raise _login_failed(address, _read_words(words))
        if asyncio.get_running_loop().time() > deadline:
            raise _login_failed(address, "it took too long")
        await asyncio.sleep(POLL_S)


def _is_there(path: str) -> bool:
    """Say whether ssh has made its socket; connecting to find out would open a channel to the other side."""
    return Path(path).exists()


def _remove(path: str) -> None:
    """Remove the socket of an ssh that died."""
    Path(path).unlink(missing_ok=True)


def _read_words(words: Path) -> str:
    return words.read_text(errors="replace").strip()


def _login_failed(address: SshAddress, said: str) -> DoorError:
    name = f"ssh://{address.destination}"
    reason = f"ssh could not log in ({said}). Try `ssh {address.destination}` as the user nixmill runs as."
    return errors.unreachable(name, reason, retryable=True)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):  # it exited meanwhile
            process.kill()
    await process.wait()
