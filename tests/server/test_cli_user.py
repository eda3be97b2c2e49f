"""`nixmill user` as people and pipes use it: the real program, a real terminal, a real database."""

import contextlib
import os
import pty
import select
import sqlite3
import subprocess
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from nixmill.engine.passwords import verify
from tests.support.client_server import environment
from tests.support.program import NIXMILL, Done

PASSWORD = "correct horse battery"  # noqa: S105 - opens nothing
LIMIT_S = 60.0


@dataclass
class Machine:
    """A home with a server's database in it."""

    home: Path

    def nixmill(self, *arguments: str, stdin: str | bytes = "") -> Done:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run(
            (*NIXMILL, *arguments),
            cwd=self.home,
            env=environment(self.home),
            input=data,
            capture_output=True,
            check=False,
            timeout=LIMIT_S,
        )
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    def hashed(self, name: str) -> str | None:
        """Return what the database keeps of a password; None where there is no such user."""
        for file in self.home.rglob("*.sqlite"):
            with contextlib.closing(sqlite3.connect(file)) as database:
                row = database.execute("SELECT password_hash FROM nm_user WHERE name = ?", (name,)).fetchone()
                return str(row[0]) if row else None
        return None


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, machine: Machine, *arguments: str) -> None:
        self._master, self._slave = pty.openpty()
        self.shown = ""
        self._process = subprocess.Popen(
            ("setsid", "--ctty", *NIXMILL, *arguments),
            cwd=machine.home,
            env=environment(machine.home),
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
        )

    def wait_for(self, text: str) -> None:
        """Read until `text` was shown anew."""
        seen, deadline = len(self.shown), time.monotonic() + LIMIT_S
        while text not in self.shown[seen:]:
            left = deadline - time.monotonic()
            assert left > 0, self.shown
            if select.select([self._master], [], [], left)[0]:
                self.shown += os.read(self._master, 4096).decode()

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    @property
    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self._slave)[3] & termios.ECHO)

    def end(self) -> int:
        """Wait for the end; return the exit code."""
        code = self._process.wait(LIMIT_S)
        while select.select([self._master], [], [], 0)[0]:
            self.shown += os.read(self._master, 4096).decode()
        return code

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)
        os.close(self._slave)


@pytest.fixture
def terminal(machine: Machine) -> Iterator[Terminal]:
    made = Terminal(machine, "user", "create", "anna", "--admin")
    with contextlib.closing(made):
        made.wait_for("Password for anna: ")
        yield made


def test_the_same_password_twice_makes_an_account_with_argon2id(machine: Machine, terminal: Terminal) -> None:
    assert not terminal.echoes
    terminal.type(f"{PASSWORD}\n")
    terminal.wait_for("The same again: ")
    assert not terminal.echoes
    terminal.type(f"{PASSWORD}\n")
    assert terminal.end() == 0, terminal.shown
    assert terminal.echoes
    assert PASSWORD not in terminal.shown
    kept = machine.hashed("anna") or ""
    assert kept.startswith("$argon2id$")
    assert verify(kept, PASSWORD)
    assert "anna" in machine.nixmill("user", "list").out


def test_two_different_passwords_change_nothing(machine: Machine, terminal: Terminal) -> None:
    terminal.type(f"{PASSWORD}\n")
    terminal.wait_for("The same again: ")
    terminal.type("another one entirely\n")
    assert terminal.end() == 2
    assert "differ" in terminal.shown
    assert machine.hashed("anna") is None


def test_ctrl_c_gives_the_terminal_its_echo_back(machine: Machine, terminal: Terminal) -> None:
    assert not terminal.echoes
    terminal.type("half a pass\x03")
    assert terminal.end() == 130
    assert terminal.echoes
    assert machine.hashed("anna") is None


def test_too_short_is_refused_before_it_is_asked_again(terminal: Terminal) -> None:
    terminal.type("short\n")
    assert terminal.end() == 2
    assert "8 to 1024 characters" in terminal.shown


def test_a_terminal_would_show_what_password_stdin_reads(machine: Machine) -> None:
    with contextlib.closing(Terminal(machine, "user", "create", "anna", "--password-stdin")) as terminal:
        assert terminal.end() == 2
        assert "is a terminal" in terminal.shown


@pytest.mark.parametrize("flags", [(), ("--password-stdin",)])
def test_one_line_from_a_pipe(machine: Machine, flags: tuple[str, ...]) -> None:
    done = machine.nixmill("user", "create", "bot", *flags, stdin=f"{PASSWORD}\r\nnot this\n")
    assert (done.code, done.out) == (0, ""), done.err
    assert verify(machine.hashed("bot") or "", PASSWORD)


@pytest.mark.parametrize(
    ("stdin", "said"), [("", "No password came"), ("short\n", "8 to 1024"), (b"\xff\xfe" * 9 + b"\n", "no UTF-8")]
)
def test_what_is_no_password_is_refused(machine: Machine, stdin: str | bytes, said: str) -> None:
    done = machine.nixmill("user", "create", "bot", stdin=stdin)
    assert done.code == 2
    assert said in done.err
    assert machine.hashed("bot") is None


@pytest.mark.parametrize(
    "arguments",
    [
        ("user", "create", "bot", "--password-stdin", "--no-password"),
        ("user", "password", "bot", "--password-stdin", "--no-password"),
        ("user", "create", "bot", "--password", PASSWORD),
        ("user", "create", "no name", "--no-password"),
        ("projects", "list", "--server", "http://127.0.0.1:1", "--config", "server.toml"),
    ],
)
def test_what_contradicts_itself_or_shows_a_secret_is_refused(machine: Machine, arguments: tuple[str, ...]) -> None:
    done = machine.nixmill(*arguments)
    assert done.code == 2
    assert len(done.err.splitlines()) >= 1
    assert "Traceback" not in done.err
    assert machine.hashed("bot") is None


def test_the_life_of_an_account(machine: Machine) -> None:
    assert machine.nixmill("user", "create", "carl", "--no-password", "--email", "c@example.org").code == 0
    assert machine.hashed("carl") == ""
    again = machine.nixmill("user", "create", "Carl", "--no-password")
    assert again.code == 2
    assert "nixmill user password carl" in again.err
    assert machine.nixmill("user", "password", "carl", stdin=f"{PASSWORD}\n").code == 0
    assert verify(machine.hashed("carl") or "", PASSWORD)
    assert machine.nixmill("user", "disable", "carl").code == 0
    assert "disabled" in machine.nixmill("user", "list").out
    assert machine.nixmill("user", "enable", "carl").code == 0
    assert "disabled" not in machine.nixmill("user", "list").out
    unsure = machine.nixmill("user", "delete", "carl")
    assert unsure.code == 2
    assert "--yes" in unsure.err
    assert machine.nixmill("user", "delete", "carl", "--yes").code == 0
    assert machine.nixmill("user", "list").out == ""
    assert machine.nixmill("user", "password", "carl").code == 2


def test_projects_go_out_to_a_file_and_come_back(machine: Machine) -> None:
    assert machine.nixmill("projects", "add", "mill", "https://example.org/mill.git", "--branch", "main").code == 0
    assert machine.nixmill("projects", "add", "mill", "https://example.org/other.git").code == 2
    assert machine.nixmill("user", "create", "anna", "--no-password").code == 0
    file = machine.home / "projects.toml"
    text = machine.nixmill("projects", "export").out
    file.write_text(text + '\n[project.members]\nanna = "owner"\n')
    dry = machine.nixmill("projects", "apply", str(file), "--dry-run")
    assert dry.out == "mill: anna is owner\n"
    assert machine.nixmill("projects", "export").out == text
    assert machine.nixmill("projects", "apply", str(file)).out == dry.out
    assert machine.nixmill("projects", "apply", str(file)).out == "Everything is so already.\n"
    assert machine.nixmill("projects", "export", "mill").out == file.read_text().replace('anna = "', '"anna" = "')
    file.write_text(text + '\n[project.members]\nnobody = "owner"\n')
    unknown = machine.nixmill("projects", "apply", str(file))
    assert unknown.code == 2
    assert "have no account: nobody" in unknown.err
    assert machine.nixmill("projects", "remove", "mill", "--yes").code == 0
    assert machine.nixmill("projects", "list").out == ""
