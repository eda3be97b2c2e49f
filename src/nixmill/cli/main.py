"""The command table: names, arguments, help; and the one place where errors become sentences and exit codes."""

import asyncio
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

from cyclopts import App, CycloptsError, Parameter

from nixmill import __version__
from nixmill.cli import changes as changes_command
from nixmill.cli import doctor as doctor_command
from nixmill.cli import init as init_command
from nixmill.cli import log as log_command
from nixmill.cli import repro as repro_command
from nixmill.cli import run as run_command
from nixmill.cli import runs as runs_command
from nixmill.cli import shell as shell_command
from nixmill.cli.help import PlainHelp
from nixmill.cli.main_cache import CacheCommands
from nixmill.cli.main_client import ClientCommands, with_client
from nixmill.cli.main_server import ServerCommands
from nixmill.cli.options import Build, Compare, Evaluate, Everything, OnServer, RunOnServer, Show, What
from nixmill.cli.wiring import Wiring
from nixmill.core.errors import InputError
from nixmill.core.evaluation import EvaluationFailedError
from nixmill.core.history import Keep
from nixmill.core.run_event import EXIT_CODE, USAGE_EXIT_CODE, Verdict
from nixmill.doors import DoorError, NotAllowedError
from nixmill.engine.upkeep import KEPT

OVERVIEW: Final = """\
Continuous integration for Nix that explains itself.

nixmill run                       check this project as CI will
nixmill run .#packages            ... another output of its flake
nixmill run release.nix -A tests  ... an attribute of a file
nixmill run --dry-run             say what would be done, and do nothing
nixmill why hello                 why did hello change against the base?
nixmill log hello                 the log of its latest attempt
nixmill shell hello               enter the directory of its failed build
nixmill doctor                    is this machine fit for it?
nixmill serve --open              be the server that does so for everybody

Exit codes: 0 good, 1 build failed, 2 usage, 3 evaluation failed,
4 not allowed, 5 our trouble, 130 on Ctrl-C.
"""


class CommandLine:
    """Runs one command and returns its exit code."""

    def __init__(self, wiring: Wiring) -> None:
        """Build the command table over the program's wiring."""
        self._wiring = wiring
        self.app = App(
            name="nixmill",
            help=OVERVIEW,
            help_format="plaintext",
            version=__version__,
            result_action="return_value",
            help_formatter=PlainHelp(),
            default_parameter=Parameter(negative="", show_default=False),
        )
        for command in (
            self.run,
            self.why,
            self.diff,
            self.log,
            self.shell,
            self.repro,
            self.runs,
            self.forget,
            self.doctor,
            self.init,
            self.completion,
        ):
            self.app.command(command)
        ClientCommands(wiring).add_to(self.app)
        ServerCommands(wiring).add_to(self.app)
        CacheCommands(wiring).add_to(self.app)

    def run(
        self,
        *targets: str,
        what: Annotated[What | None, Parameter(name="*")] = None,
        compare: Annotated[Compare | None, Parameter(name="*")] = None,
        build: Annotated[Build | None, Parameter(name="*")] = None,
        evaluate: Annotated[Evaluate | None, Parameter(name="*")] = None,
        show: Annotated[Show | None, Parameter(name="*")] = None,
        on: Annotated[RunOnServer | None, Parameter(name="*")] = None,
    ) -> int:
        """Check the project here as CI will.

        nixmill run                        the flake's checks, else release.nix
        nixmill run .#packages .#devShells several outputs
        nixmill run release.nix -A tests   an attribute of a file
        nixmill run --remote               have the server check this commit, and watch
        """
        if on is not None and on.wanted:
            return self._run_remote(targets, (what, compare, build, evaluate, show), on)
        options = Everything(
            what=what or What(),
            compare=compare or Compare(),
            build=build or Build(),
            evaluate=evaluate or Evaluate(),
            show=show or Show(),
        )
        return asyncio.run(run_command.run(self._wiring, targets, options))

    def _run_remote(self, targets: tuple[str, ...], options: tuple[object, ...], on: RunOnServer) -> int:
        from nixmill.cli import remote  # noqa: PLC0415 - only this way of it pays for a client

        if any(option is not None for option in options):
            raise InputError(
                "With --remote the server decides how a commit is checked; only targets, --project, --server and"
                " --token-file go with it.",
                "What is checked and how stands in nixmill.toml.",
            )
        return with_client(on.which, lambda client: remote.run_remote(self._wiring, client, on.project, targets))

    def log(
        self,
        what: str | None = None,
        attribute: str | None = None,
        /,
        *,
        raw: Annotated[bool, Parameter(negative="", help="With all its escape codes.")] = False,
        follow: Annotated[
            bool, Parameter(name=["--follow", "-f"], negative="", help="Until it ends; on a server.")
        ] = False,
        on: Annotated[OnServer | None, Parameter(name="*")] = None,
    ) -> int:
        """Show the log of an attempt, or of the last failure.

        nixmill log                        the last failure
        nixmill log hello                  an attribute, or a part of its name
        nixmill log 812 --raw | less -R    attempt 812, with all its escape codes
        nixmill log 41 hello --remote      on the server: of an attribute in run 41
        nixmill log 812 -f                 ... as it is written, until its end
        """
        if (on is not None and on.wanted) or follow or attribute is not None:
            from nixmill.cli import remote  # noqa: PLC0415 - only this way of it pays for a client

            said = what or ""
            return with_client(
                on, lambda client: remote.log(client, self._wiring, said, attribute, raw=raw, follow=follow)
            )
        return asyncio.run(log_command.log(self._wiring, what, raw=raw))

    def shell(
        self, what: str | None = None, /, *, command: Annotated[str | None, Parameter(name=["--command", "-c"])] = None
    ) -> int:
        """Open a shell in the directory of a failed build.

        nixmill shell                      the last failure
        nixmill shell hello -c 'cat config.log'
        """
        directory, script = asyncio.run(shell_command.prepare_shell(self._wiring, what))
        return shell_command.enter_shell(directory, script, command)

    def why(
        self,
        attribute: str,
        /,
        *targets: str,
        what: Annotated[What | None, Parameter(name="*")] = None,
        compare: Annotated[Compare | None, Parameter(name="*")] = None,
    ) -> int:
        """Say why an attribute changed, down to its source.

        nixmill why hello                  a part of its name is enough
        nixmill why hello --base v1.0      since a tag
        """
        options = Everything(what=what or What(), compare=compare or Compare())
        return asyncio.run(changes_command.why(self._wiring, attribute, targets, options))

    def diff(
        self,
        before: str,
        after: str | None = None,
        /,
        *targets: str,
        what: Annotated[What | None, Parameter(name="*")] = None,
    ) -> int:
        """Say what changed between two commits, and why.

        nixmill diff main                  what does my checkout change?
        nixmill diff v1.0 v1.1 .#packages
        """
        return asyncio.run(changes_command.diff(self._wiring, before, after, targets, Everything(what=what or What())))

    def repro(self, what: str, /, *, token_file: str | None = None) -> int:
        """Print commands that repeat what a run did.

        nixmill repro hello
        nixmill repro https://ci.example.org/r/41
        """
        if what.startswith(("https://", "http://")):
            from nixmill.cli.remote_repro import repro_of_page  # noqa: PLC0415 - only this way of it pays for a client

            print(*asyncio.run(repro_of_page(what, token_file)), sep="\n")  # noqa: T201 - the result is asked for
            return 0
        print(*asyncio.run(repro_command.repro(self._wiring, what)), sep="\n")  # noqa: T201 - the result is asked for
        return 0

    def runs(self, *, limit: int = 20) -> int:
        """List the runs of this machine.

        nixmill runs --limit 5
        """
        asyncio.run(runs_command.runs(self._wiring, limit))
        return 0

    def forget(self, *, keep_runs: int = KEPT.runs, keep_days: float = KEPT.days, dry_run: bool = False) -> int:
        """Forget old runs and their logs; happens by itself now and then.

        nixmill forget --dry-run
        nixmill forget --keep-runs 50 --keep-days 7
        """
        keep = Keep(runs=keep_runs, days=keep_days)
        asyncio.run(runs_command.forget(self._wiring, keep, dry_run=dry_run))
        return 0

    def doctor(
        self,
        *,
        thorough: Annotated[bool, Parameter(negative="")] = False,
        json: Annotated[bool, Parameter(negative="")] = False,
    ) -> int:
        """Look whether this machine is fit for it.

        nixmill doctor
        nixmill doctor --thorough          prove by real attempts that builds and evaluations are isolated
        """
        return asyncio.run(doctor_command.doctor(self._wiring, thorough=thorough, json=json))

    def init(self) -> int:
        """Start a nixmill.toml here, and a first check.

        cd my-project && nixmill init
        """
        _say(*init_command.init(Path.cwd()))
        return 0

    def completion(self, shell: Literal["bash", "zsh", "fish"]) -> int:
        """Print the completion script of a shell.

        source <(nixmill completion bash)
        nixmill completion fish > ~/.config/fish/completions/nixmill.fish
        """
        print(self.app.generate_completion(shell=shell))  # noqa: T201 - the result is what is asked for
        return 0


def run_command_line(wiring: Wiring, arguments: Sequence[str]) -> int:
    """Run the command that `arguments` name; return the exit code. Tracebacks only with --debug."""
    debug = "--debug" in arguments
    words = [word for word in arguments if word != "--debug"]
    try:
        return _call(CommandLine(wiring).app, words or ["--help"])
    except Exception as error:  # noqa: BLE001 - the last place where an error can become a sentence
        if debug:
            traceback.print_exc()
        return _explain(error)
    except KeyboardInterrupt:
        return EXIT_CODE[Verdict.CANCELLED]


def _call(app: App, words: list[str]) -> int:
    result = app(words, exit_on_error=False, print_error=False)
    return result if isinstance(result, int) else 0


def _explain(error: Exception) -> int:
    """Say what happened in a sentence; return the exit code it means."""
    if isinstance(error, ExceptionGroup):
        return _explain(_most_telling(error))
    sentence, remedy, code = _meaning(error)
    _say(sentence, remedy)
    return code


def _most_telling(group: ExceptionGroup[Exception]) -> Exception:
    """Return the error of a group that people can do something about; what else there is mostly follows from it."""
    flat: list[Exception] = []
    todo = [group]
    while todo:
        for inner in todo.pop().exceptions:
            if isinstance(inner, ExceptionGroup):
                todo.append(inner)
            else:
                flat.append(inner)
    told = (InputError, NotAllowedError, EvaluationFailedError, DoorError)
    return next((error for kind in told for error in flat if isinstance(error, kind)), flat[0])


def _meaning(error: Exception) -> tuple[str, str, int]:
    match error:
        case CycloptsError():
            return str(error), "For examples: nixmill --help", USAGE_EXIT_CODE
        case InputError():
            return str(error), error.remedy, USAGE_EXIT_CODE
        case EvaluationFailedError():
            return str(error), error.detail, EXIT_CODE[Verdict.EVALUATION_FAILED]
        case NotAllowedError():
            return str(error), "", EXIT_CODE[Verdict.NOT_ALLOWED]
        case DoorError():
            return str(error), "", EXIT_CODE[Verdict.INFRASTRUCTURE]
        case _:
            fault = f"nixmill itself failed: {error!r}. This is our fault, not yours."
            return fault, "The details: the same with --debug", EXIT_CODE[Verdict.INFRASTRUCTURE]


def _say(*sentences: str) -> None:
    print(*filter(None, sentences), sep="\n", file=sys.stderr)  # noqa: T201 - people read this
