"""The report of an import, for people."""

from collections.abc import Iterator

from nixmill.core.importing.findings import Imported, paragraphs


def report(imported: Imported) -> str:
    """Return everything that is not in the files, as text."""
    return "\n".join(_lines(imported)) + "\n"


def _lines(imported: Imported) -> Iterator[str]:
    for one in imported.repositories:
        if not one.text:
            yield f"{one.source}: {one.without or 'needs no nixmill.toml, the defaults do the same.'}"
    for title, notes in (
        ("Carried over, but not quite the same:", imported.differently),
        ("Not carried over:", imported.lost),
    ):
        if notes:
            yield from ("", title, *paragraphs(notes))
    yield from ("", "What remains to be done:")
    yield from (f"{number}. {sentence}" for number, sentence in enumerate(imported.to_do, 1))


def last_steps(system: str, status_name: str, *, server: bool) -> list[str]:
    """Return what has to be done after everything else."""
    if system == "garnix":
        stop = "Remove the app of garnix from the repositories, so that not two systems post the same status."
    else:
        stop = f"Stop {system} before nixmill posts statuses: two systems under one status name overwrite each other."
    keep = f'status-name = "{status_name}"'
    where = (
        "stands in the [[forge]] of server.toml" if server else "belongs into the [[forge]] of the server's settings"
    )
    name = f"{keep} {where}: with it the required check of branch protection goes on being posted."
    rename = (
        "To rename the status later: change `status-name`, and on the same day the name in the branch protection of"
        " each repository; open pull requests get the new one with their next run."
    )
    return [name, stop, rename]
