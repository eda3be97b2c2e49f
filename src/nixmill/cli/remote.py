"""Commands about a server's runs: status, queue, retry, cancel, logs, and a run of the checkout one stands in."""

import os
import sys
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final

import msgspec

from nixmill.cli import pulls
from nixmill.cli.client import Client
from nixmill.cli.named import is_pull, project_of, pull_named, run_named
from nixmill.cli.render.server_view import home_lines, project_lines, queue_lines, run_lines
from nixmill.cli.standard_streams import columns, paint, say
from nixmill.cli.watch import project_path, watch_run
from nixmill.cli.wiring import Wiring
from nixmill.core.errors import InputError
from nixmill.core.terminal_text import sanitise_lines
from nixmill.core.view.pages import EvaluationPage, HomePage, LogPage, ProjectPage, QueuePage
from nixmill.core.view.parts import AttributeLine
from nixmill.engine.office import Again
from nixmill.nix.attr_path import AttrPathError, parse, show

FIND_MAX: Final = 200
"""What a server takes."""


class Started(msgspec.Struct, frozen=True, kw_only=True):
    """A run was started."""

    number: int


class Cancelled(msgspec.Struct, frozen=True, kw_only=True):
    """Whether there was anything to cancel."""

    cancelled: bool


class LogText(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a log that is being written."""

    text: str = ""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What of a run is tried again."""

    attribute: str | None = None
    build: str | None = None
    """An attribute that is built even where it is known to be good."""
    anyway: bool = False
    evaluate: bool = False

    def check(self) -> None:
        """Raise `InputError` for more than one wish."""
        if self.anyway + self.evaluate + (self.attribute is not None) + (self.build is not None) > 1:
            raise InputError(
                "An attribute, --build, --anyway and --evaluate exclude each other.",
                "One attribute is tried again as it is, or built anyway; --anyway and --evaluate are for whole runs.",
            )


async def status(client: Client, wiring: Wiring, what: str | None, *, json: bool) -> int:
    """Print the home page, a project, a run or a pull request."""
    now, colours, width = time.time(), paint(), columns()
    if what is None:
        home = await client.page("/", HomePage)
        return _result(home, home_lines(home, colours, now, width), json=json)
    if what.isdecimal():
        page = await client.page(f"/r/{what}", EvaluationPage)
        return _result(page, run_lines(page, colours, now, width, client.address(f"/r/{what}")), json=json)
    if is_pull(what):
        return await pulls.pull(client, await pull_named(client, wiring, what), json=json)
    project = await client.page(project_path(what), ProjectPage)
    return _result(project, project_lines(project, colours, now, width), json=json)


async def queue(client: Client, *, why: bool, json: bool) -> int:
    """Print what runs and waits."""
    page = await client.page("/queue", QueuePage)
    return _result(page, queue_lines(page, paint(), time.time(), columns(), why=why), json=json)


async def retry(client: Client, wiring: Wiring, run: str, wanted: Wanted) -> int:
    """Try a run again as a new run; say its number."""
    wanted.check()
    number = await run_named(client, wiring, run)
    what = Again.ANYWAY if wanted.anyway else Again.EVALUATE if wanted.evaluate else Again.FAILED
    body: dict[str, str] = {"what": what.value}
    if word := wanted.attribute or wanted.build:
        line = await find_attribute(client, number, word)
        again = Again.BUILD if wanted.build else Again.ATTRIBUTE
        body = {"what": again.value, "attribute": show(line.path)}
    started = await client.act("POST", f"/r/{number}/retry", body, Started)
    print(started.number)  # noqa: T201 - the result is what is asked for
    say(f"Run {started.number} tries again what run {number} did: nixmill watch {started.number}")
    return 0


async def cancel(client: Client, wiring: Wiring, run: str) -> int:
    """Cancel a run; say whether there was anything to cancel."""
    number = await run_named(client, wiring, run)
    answer = await client.act("POST", f"/r/{number}/cancel", {}, Cancelled)
    say(f"Run {number} is being cancelled." if answer.cancelled else f"Run {number} had ended already.")
    return 0


async def log(client: Client, wiring: Wiring, what: str, attribute: str | None, *, raw: bool, follow: bool) -> int:
    """Print the log of an attempt, or of an attribute in a run; with `follow` until it ends."""
    if attribute is not None and is_pull(what):
        what = str(await run_named(client, wiring, what))
    if not what.isdecimal():
        raise InputError(
            f"{what!r} is no number of an attempt." if what else "No log is named.",
            "Name an attempt, or a run and an attribute: nixmill log 41 hello --remote",
        )
    number = int(what)
    if attribute is not None:
        line = await find_attribute(client, number, attribute)
        if line.attempt is None:
            raise InputError(f"{line.name} has no log in run {number}: {line.how or line.status}.", "")
        number = line.attempt
    written = _LogWriter(raw=raw)
    async for chunk in _followed(client, number) if follow else client.raw(f"/log/{number}/raw"):
        written.write(chunk)
    written.close()
    return 0


async def run_remote(wiring: Wiring, client: Client, project: str | None, targets: Sequence[str]) -> int:
    """Start a run of the commit that the checkout here stands at; watch it."""
    standing = await wiring.standing(os.getcwd())  # noqa: PTH109 - a text is wanted
    if not standing.on:
        raise InputError(
            f"Commit {standing.commit[:12]} is on no remote branch that is known here, so no server can fetch it.",
            "Push it first: git push",
        )
    if standing.dirty:
        say("Changes that are not committed are not part of it.")
    name = project or await project_of(client, [url for _, url in standing.remotes])
    branch = standing.on[0].partition("/")[2]
    body: dict[str, object] = {"ref": branch, "commit": standing.commit}
    if targets:
        body["targets"] = list(targets)
    started = await client.act("POST", f"{project_path(name)}/start", body, Started)
    return await watch_run(client, started.number)


async def find_attribute(client: Client, run: int, word: str) -> AttributeLine:
    """Return the attribute of a run that a word means: its whole name, its last name, or a part that only it has."""
    page = await client.page(f"/r/{run}", EvaluationPage, show="all", find=_searched(word), size=0)
    exact = [row for row in page.rows if row.name == word]
    last = [row for row in page.rows if row.path and row.path[-1] == word]
    found = exact or last or [row for row in page.rows if word in row.name]
    if len(found) == 1:
        return found[0]
    if found:
        names = "\n  ".join(paint().text(row.name) for row in found[:20])
        raise InputError(f"{word!r} means {len(found)} attributes of run {run}.", f"Name one of them:\n  {names}")
    raise InputError(f"Run {run} has no attribute {word!r}.", f"See what there is: nixmill status {run}")


def _searched(word: str) -> str:
    """Return the text to look for: a name in quotes is found by what it says."""
    try:
        return parse(word)[-1][:FIND_MAX]
    except (AttrPathError, IndexError):
        return word[:FIND_MAX]


async def _followed(client: Client, attempt: int) -> AsyncIterator[bytes]:
    await client.page(f"/log/{attempt}", LogPage)  # says in a sentence what is wrong, if something is
    async for event in client.events(f"/log/{attempt}"):
        if event is not None and event.event == "lines":
            yield msgspec.json.decode(event.data, type=LogText).text.encode()


class _LogWriter:
    """Writes a log to standard output, whole lines at a time, without what could steer a terminal unless `raw`."""

    def __init__(self, *, raw: bool) -> None:
        self._raw = raw
        self._rest = b""

    def write(self, data: bytes) -> None:
        """Write the whole lines that are there now."""
        whole, end, self._rest = (self._rest + data).rpartition(b"\n")
        self._write(whole + end)

    def close(self) -> None:
        """Write what is left."""
        self._write(self._rest)

    def _write(self, data: bytes) -> None:
        if not data:
            return
        if not self._raw:
            text = data.decode("utf-8", "replace").removesuffix("\n")
            data = ("\n".join(sanitise_lines(text, colour=sys.stdout.isatty())) + "\n").encode()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def _result(page: msgspec.Struct, lines: Iterable[str], *, json: bool) -> int:
    if json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(page)) + b"\n")
    else:
        print(*lines, sep="\n")  # noqa: T201 - the result is what is asked for
    return 0
