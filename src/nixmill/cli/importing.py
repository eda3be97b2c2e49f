"""`nixmill import`: what another system's files become here, and what they cannot."""

import json
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec

from nixmill.cli.import_documents import read_document
from nixmill.config import FILE_NAME, projects_file
from nixmill.core.errors import InputError
from nixmill.core.importing import flake_settings, garnix, server_options
from nixmill.core.importing.findings import Document, Findings, Imported, RepositoryFile
from nixmill.core.importing.report import last_steps, report
from nixmill.core.importing.server import Former, Server, server

System = Literal["buildbot-nix", "nixbot", "garnix"]
SERVER_FILE: Final = "server.toml"
PROJECTS_FILE: Final = "projects.toml"
_FORMER: Final = {
    "buildbot-nix": Former("buildbot-nix", server_options.BUILDBOT_NIX, "buildbot", "nix-effects"),
    "nixbot": Former("nixbot", server_options.NIXBOT, "nixbot", "effects"),
}
_FILES: Final = {
    "buildbot-nix": ("buildbot-nix.toml",),
    "nixbot": ("nixbot.toml", "buildbot-nix.toml"),
    "garnix": ("garnix.yaml",),
}
"""What the file in a repository is called, the first one that is there."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody asks for."""

    system: System
    paths: tuple[str, ...] = ()
    """Repositories or their files; none and no server: this directory."""
    server: str | None = None
    """JSON of the server's settings."""
    default_branch: str = ""
    out: str | None = None
    """Directory to write into; None: standard output."""
    force: bool = False
    json: bool = False


def import_(asked: Asked) -> None:
    """Print or write what the files become; tell the rest on standard error. Raises `InputError`."""
    imported = look(asked)
    files = texts(imported)
    said = report(imported)
    if asked.json:
        document = {**msgspec.to_builtins(imported), "files": files}
        print(json.dumps(document, indent=2))  # noqa: T201 - the result is what is asked for
        return
    if asked.out is not None:
        said = "\n".join([*_write(Path(asked.out), files, force=asked.force), said])
    else:
        sys.stdout.write("\n".join(f"# ---- {name}\n{text}" for name, text in files.items()))
        sys.stdout.flush()
    sys.stderr.write(said)


def look(asked: Asked) -> Imported:
    """Read the files; return what they become. Raises `InputError` that tells all mistakes."""
    if asked.server is not None and asked.system == "garnix":
        raise InputError(
            "garnix has no settings of a server that could be read: it is a service.", "Leave --server out."
        )
    findings = Findings()
    asked = _with_server(asked)
    settings = _read(Path(asked.server), findings) if asked.server else None
    old = server(settings, _FORMER[asked.system], findings) if settings else None
    documents = _documents(asked, findings)
    repositories = tuple(_repository(asked, document, old, findings) for document in documents)
    findings.refuse()
    status_name = old.status_name if old else _status_name(asked.system)
    return Imported(
        system=asked.system,
        repositories=repositories,
        server=old.text if old else "",
        projects=old.projects if old else (),
        status_name=status_name,
        differently=tuple(findings.different_notes),
        lost=tuple(findings.lost_notes),
        to_do=(*findings.to_dos, *last_steps(asked.system, status_name, server=old is not None)),
    )


def texts(imported: Imported) -> dict[str, str]:
    """Return the files of an import by name, without those that are not needed."""
    found: dict[str, str] = {}
    for one in imported.repositories:
        found[_free(_name(one, imported.repositories), found)] = one.text
    found[SERVER_FILE] = imported.server
    declared = [projects_file.DeclaredProject(project=one.project, jobsets=one.jobsets) for one in imported.projects]
    found[PROJECTS_FILE] = projects_file.render(projects_file.Declared(projects=tuple(declared)))
    return {name: text for name, text in found.items() if text}


def _with_server(asked: Asked) -> Asked:
    """Return what is asked for, with a JSON file among the paths taken for the server's settings."""
    found = [path for path in asked.paths if Path(path).suffix == ".json"]
    if asked.system == "garnix" or asked.server is not None or len(found) != 1:
        return asked
    paths = tuple(path for path in asked.paths if path not in found)
    return msgspec.structs.replace(asked, server=found[0], paths=paths)


def _documents(asked: Asked, findings: Findings) -> list[Document]:
    paths = asked.paths or (() if asked.server else (".",))
    return [found for path in paths if (found := _document(asked.system, Path(path), findings)) is not None]


def _document(system: System, path: Path, findings: Findings) -> Document | None:
    if not path.is_dir():
        return _read(path, findings)
    names = [name for name in _FILES[system] if (path / name).exists()]
    if names:
        return _read(path / names[0], findings)
    if not (path / "flake.nix").exists():
        wanted = " or ".join(_FILES[system])
        findings.unreadable(f"{path}: there is no {wanted}, and no flake.nix. Name a repository or such a file.")
        return None
    return Document(where=str(path / _FILES[system][0]), table={})


def _read(path: Path, findings: Findings) -> Document | None:
    """Return what a file says; None where it cannot be read, which is told with all other mistakes."""
    try:
        return read_document(path)
    except InputError as error:
        findings.unreadable(f"{error} {error.remedy}".rstrip())
        return None


def _repository(asked: Asked, document: Document, old: Server | None, findings: Findings) -> RepositoryFile:
    if asked.system == "garnix":
        return garnix.repository_file(document, findings)
    options = flake_settings.NIXBOT if asked.system == "nixbot" else flake_settings.BUILDBOT_NIX
    branches = old.branches if old else ()
    return flake_settings.repository_file(document, options, branches, asked.default_branch, findings)


def _status_name(system: System) -> str:
    return garnix.STATUS_NAME if system == "garnix" else f"{_FORMER[system].prefix}/nix-build"


def _name(one: RepositoryFile, every: Sequence[RepositoryFile]) -> str:
    """Return where the file of a repository goes: with several, into a directory called as the repository is."""
    short = Path(one.source).resolve().parent.name or "repository"
    return f"{short}/{FILE_NAME}" if len(every) > 1 else FILE_NAME


def _free(name: str, taken: Collection[str]) -> str:
    directory, _, file = name.rpartition("/")
    numbered = (f"{directory}-{number}/{file}" for number in range(2, len(taken) + 3))
    return next(one for one in (name, *numbered) if one not in taken)


def _write(directory: Path, files: Mapping[str, str], *, force: bool) -> list[str]:
    """Write files, none over another; return sentences about it."""
    there = [str(directory / name) for name in files if os.path.lexists(directory / name)]
    if there and not force:
        verb = "exists" if len(there) == 1 else "exist"
        raise InputError(
            f"{' and '.join(there)} {verb} already; nothing was written.",
            "Choose another --out, or write over with --force.",
        )
    try:
        return [_write_one(directory / name, text) for name, text in files.items()] or ["There is nothing to write."]
    except OSError as error:
        raise InputError(f"{directory} cannot be written to: {error}.", "Choose another --out.") from error


def _write_one(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return f"Wrote {path}."
