# ruff: noqa: INP001 - a program, no package
"""Keeps the parts of the documentation that are facts of the code: `make docs` writes them, a test compares them.

A part stands between `<!-- begin: NAME -->` and `<!-- end: NAME -->` in a Markdown file; `PARTS` says how each is made.
"""

import ast
import io
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Final, cast, get_args

import msgspec
from rich.console import Console

from nixmill import config
from nixmill.cli.main import CommandLine
from nixmill.cli.wiring import Wiring
from nixmill.config import caches, forges, roots, server
from nixmill.config.server_file import WRITTEN
from nixmill.core import hook, message, project
from nixmill.core.access import ALLOWED_FROM, ROLES, SCOPE_OF, Action
from nixmill.core.outcome import MEANING
from nixmill.core.run_event import EXIT_CODE, USAGE_EXIT_CODE, RunEvent
from nixmill.core.status import LOOK, of_outcome
from nixmill.core.view import pages, pulls
from nixmill.core.view import roots as kept
from nixmill.web.metrics import SERIES

ROOT: Final = Path(__file__).parents[1]
DOCUMENTS: Final = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
_PART: Final = re.compile(r"(<!-- begin: ([a-z-]+) -->\n).*?(<!-- end: \2 -->)", re.DOTALL)
_ADDRESS: Final = re.compile(r"`(/[^`]*)`: (.*)")
_HELP_WIDTH: Final = 100


def filled(text: str) -> str:
    """Return a document with all its parts made anew."""
    return _PART.sub(lambda found: f"{found[1]}\n{PARTS[found[2]]()}\n\n{found[3]}", text)


def names_of_core() -> str:
    """Return every public class of `core/` by file, with the first sentence of its docstring."""
    rows: list[tuple[str, ...]] = []
    for path in sorted((ROOT / "src/nixmill/core").rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                link = f"[{path.stem}](../{path.relative_to(ROOT).as_posix()})"
                rows.append((f"`{node.name}`", _first_line(ast.get_docstring(node)), link))
    return _table(("name", "what it is", "file"), sorted(rows, key=lambda row: row[0].lower()))


def commands() -> str:
    """Return the help of every command as it is printed."""
    app = CommandLine(cast("Wiring", None)).app
    names: list[tuple[str, ...]] = [(name,) for name in app if not name.startswith("-")]
    inner = [(*outer, name) for outer in names for name in app[outer[0]] if not name.startswith("-")]
    inner += [(*outer, name) for outer in inner for name in app[outer[0]][outer[1]] if not name.startswith("-")]
    return "\n\n".join(
        f"### nixmill {' '.join(words)}\n\n```text\n{_help(app.help_print, words)}\n```"
        for words in sorted([*names, *inner], key=lambda words: [name[0] for name in names].index(words[0]))
    )


def _help(print_help: Callable[..., None], words: tuple[str, ...]) -> str:
    console = Console(file=io.StringIO(), width=_HELP_WIDTH, no_color=True, force_terminal=False)
    print_help(list(words), console=console)
    lines = cast("io.StringIO", console.file).getvalue().strip().splitlines()
    return "\n".join(line.rstrip() for line in lines)


def exit_codes() -> str:
    """Return what each exit code means."""
    rows = [(str(code), verdict.value) for verdict, code in EXIT_CODE.items()]
    return _table(("code", "verdict"), sorted([*rows, (str(USAGE_EXIT_CODE), "usage")], key=lambda row: int(row[0])))


def events() -> str:
    """Return every event of a run with its fields."""
    rows = []
    for event in get_args(RunEvent):
        fields = ", ".join(f"`{field.encode_name}`" for field in msgspec.structs.fields(event))
        rows.append((f"`{event.__struct_config__.tag}`", _first_line(event.__doc__), fields))
    return _table(("event", "when", "fields"), rows)


def outcomes() -> str:
    """Return what follows from each outcome."""
    rows = [
        (outcome.value, LOOK[of_outcome(outcome)].glyph, *(_yes(answer) for answer in meaning))
        for outcome, meaning in MEANING.items()
    ]
    return _table(("outcome", "shown as", "remembered", "dependents fail too", "retried"), rows)


def settings() -> str:
    """Return the fields of `nixmill.toml`."""
    notes = _field_notes(Path(config.__file__))
    rows = []
    for table in msgspec.structs.fields(config.ProjectConfig):
        for field in msgspec.structs.fields(table.type):
            default = msgspec.json.encode(field.default).decode() if field.default is not msgspec.NODEFAULT else ""
            note = notes.get((table.type.__name__, field.name), "")
            rows.append((f"`[{table.encode_name}]` `{field.encode_name}`", f"`{default}`", note))
    return _table(("setting", "default", "meaning"), rows)


def server_settings() -> str:
    """Return the fields of the server's settings file, top level first, then table by table."""
    files = [Path(str(module.__file__)) for module in (server, forges, caches, roots, hook)]
    tables: dict[str, type[msgspec.Struct]] = {
        "": server.ServerSettings,
        "[smtp]": server.SmtpSettings,
        "[matrix]": server.MatrixSettings,
        "[[oidc]]": server.OidcProvider,
        "[[forge]]": forges.ForgeSettings,
        "[[cache]]": caches.CacheSettings,
        "[[hook]]": hook.Hook,
        "[roots]": roots.RootSettings,
        "[limits]": server.Limits,
        "[retention]": server.Retention,
    }
    own = {name.strip("[]") for name in tables} | set(WRITTEN)
    return _struct_table(tables, files, frozenset(own), "setting")


def declared_fields() -> str:
    """Return the fields of the projects file."""
    files = (Path(project.__file__), Path(message.__file__))
    tables: dict[str, type[msgspec.Struct]] = {
        "[[project]]": project.Project,
        "[[project.jobset]]": project.Jobset,
        "[[project.rule]]": message.Rule,
    }
    return _struct_table(
        tables, files, frozenset({"id", "project", "created_at", "declared", "repository_id"}), "field"
    )


def roles() -> str:
    """Return who may do what, and which scope a token needs for it."""
    rows = []
    for action in Action:
        weakest = ROLES.index(ALLOWED_FROM[action])
        may = (_yes(ROLES.index(role) >= weakest) for role in ROLES)
        rows.append((action.value, *may, SCOPE_OF[action].value))
    return _table(("to", *(role.value for role in ROLES), "scope of a token"), rows)


def metrics() -> str:
    """Return the numbers of `/metrics`."""
    rows = []
    for series in SERIES:
        labels = ", ".join(f"`{label}`" for label in series.labels)
        rows.append((f"`nixmill_{series.name}`", labels, series.meaning))
    return _table(("name", "labels", "meaning"), rows)


def page_addresses() -> str:
    """Return the pages that are structs, with their addresses: what their docstrings begin with."""
    rows = []
    for struct in (*vars(pages).values(), *vars(pulls).values(), *vars(kept).values()):
        found = _ADDRESS.match(_first_line(struct.__doc__)) if isinstance(struct, type) else None
        if found is not None:
            rows.append((f"`{found[1]}`", found[2][:1].upper() + found[2][1:], f"`{struct.__name__}`"))
    return _table(("address", "what it shows", "its JSON"), rows)


def _struct_table(
    tables: Mapping[str, type[msgspec.Struct]], files: Iterable[Path], left_out: frozenset[str], head: str
) -> str:
    notes = {key: note for file in files for key, note in _field_notes(file).items()}
    rows = []
    for place, struct in tables.items():
        for field in msgspec.structs.fields(struct):
            if field.name not in left_out:
                name = f"`{place}` `{field.name.replace('_', '-')}`" if place else f"`{field.name.replace('_', '-')}`"
                rows.append((name, f"{_written(field.default)}", notes.get((struct.__name__, field.name), "")))
    return _table((head, "default", "meaning"), rows)


def _written(default: object) -> str:
    """Return a default as it would be written; nothing where there is none."""
    if default is msgspec.NODEFAULT or default is None:
        return ""
    return f"`{msgspec.json.encode(default, enc_hook=str).decode()}`"


def _field_notes(path: Path) -> dict[tuple[str, str], str]:
    """Return the strings that stand under fields, by class and field."""
    notes = {}
    for node in ast.parse(path.read_text()).body:
        body = node.body if isinstance(node, ast.ClassDef) else []
        for field, note in pairwise(body):
            match field, note:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    notes[cast("ast.ClassDef", node).name, name] = " ".join(text.split())
    return notes


def _first_line(docstring: str | None) -> str:
    return (docstring or "").strip().split("\n")[0]


def _yes(answer: bool) -> str:  # noqa: FBT001 - a word for a truth value
    return "yes" if answer else ""


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


PARTS: Final[dict[str, Callable[[], str]]] = {
    "names-of-core": names_of_core,
    "commands": commands,
    "exit-codes": exit_codes,
    "events": events,
    "outcomes": outcomes,
    "settings": settings,
    "server-settings": server_settings,
    "projects-file": declared_fields,
    "roles": roles,
    "metrics": metrics,
    "pages": page_addresses,
}


def main() -> int:
    """Write the documents that changed and name them."""
    for document in DOCUMENTS:
        before = document.read_text()
        after = filled(before)
        if after != before:
            document.write_text(after)
            sys.stderr.write(f"{document.relative_to(ROOT)} written anew\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
