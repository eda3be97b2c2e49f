"""Commands that ask a server, from `status` to `sign-in`. What each needs is imported when called."""

# ruff: noqa: PLC0415 - each command pays only for what it uses

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import App, Group, Parameter

from nixmill.cli.options import Remote
from nixmill.cli.wiring import Wiring

if TYPE_CHECKING:
    from nixmill.cli.client import Client

GROUP: Final = Group("On a server", sort_key=10)
_Which = Annotated[Remote | None, Parameter(name="*")]
_TokenFile = Annotated[str | None, Parameter(help="Default: NIXMILL_TOKEN, else you are asked.")]
_Json = Annotated[bool, Parameter(negative="", help="The page as JSON.")]
_Why = Annotated[bool, Parameter(negative="", help="What each build waits for.")]
_Anyway = Annotated[bool, Parameter(negative="", help="Also what is known to be good or bad.")]
_Build = Annotated[str | None, Parameter(help="Build this attribute even if known to be good.")]
_Project = Annotated[str | None, Parameter(help="Default: the one of the checkout here.")]
_Closed = Annotated[bool, Parameter(negative="", help="Those that are closed or merged.")]
_Before = Annotated[int | None, Parameter(help="Only those with smaller numbers.")]
_Commit = Annotated[str | None, Parameter(help="Only if this is still the head.")]
_Yes = Annotated[bool, Parameter(negative="", help="Do not ask.")]
_Answer = Annotated[bool, Parameter(name="--json", negative="", help="What was done, as JSON.")]
_Ref = Annotated[str, Parameter(help="A branch; default: the default branch.")]
_OfBranch = Annotated[str, Parameter(help="Only what a branch keeps.")]
_Find = Annotated[str, Parameter(help="Only what is called so: attributes, store paths.")]
_After = Annotated[str, Parameter(help="What comes behind, as the page before says.")]
_DryRun = Annotated[bool, Parameter(negative="", help="What a collection would free; deletes nothing.")]
_Reason = Annotated[str, Parameter(help="Why; everybody who looks sees it.")]
_Until = Annotated[str, Parameter(help="12h, 30d, 8w, 2027-01-31. Default: until it is unpinned.")]
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

    def __init__(self, wiring: Wiring) -> None:
        """Work over the program's wiring, which knows the checkout here."""
        self._wiring = wiring

    def add_to(self, app: App) -> None:
        """Put the commands into the table."""
        for command in (
            self.status,
            self.watch,
            self.queue,
            self.pulls,
            self.approve,
            self.retry,
            self.cancel,
            self.roots,
            self.pin,
            self.unpin,
            self.sign_in,
            self.sign_out,
        ):
            app.command(command, group=GROUP)

    def status(self, what: str | None = None, /, *, json: _Json = False, remote: _Which = None) -> int:
        """Show what broke and what runs, a project, a run, or a pull request.

        nixmill status                     what needs you, what broke, what runs
        nixmill status mill                the branches of a project
        nixmill status 41                  a run
        nixmill status mill#7              a pull request; here: pull/7 or '#7'
        """
        from nixmill.cli import remote as remote_command

        return with_client(remote, lambda client: remote_command.status(client, self._wiring, what, json=json))

    def watch(self, what: str | None = None, /, *, remote: _Which = None) -> int:
        """Watch a run until its verdict: the exit code.

        nixmill watch 41
        nixmill watch mill                 the newest run of a project
        nixmill watch pull/7               ... of a pull request
        """
        from nixmill.cli import watch as watch_command
        from nixmill.cli.named import is_pull, run_named

        async def watch(client: "Client") -> int:
            run = str(await run_named(client, self._wiring, what)) if what is not None and is_pull(what) else what
            return await watch_command.watch(client, run)

        return with_client(remote, watch)

    def queue(self, *, why: _Why = False, json: _Json = False, remote: _Which = None) -> int:
        """Show what runs and what waits.

        nixmill queue --why                ... and what each build waits for
        """
        from nixmill.cli import remote as remote_command

        return with_client(remote, lambda client: remote_command.queue(client, why=why, json=json))

    def pulls(
        self,
        project: str | None = None,
        /,
        *,
        closed: _Closed = False,
        before: _Before = None,
        json: _Json = False,
        remote: _Which = None,
    ) -> int:
        """List pull requests, and which of them wait for approval.

        nixmill pulls                      those of the project of this checkout
        nixmill pulls mill --closed
        """
        from nixmill.cli import pulls as pulls_command

        return with_client(
            remote,
            lambda client: pulls_command.pulls(client, self._wiring, project, closed=closed, before=before, json=json),
        )

    def approve(
        self,
        what: str,
        /,
        *,
        project: _Project = None,
        commit: _Commit = None,
        yes: _Yes = False,
        json: _Answer = False,
        remote: _Which = None,
    ) -> int:
        """Show what a stranger's commit changes, and let it run.

        nixmill approve pull/7             of the project of this checkout; or '#7'
        nixmill approve mill#7
        nixmill approve 41                 the pull request of run 41
        nixmill approve mill#7 --commit 1f3a9c2 --yes

        Just the commit that is shown is evaluated and built, in a sandbox,
        without secrets; a new push asks again.
        """
        from nixmill.cli import pulls as pulls_command

        return with_client(
            remote,
            lambda client: pulls_command.approve(
                client, self._wiring, what, project, commit=commit, yes=yes, json=json
            ),
        )

    def retry(
        self,
        run: str,
        attribute: str | None = None,
        /,
        *,
        build: _Build = None,
        anyway: _Anyway = False,
        evaluate: _Evaluate = False,
        remote: _Which = None,
    ) -> int:
        """Try again what failed in a run, as a new run.

        nixmill retry 41                   everything that failed
        nixmill retry 41 hello             one attribute
        nixmill retry 41 --build hello     ... even if it is known to be good
        nixmill retry pull/7               the newest run of a pull request
        nixmill retry 41 --anyway          everything, good or bad
        nixmill retry 41 --evaluate        evaluate again too
        """
        from nixmill.cli import remote as remote_command

        wanted = remote_command.Wanted(attribute=attribute, build=build, anyway=anyway, evaluate=evaluate)
        return with_client(remote, lambda client: remote_command.retry(client, self._wiring, run, wanted))

    def cancel(self, run: str, /, *, remote: _Which = None) -> int:
        """Cancel a run.

        nixmill cancel 41
        nixmill cancel mill#7              the newest run of a pull request
        """
        from nixmill.cli import remote as remote_command

        return with_client(remote, lambda client: remote_command.cancel(client, self._wiring, run))

    def roots(
        self,
        project: str | None = None,
        /,
        *,
        ref: _OfBranch = "",
        find: _Find = "",
        after: _After = "",
        dry_run: _DryRun = False,
        json: _Json = False,
        remote: _Which = None,
    ) -> int:
        """Show what is kept, why, until when and how large.

        nixmill roots                      how much, by project
        nixmill roots mill --ref main      the pins of a branch
        nixmill roots --dry-run            what a collection would free
        """
        from nixmill.cli import roots as roots_command

        if dry_run:
            return with_client(remote, lambda client: roots_command.dry_run(client, json=json))
        narrowed = roots_command.Narrowed(ref, find, after)
        return with_client(remote, lambda client: roots_command.roots(client, project, narrowed, json=json))

    def pin(
        self,
        what: str,
        /,
        *,
        reason: _Reason,
        until: _Until = "",
        ref: _Ref = "",
        project: _Project = None,
        json: _Answer = False,
        remote: _Which = None,
    ) -> int:
        """Keep a store path, or the newest good result of an attribute.

        nixmill pin checks.x86_64-linux.hello --reason "for the release"
        nixmill pin hello --project mill --ref stable --until 30d --reason demo
        nixmill pin /nix/store/...-hello --reason "needed by hand"

        A path without --project is kept for the whole server: that is for
        administrators.
        """
        from nixmill.cli import roots as roots_command

        return with_client(
            remote,
            lambda client: roots_command.pin(
                client, self._wiring, what, project, reason=reason, until=until, ref=ref, json=json
            ),
        )

    def unpin(
        self,
        what: str,
        /,
        *,
        ref: _OfBranch = "",
        project: _Project = None,
        json: _Answer = False,
        remote: _Which = None,
    ) -> int:
        """Take back what was pinned by hand.

        nixmill unpin checks.x86_64-linux.hello
        nixmill unpin /nix/store/...-hello
        """
        from nixmill.cli import roots as roots_command

        return with_client(
            remote, lambda client: roots_command.unpin(client, self._wiring, what, project, ref=ref, json=json)
        )

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
