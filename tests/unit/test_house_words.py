"""What the code has is documented, what documents name exists, and some words are never written."""

import ast
import re
import subprocess
from pathlib import Path
from typing import Final

import pytest
from tools.reference import DOCUMENTS, PARTS, filled

from tests.support.house import ROOT, modules

MOST_DOOR_METHODS: Final = 6
_LINK: Final = re.compile(r"\]\(([^)#]+?)(?:#[^)]*)?\)")
_HEADING_LINK: Final = re.compile(r"\]\(([^)#]*)#([^)]+)\)")
_ELSEWHERE: Final = re.compile(r"[a-z]+:")
# Written so that this file does not hold the words itself.
FORBIDDEN: Final = re.compile(
    r"[p]ypi[.]o|[p]ythonhosted|[d]eb[.]debian|[n]pmjs[.]|[r]egistry[.]npm|/[w]ork/|/[f]arm/|/tmp/[b]ash_jobs"
)
GENERATED: Final = {"requirements.lock", "requirements-dev.lock"}
READ: Final = (
    *DOCUMENTS,
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    ROOT / "examples/sample/README.md",
    *sorted((ROOT / "docs/decisions").glob("*.md")),
)
"""What people read: with the documents that `make docs` looks at, all others."""


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_a_document_says_what_the_code_says(document: Path) -> None:
    """Commands, exit codes, events, outcomes, settings and the names in core are written by `make docs`."""
    text = document.read_text()
    assert text == filled(text), "type: make docs"


@pytest.mark.parametrize("part", PARTS)
def test_every_part_of_the_reference_stands_in_a_document(part: str) -> None:
    assert any(f"<!-- begin: {part} -->" in document.read_text() for document in DOCUMENTS)


@pytest.mark.parametrize("document", READ, ids=lambda document: document.name)
def test_every_link_to_a_file_leads_somewhere(document: Path) -> None:
    links = [link for link in _LINK.findall(document.read_text()) if not _ELSEWHERE.match(link)]
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", READ, ids=lambda document: document.name)
def test_every_link_to_a_heading_leads_to_one(document: Path) -> None:
    links = [(name, heading) for name, heading in _HEADING_LINK.findall(document.read_text()) if ":" not in name]
    assert [
        f"{name}#{heading}"
        for name, heading in links
        if heading not in _headings(document.parent / name if name else document)
    ] == []


def _headings(document: Path) -> set[str]:
    """Return the names that forges give to headings: small letters, hyphens for spaces, no punctuation."""
    titles = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_layer_and_every_step_of_a_run_is_on_the_tour() -> None:
    tour = (ROOT / "docs/tour.md").read_text()
    parts = {module.layer for module in modules()} - {"__init__", "__main__"}
    assert [part for part in parts if f"src/nixmill/{part}" not in tour] == []


def test_every_function_on_the_tour_exists() -> None:
    tour = (ROOT / "docs/tour.md").read_text()
    named = set(re.findall(r"`([A-Z][A-Za-z]+\.[a-z_]+|[a-z]*_[a-z_]+)`", tour))
    assert "Journey.travel" in named
    assert named - _functions() == set()


def _functions() -> set[str]:
    """Return functions and methods by name, and methods by class and name."""
    found: set[str] = set()
    for outer in (node for module in modules() for node in module.tree.body):
        for node in (outer, *(outer.body if isinstance(outer, ast.ClassDef) else ())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found |= {node.name, f"{getattr(outer, 'name', '')}.{node.name}"}
    return found


def test_every_word_of_semantics_is_in_the_glossary() -> None:
    glossary = (ROOT / "docs/glossary.md").read_text()
    words = "change project jobset tree evaluation attribute derivation output build attempt plan lease base outcome"
    assert [word for word in words.split() if f"**{word}**" not in glossary] == []


@pytest.mark.parametrize("document", READ, ids=lambda document: document.name)
def test_every_make_target_that_is_named_exists(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)`", document.read_text())) <= targets


def _doors() -> list[ast.ClassDef]:
    return [
        node
        for module in modules()
        if module.layer == "doors"
        for node in module.tree.body
        if isinstance(node, ast.ClassDef)
        if any(isinstance(base, ast.Name) and base.id == "Protocol" for base in node.bases)
    ]


@pytest.mark.parametrize("door", _doors(), ids=lambda door: door.name)
def test_a_door_has_few_methods_and_each_is_explained(door: ast.ClassDef) -> None:
    methods = [node for node in door.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert len(methods) <= MOST_DOOR_METHODS
    assert [method.name for method in (door, *methods) if not ast.get_docstring(method)] == []


def test_no_file_names_a_registry_or_a_path_of_one_machine() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("this is no git checkout")
    hits = [
        f"{name}:{number}: {line.strip()[:100]}"
        for name in listed.stdout.split("\0")
        if name and name not in GENERATED and (ROOT / name).is_file()
        for number, line in enumerate((ROOT / name).read_text(errors="replace").splitlines(), 1)
        if FORBIDDEN.search(line)
    ]
    assert hits == []


def test_the_locks_name_no_registry_and_pin_everything_by_hash() -> None:
    for name in GENERATED:
        text = (ROOT / name).read_text()
        assert "://" not in text
        pins = re.split(r"\n(?=\S)", text.strip())
        assert [pin.split("\n")[0] for pin in pins if "==" not in pin or "--hash=sha256:" not in pin] == []


@pytest.mark.parametrize("word", ["pypi" + ".org", "/wo" + "rk/main", "/fa" + "rm/out"])
def test_a_forbidden_word_is_noticed(word: str) -> None:
    assert FORBIDDEN.search(word)
