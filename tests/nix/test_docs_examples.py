"""The examples of the documentation are run as they stand, in the sample project, in a scratch store.

Each fenced `console` block is read; lines that begin with `$ nixmill ` are commands, what follows is output. A comment
Each fenced `console` block is read: lines that begin with `$ nixmill ` are commands, what follows is output. A comment
must appear in that order; `…` stands for anything.
"""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.support.git_repository import Repository
from tests.support.house import ROOT
from tests.support.scratch_store import ScratchStore, scratch_store

DOCUMENTS: Final = (ROOT / "README.md", ROOT / "docs/guide.md")
TIME_LIMIT_S: Final = 240
_BLOCK: Final = re.compile(r"(?:<!-- (?P<note>[^>]*) -->\n)?```console\n(?P<text>.*?)```", re.DOTALL)


class Command(NamedTuple):
    """A command and what it is documented to do."""

    line: str
    output: list[str]
    exit_code: int


def commands(text: str) -> Iterator[Command]:
    """Yield the commands of a document that are to be run."""
    for block in _BLOCK.finditer(text):
        note = block["note"] or ""
        parts = re.split(r"^\$ ", block["text"], flags=re.MULTILINE)[1:]
        for number, part in enumerate(parts, 1):
            line, *output = part.strip("\n").split("\n")
            code = int(note.removeprefix("exit: ")) if note.startswith("exit: ") and number == len(parts) else 0
            if note != "not run" and line.startswith("nixmill "):
                yield Command(line, output, code)


def missing_line(documented: list[str], printed: str) -> str | None:
    """Return the first documented line that is not printed after those before it."""
    lines = iter(printed.splitlines())
    for wanted in documented:
        pattern = ".*".join(re.escape(piece) for piece in wanted.strip().split("…"))
        if not any(re.search(pattern, line) for line in lines):
            return wanted
    return None


@pytest.fixture
def store() -> Iterator[ScratchStore]:
    """A store with the sandbox off and a home of its own, so that history and logs are the test's."""
    with scratch_store() as made:
        yield made


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The sample project on a branch, one commit ahead of main."""
    shutil.copytree(ROOT / "examples/sample", tmp_path / "mill")
    repository = Repository(tmp_path / "mill")
    repository.commit("The mill")
    repository.git("checkout", "--quiet", "-b", "finer-flour")
    repository.commit("Mill spelt", src_S_grain__txt="wheat\nspelt\n")
    return repository.top


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_examples_do_what_the_document_says(document: Path, store: ScratchStore, project: Path) -> None:
    for command in commands(document.read_text()):
        done = subprocess.run(
            [sys.executable, "-m", "nixmill", *shlex.split(command.line)[1:]],
            cwd=project,
            env=store.environment | {"NO_COLOR": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT_S,
            check=False,
        )
        printed = done.stdout + done.stderr
        assert done.returncode == command.exit_code, f"{document.name}: $ {command.line}\n{printed}"
        lacking = missing_line(command.output, printed)
        assert lacking is None, f"{document.name}: $ {command.line} did not print {lacking!r} but\n{printed}"


def test_blocks_and_notes_are_understood() -> None:
    text = "```console\n$ nixmill a\nx … y\n$ ls\n```\n\n<!-- exit: 3 -->\n```console\n$ nixmill b\n$ nixmill c\n```\n"
    text += "<!-- not run -->\n```console\n$ nixmill d\n```\n"
    assert list(commands(text)) == [
        Command("nixmill a", ["x … y"], 0),
        Command("nixmill b", [], 0),
        Command("nixmill c", [], 3),
    ]


def test_output_is_compared_in_order_with_gaps() -> None:
    assert missing_line(["a … c", "d"], "0\na b c\n1\nd") is None
    assert missing_line(["d", "a"], "a\nd") == "a"
