"""A real SMTP server in a process of its own, which does to each recipient what the address says.

Run as a program it prints its port and writes one JSON line for each message it took.
"""

import asyncio
import contextlib
import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session


class Options(NamedTuple):
    """How the server talks."""

    security: str = "none"
    """As in the settings of nixmill."""
    password: str = ""
    """Where set, `mill` has to sign in with it."""
    certificate: str = ""
    """File with certificate and key."""


class Handler:
    """Behaves as the local part of a recipient says."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._seen: set[str] = set()

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        match address.partition("@")[0]:
            case "gone":
                return "550 5.1.1 No such user\x07"
            case "later" if address not in self._seen:
                self._seen.add(address)
                return "451 4.7.1 Greylisted, try again"
            case "busy":
                return "421 4.3.2 Too busy"
            case "drop":
                _abort(server)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - likewise
        assert isinstance(envelope.content, bytes)
        line = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "content": envelope.content.decode(),
            "tls": server.transport is not None and server.transport.get_extra_info("sslcontext") is not None,
            "signed in": bool(session.authenticated),
        }
        match envelope.rcpt_tos[0].partition("@")[0]:
            case "full":
                return "452 4.2.2 Mailbox full"
            case "spam":
                return "554 5.7.1 We do not like this"
        with self._file.open("a") as file:
            file.write(json.dumps(line) + "\n")
        if envelope.rcpt_tos[0].startswith("farewell@"):
            # Say that it was taken, then break off before the farewell.
            asyncio.get_running_loop().call_later(0.05, _abort, server)
        return "250 OK"


def _abort(server: SMTP) -> None:
    if isinstance(server.transport, asyncio.WriteTransport):
        server.transport.abort()


async def _serve(file: Path, options: Options) -> None:
    context = None
    if options.security != "none":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.certificate)

    def authenticate(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: object) -> AuthResult:
        good = isinstance(data, LoginPassword) and data == LoginPassword(b"mill", options.password.encode())
        return AuthResult(success=good, handled=False)

    def connection() -> SMTP:
        return SMTP(
            handler,
            tls_context=context if options.security == "starttls" else None,
            require_starttls=options.security == "starttls",
            auth_required=bool(options.password),
            auth_require_tls=False,
            authenticator=authenticate,
        )

    handler = Handler(file)
    tls = context if options.security == "tls" else None
    server = await asyncio.get_running_loop().create_server(connection, "127.0.0.1", 0, ssl=tls)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - how the port is told
    await server.serve_forever()


class SmtpServer(NamedTuple):
    """A server that runs."""

    port: int
    file: Path

    def messages(self) -> list[dict[str, Any]]:
        """Return what it took."""
        return [json.loads(line) for line in self.file.read_text().splitlines()] if self.file.exists() else []


@contextlib.contextmanager
def smtp_server(directory: Path, options: Options = Options()) -> Iterator[SmtpServer]:  # noqa: B008 - immutable
    """Run a server; it ends with the context."""
    file = directory / "messages.jsonl"
    command = [sys.executable, "-W", "ignore", __file__, str(file), json.dumps(options._asdict())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield SmtpServer(int(process.stdout.readline()), file)
        finally:
            process.terminate()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(Path(sys.argv[1]), Options(**json.loads(sys.argv[2]))))
