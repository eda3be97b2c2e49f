"""Commands that ask a server: status, watch, queue, retry, cancel, sign-in. What each needs is imported when called."""

# ruff: noqa: PLC0415 - each command pays only for what it uses

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import App, Group, Parameter

from nixmill.cli.options import Remote

if TYPE_CHECKING:
    from nixmill.cli.client import Client

GROUP: Final = Group("On a server", sort_key=10)
_Which = Annotated[Remote | None, Parameter(name="*")]
_TokenFile = Annotated[str | None, Parameter(help="Default: NIXMILL_TOKEN, else you are asked.")]
_Json = Annotated[bool, Parameter(negative="", help="The page as JSON.")]
_Why = Annotated[bool, Parameter(negative="", help="What each build waits for.")]
_Anyway = Annotated[bool, Parameter(negative="", help="Also what is known to be good or bad.")]
_Evaluate = Annotated[bool, Parameter(negative="", help="Evaluate again too.")]


def with_client(remote: Remote | None, work: "Callable[[Client], Awaitable[int]]") -> int:
    """Do something with the server that is meant; return the exit code."""
    from nixmill.cli.client import connect

    said = remote or Remote()

    async def opened() -> int:
        async with connect(said.server, said.token_file) as client:
            return await work(client)

    return asyncio.run(opened())


class ClientCommands:
    """The commands that ask a server."""

    def add_to(self, app: App) -> None:
        """Put the commands into the table."""
        for command in (self.status, self.watch, self.queue, self.retry, self.cancel, self.sign_in, self.sign_out):
            app.command(command, group=GROUP)

    def status(self, what: str | None = None, /, *, json: _Json = False, remote: _Which = None) -> int:
        """Show what broke and what runs, a project, or a run.

        nixmill status                     what needs you, what broke, what runs
        nixmill status mill                the branches of a project
        nixmill status 41                  a run
        """
        from nixmill.cli import remote as remote_command

        return with_client(remote, lambda client: remote_command.status(client, what, json=json))

    def watch(self, what: str | None = None, /, *, remote: _Which = None) -> int:
        """Watch a run until its verdict: the exit code.

        nixmill watch 41
        nixmill watch mill                 the newest run of a project
        """
        from nixmill.cli import watch as watch_command

        return with_client(remote, lambda client: watch_command.watch(client, what))

    def queue(self, *, why: _Why = False, json: _Json = False, remote: _Which = None) -> int:
        """Show what runs and what waits.

        nixmill queue --why                ... and what each build waits for
        """
        from nixmill.cli import remote as remote_command

        return with_client(remote, lambda client: remote_command.queue(client, why=why, json=json))

    def retry(
        self,
        run: int,
        attribute: str | None = None,
        /,
        *,
        anyway: _Anyway = False,
        evaluate: _Evaluate = False,
        remote: _Which = None,
    ) -> int:
        """Try again what failed in a run, as a new run.

        nixmill retry 41                   everything that failed
        nixmill retry 41 hello             one attribute
        nixmill retry 41 --anyway          everything, good or bad
        nixmill retry 41 --evaluate        evaluate again too
        """
        from nixmill.cli import remote as remote_command

        return with_client(
            remote, lambda client: remote_command.retry(client, run, attribute, anyway=anyway, evaluate=evaluate)
        )

    def cancel(self, run: int, /, *, remote: _Which = None) -> int:
        """Cancel a run.

        nixmill cancel 41
        """
        from nixmill.cli import remote as remote_command

        return with_client(remote, lambda client: remote_command.cancel(client, run))

    def sign_in(self, server: str, /, *, token_file: _TokenFile = None) -> int:
        """Use a server from now on: keep a token of it.

        nixmill sign-in https://ci.example.org
        """
        from nixmill.cli import sign_in

        return sign_in.sign_in(server, token_file)

    def sign_out(self, server: str | None = None, /) -> int:
        """Forget the token of a server.

        nixmill sign-out
        """
        from nixmill.cli import sign_in

        return sign_in.sign_out(server)
