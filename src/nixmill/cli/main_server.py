"""Commands for who runs a server: `serve`, `user`, `projects`, `import`. Each imports what it needs when called."""

# ruff: noqa: PLC0415 - each command pays only for what it uses

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Final, Literal

from cyclopts import App, Group, Parameter

from nixmill.cli.help import PlainHelp
from nixmill.cli.wiring import Wiring
from nixmill.core.access import Visibility

if TYPE_CHECKING:
    from nixmill.cli.projects import Register
    from nixmill.cli.user import Users

GROUP: Final = Group("The server", sort_key=20)
_Config = Annotated[str | None, Parameter(help="Settings file. Default: NIXMILL_CONFIG, /etc/nixmill/…")]
_Server = Annotated[str | None, Parameter(help="Ask this server. Default: NIXMILL_SERVER, or none.")]
_TokenFile = Annotated[str | None, Parameter(help="Default: NIXMILL_TOKEN, or what sign-in kept.")]
_Listen = Annotated[str | None, Parameter(help="HOST:PORT or unix:/PATH.")]
_State = Annotated[str | None, Parameter(help="Directory of database, logs and repositories.")]
_Open = Annotated[bool, Parameter(name="--open", negative="", help="Open it in a browser.")]
_Admin = Annotated[bool, Parameter(negative="", help="May do everything.")]
_Email = Annotated[str, Parameter(help="Where messages go.")]
_Stdin = Annotated[bool, Parameter(negative="", help="One line of standard input.")]
_NoPassword = Annotated[bool, Parameter(negative="", help="Signs in by another provider only.")]
_Yes = Annotated[bool, Parameter(negative="", help="Do not ask.")]
_Title = Annotated[str, Parameter(help="Its name for people.")]
_Visibility = Annotated[Visibility, Parameter(help="public, internal or private.")]
_Branch = Annotated[tuple[str, ...], Parameter(help="Glob of branches. Default: the default branch.")]
_Credential = Annotated[str, Parameter(help="Credential of the settings for fetching.")]
_HookFlags = Annotated[str, Parameter(help="What Gerrit gave to its script.", allow_leading_hyphen=True)]
_HookSettings = Annotated[str | None, Parameter(help="Default: /etc/nixmill/gerrit-hook.toml.")]
_System = Literal["buildbot-nix", "nixbot", "garnix"]
_OldServer = Annotated[str | None, Parameter(name="--server", help="JSON of its server's settings.")]
_DefaultBranch = Annotated[str, Parameter(help="Of the repository. Default: main and master.")]
_Out = Annotated[str | None, Parameter(help="Write the files into this directory.")]
_Force = Annotated[bool, Parameter(negative="", help="Write over files that are there.")]
_Json = Annotated[bool, Parameter(name="--json", negative="", help="Everything as one document.")]
_DryRun = Annotated[bool, Parameter(name=["--dry-run", "-n"], negative="", help="Say what would change.")]

USER_HELP: Final = """\
Accounts of the server, in its database directly.

nixmill user create anna --admin                  asks for the password twice
nixmill user create bot --password-stdin < FILE   reads it from a pipe
nixmill user list
"""
PROJECTS_HELP: Final = """\
Projects of a server, one by one or from a file.

Asks the server of --server or NIXMILL_SERVER; without one, works on
the database directly.

nixmill projects add mill https://example.org/mill.git
nixmill projects export > projects.toml
nixmill projects apply projects.toml --dry-run
"""
GERRIT_HELP: Final = """\
What Gerrit's own hook scripts tell a server.

nixmill gerrit hook patchset-created -- "$@"
"""


def make_group(name: str, text: str) -> App:
    """Return a command that has commands of its own."""
    return App(
        name=name,
        group=GROUP,
        help=text,
        help_format="plaintext",
        help_formatter=PlainHelp(),
        result_action="return_value",
        default_parameter=Parameter(negative="", show_default=False),
        version_flags=[],
    )


class ServerCommands:
    """`nixmill serve`, `nixmill user …`, `nixmill projects …` and `nixmill import`."""

    def __init__(self, wiring: Wiring) -> None:
        """Work over the program's wiring."""
        self._wiring = wiring

    def add_to(self, app: App) -> None:
        """Put the commands into the table."""
        app.command(self.serve, group=GROUP)
        user, projects = make_group("user", USER_HELP), make_group("projects", PROJECTS_HELP)
        user.command(self.user_create, name="create")
        user.command(self.user_list, name="list")
        user.command(self.user_password, name="password")
        user.command(self.user_disable, name="disable")
        user.command(self.user_enable, name="enable")
        user.command(self.user_delete, name="delete")
        projects.command(self.projects_add, name="add")
        projects.command(self.projects_list, name="list")
        projects.command(self.projects_export, name="export")
        projects.command(self.projects_apply, name="apply")
        projects.command(self.projects_remove, name="remove")
        app.command(user)
        app.command(projects)
        app.command(self.import_, name="import", group=GROUP)
        gerrit = make_group("gerrit", GERRIT_HELP)
        gerrit.command(self.gerrit_hook, name="hook")
        app.command(gerrit)

    def serve(
        self,
        *,
        config: _Config = None,
        listen: _Listen = None,
        state: _State = None,
        open_: _Open = False,
    ) -> int:
        """Be the server: watch repositories, build, show.

        nixmill serve --open               a first look, without any settings
        nixmill serve --config /etc/nixmill/server.toml
        nixmill serve --listen 127.0.0.1:9000 --state ~/nixmill
        """
        from nixmill.cli import serve

        return serve.serve(self._wiring, config=config, listen=listen, state=state, open_=open_)

    def import_(
        self,
        system: _System,
        /,
        *paths: str,
        server: _OldServer = None,
        default_branch: _DefaultBranch = "",
        out: _Out = None,
        force: _Force = False,
        json: _Json = False,
    ) -> int:
        """Move here from buildbot-nix, nixbot or garnix.

        Reads their file in a repository and the settings of their server, never
        a secret; prints nixmill's files, and says what is not carried over.

        nixmill import garnix                          this repository
        nixmill import buildbot-nix ~/mill --out ~/mill
        nixmill import buildbot-nix --server old.json --out /etc/nixmill
        nixmill import nixbot ~/mill --server old.json --json
        """
        from nixmill.cli import importing

        importing.import_(
            importing.Asked(
                system=system,
                paths=paths,
                server=server,
                default_branch=default_branch,
                out=out,
                force=force,
                json=json,
            )
        )
        return 0

    def gerrit_hook(self, name: str, /, *flags: _HookFlags, settings: _HookSettings = None) -> int:
        """Tell a server of an event, from a hook script of Gerrit.

        nixmill gerrit hook patchset-created -- "$@"

        That line, after #!/bin/sh, is an executable file patchset-created in
        Gerrit's directory `hooks`; likewise change-merged, change-abandoned,
        change-restored, comment-added and ref-updated.

        The settings are three lines, readable by Gerrit's user alone:

        server = "https://ci.example.org"
        forge = "gerrit"
        secret-file = "/etc/nixmill/gerrit-secret"

        It ends within 10 s. What is lost the server finds by itself, when it
        asks Gerrit again.
        """
        from nixmill.cli import gerrit

        gerrit.hook(name, flags, settings=settings, environ=os.environ)
        return 0

    def user_create(
        self,
        name: str,
        /,
        *,
        admin: _Admin = False,
        email: _Email = "",
        password_stdin: _Stdin = False,
        no_password: _NoPassword = False,
        config: _Config = None,
    ) -> int:
        """Create an account.

        nixmill user create anna --admin                  asks for the password twice
        nixmill user create bot --password-stdin < FILE   reads it from a pipe
        nixmill user create carl --no-password            no password at all
        """
        users = self._users(config)
        users.create(name, admin=admin, email=email, password_stdin=password_stdin, no_password=no_password)
        return 0

    def user_list(self, *, config: _Config = None) -> int:
        """List all accounts.

        nixmill user list
        """
        self._users(config).list()
        return 0

    def user_password(
        self, name: str, /, *, password_stdin: _Stdin = False, no_password: _NoPassword = False, config: _Config = None
    ) -> int:
        """Give an account another password.

        nixmill user password anna
        nixmill user password anna --password-stdin < FILE
        """
        self._users(config).password(name, password_stdin=password_stdin, no_password=no_password)
        return 0

    def user_disable(self, name: str, /, *, config: _Config = None) -> int:
        """Switch an account off, which ends its sessions.

        nixmill user disable anna
        """
        self._users(config).switch(name, disabled=True)
        return 0

    def user_enable(self, name: str, /, *, config: _Config = None) -> int:
        """Switch an account on again.

        nixmill user enable anna
        """
        self._users(config).switch(name, disabled=False)
        return 0

    def user_delete(self, name: str, /, *, yes: _Yes = False, config: _Config = None) -> int:
        """Delete an account.

        nixmill user delete anna
        """
        self._users(config).delete(name, yes=yes)
        return 0

    def projects_add(
        self,
        name: str,
        url: str,
        /,
        *,
        title: _Title = "",
        visibility: _Visibility = Visibility.PUBLIC,
        branch: _Branch = (),
        credential: _Credential = "",
        server: _Server = None,
        token_file: _TokenFile = None,
        config: _Config = None,
    ) -> int:
        """Add a project, checked at each push.

        nixmill projects add mill https://example.org/mill.git
        nixmill projects add mill git@example.org:mill.git --credential git-mill
        nixmill projects add mill URL --branch main --branch 'release-*'
        """
        from nixmill.cli import projects
        from nixmill.core.project import Project

        project = Project(name=name, url=url, title=title, visibility=visibility, credential=credential)
        return self._register(lambda register: projects.add(register, project, branch), server, token_file, config)

    def projects_list(self, *, server: _Server = None, token_file: _TokenFile = None, config: _Config = None) -> int:
        """List all projects.

        nixmill projects list
        """
        from nixmill.cli import projects

        return self._register(projects.list_, server, token_file, config)

    def projects_export(
        self, *names: str, server: _Server = None, token_file: _TokenFile = None, config: _Config = None
    ) -> int:
        """Print the file that declares projects.

        nixmill projects export > projects.toml
        """
        from nixmill.cli import projects

        return self._register(lambda register: projects.export(register, names), server, token_file, config)

    def projects_apply(
        self,
        file: str,
        /,
        *,
        dry_run: _DryRun = False,
        server: _Server = None,
        token_file: _TokenFile = None,
        config: _Config = None,
    ) -> int:
        """Make projects as a file declares them.

        nixmill projects apply projects.toml --dry-run
        """
        from nixmill.cli import projects

        return self._register(
            lambda register: projects.apply_file(register, file, dry_run=dry_run), server, token_file, config
        )

    def projects_remove(
        self,
        name: str,
        /,
        *,
        yes: _Yes = False,
        server: _Server = None,
        token_file: _TokenFile = None,
        config: _Config = None,
    ) -> int:
        """Delete a project with all its runs and logs.

        nixmill projects remove mill
        """
        from nixmill.cli import projects

        projects.confirm_removal(name, yes=yes)
        return self._register(lambda register: projects.remove(register, name), server, token_file, config)

    def _users(self, config: str | None) -> "Users":
        from nixmill.cli.user import Users

        return Users(self._wiring, config)

    def _register(
        self,
        work: "Callable[[Register], Awaitable[None]]",
        server: str | None,
        token_file: str | None,
        config: str | None,
    ) -> int:
        from nixmill.cli.projects import open_register

        async def opened() -> int:
            async with open_register(self._wiring, server=server, token_file=token_file, config=config) as register:
                await work(register)
            return 0

        return asyncio.run(opened())
