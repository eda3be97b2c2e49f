"""The examples of the documentation are run as they stand, in the sample project, in a scratch store.

Which commands those are says `tests.support.documents`; `tests/server/test_docs_server.py` runs examples for a server.
"""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.documents import Command, commands, missing_line
from tests.support.git_repository import Repository
from tests.support.house import ROOT
from tests.support.scratch_store import ScratchStore, scratch_store

DOCUMENTS: Final = (ROOT / "README.md", ROOT / "docs/guide.md")
TIME_LIMIT_S: Final = 240


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
        if not command.line.startswith("nixmill "):
            continue
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
    text += "<!-- not run -->\n```console\n$ nixmill d\n```\n<!-- server, exit: 1 -->\n```console\n$ nixmill e\n```\n"
    assert list(commands(text)) == [
        Command("nixmill a", ["x … y"], 0),
        Command("ls", [], 0),
        Command("nixmill b", [], 0),
        Command("nixmill c", [], 3),
    ]
    assert list(commands(text, server=True)) == [Command("nixmill e", [], 1)]


def test_output_is_compared_in_order_with_gaps() -> None:
    assert missing_line(["a … c", "d"], "0\na b c\n1\nd") is None
    assert missing_line(["d", "a"], "a\nd") == "a"
