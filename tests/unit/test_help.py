"""Help leads with examples and fits a screen."""

import io

import pytest
from rich.console import Console

from nixmill.app import App
from nixmill.cli.main import CommandLine, run_command_line

HERE = ("run", "why", "diff", "log", "shell", "repro", "runs", "forget", "doctor", "init", "completion")
THERE = (
    "status",
    "watch",
    "queue",
    "pulls",
    "approve",
    "retry",
    "cancel",
    "roots",
    "pin",
    "unpin",
    "sign-in",
    "sign-out",
)
SERVER = ("serve", "user", "projects", "import", "cache")
COMMANDS = (*HERE, *THERE, *SERVER)
SCREEN_LINES = 50


def help_of(*words: str) -> str:
    out = io.StringIO()
    CommandLine(App({})).app.help_print(list(words), console=Console(file=out, width=80))
    return out.getvalue()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example_before_any_option_and_fits_a_screen(command: str) -> None:
    lines = help_of(command).splitlines()
    example = next(
        index for index, line in enumerate(lines) if line.lstrip().startswith(("nixmill ", "cd ", "source ")) and index
    )
    options = next((index for index, line in enumerate(lines) if line.startswith("  -")), len(lines))
    assert example < options
    assert len(lines) <= SCREEN_LINES


def test_the_overview_names_every_command_and_exit_code() -> None:
    text = help_of()
    assert all(f"  {command} " in text for command in COMMANDS)
    assert "130 on Ctrl-C" in text


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_completion_for_each_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(App({}), ["completion", shell]) == 0
    assert "--max-jobs" in capsys.readouterr().out


def test_a_fault_of_our_own_is_said_as_such_and_shows_a_traceback_only_with_debug(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> int:
        raise RuntimeError("inside out")

    monkeypatch.setattr(App, "cores", lambda _self: broken())
    assert run_command_line(App({"PATH": "/nowhere"}), ["run", "--no-base"]) == 5
    said = capsys.readouterr().err
    assert "our fault" in said
    assert "Traceback" not in said
    assert run_command_line(App({"PATH": "/nowhere"}), ["run", "--no-base", "--debug"]) == 5
    assert "Traceback" in capsys.readouterr().err
