"""Which renderer and which colours, on real terminals and pipes; writing to descriptors that others have spoiled."""

import os
import threading
from collections.abc import Iterator

import pytest

from nixmill.cli.render.choose import Several, make_renderer, paint_for, terminal_size
from nixmill.cli.render.jsonl import JsonlRenderer
from nixmill.cli.render.live import LiveRenderer
from nixmill.cli.render.plain import PlainRenderer
from nixmill.cli.render.renderer import Renderer
from nixmill.cli.render.sink import FileSink
from tests.support.sample_run import play, sample_run
from tests.support.screens import Emulator

XTERM = {"TERM": "xterm-256color", "LANG": "C.UTF-8"}


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """The two ends of a pseudo-terminal: what reads, what a program writes to."""
    ends = os.openpty()
    yield ends
    for end in ends:
        os.close(end)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def choose(fd: int, environ: dict[str, str], **more: str) -> Renderer:
    return make_renderer(environ=environ, now=0.0, fd=fd, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("environ", "kind"),
    [
        (XTERM, LiveRenderer),
        (XTERM | {"TERM": "dumb"}, PlainRenderer),
        ({}, PlainRenderer),
        (XTERM | {"GITHUB_ACTIONS": "true"}, PlainRenderer),
        (XTERM | {"BUILDKITE": "true"}, PlainRenderer),
    ],
)
def test_on_a_terminal_it_is_live_unless_that_terminal_cannot(
    terminal: tuple[int, int], environ: dict[str, str], kind: type
) -> None:
    assert type(choose(terminal[1], environ)) is kind


def test_in_a_pipe_it_is_plain(pipe: tuple[int, int]) -> None:
    assert type(choose(pipe[1], XTERM)) is PlainRenderer


def test_what_is_asked_for_wins(terminal: tuple[int, int], pipe: tuple[int, int]) -> None:
    assert type(choose(terminal[1], XTERM, mode="plain")) is PlainRenderer
    assert type(choose(pipe[1], XTERM, mode="live")) is LiveRenderer
    assert type(choose(pipe[1], XTERM, mode="jsonl")) is JsonlRenderer


@pytest.mark.parametrize(
    ("environ", "choice", "coloured"),
    [
        (XTERM, "auto", True),
        (XTERM | {"NO_COLOR": "1"}, "auto", False),
        (XTERM | {"NO_COLOR": "1"}, "always", False),
        (XTERM | {"NO_COLOR": ""}, "auto", True),
        (XTERM | {"TERM": "dumb"}, "auto", False),
        (XTERM, "never", False),
    ],
)
def test_colours_on_a_terminal(
    terminal: tuple[int, int], environ: dict[str, str], choice: str, *, coloured: bool
) -> None:
    assert paint_for(choice, environ, terminal[1]).colour is coloured


def test_colours_in_a_pipe_only_where_asked_for_or_a_ci_shows_them(pipe: tuple[int, int]) -> None:
    assert not paint_for("auto", XTERM, pipe[1]).colour
    assert paint_for("always", XTERM, pipe[1]).colour
    assert paint_for("auto", {"GITHUB_ACTIONS": "true"}, pipe[1]).colour
    assert not paint_for("auto", {"GITHUB_ACTIONS": "true", "NO_COLOR": "1"}, pipe[1]).colour


@pytest.mark.parametrize(
    ("environ", "unicode"),
    [
        ({"LANG": "de_DE.UTF-8"}, True),
        ({"LANG": "C.utf8"}, True),
        ({"LC_ALL": "C", "LANG": "C.UTF-8"}, False),
        ({"LC_CTYPE": "C.UTF-8", "LANG": "C"}, True),
        ({"LANG": "de_DE.ISO-8859-1"}, False),
        ({}, False),
    ],
)
def test_glyphs_are_used_where_the_locale_is_utf_8(
    pipe: tuple[int, int], environ: dict[str, str], *, unicode: bool
) -> None:
    assert paint_for("auto", environ, pipe[1]).unicode is unicode


def test_a_terminal_that_does_not_know_its_size_counts_as_80_by_24(pipe: tuple[int, int]) -> None:
    assert terminal_size(pipe[1]) == (80, 24)


def test_a_descriptor_that_became_non_blocking_loses_nothing(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.set_blocking(writer, False)
    text = "x" * 500_000
    read = bytearray()

    def drain() -> None:
        while len(read) < len(text):
            read.extend(os.read(reader, 4096))

    thread = threading.Thread(target=drain)
    thread.start()
    FileSink(writer).write(text)
    thread.join(timeout=30)
    assert read.decode() == text


def test_a_reader_that_is_gone_is_an_error_only_where_it_matters() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    optional = FileSink(writer, optional=True)
    optional.write("nobody reads this")
    optional.write("nor this")
    with pytest.raises(BrokenPipeError):
        FileSink(writer).write("a program waits for this")
    os.close(writer)


def test_characters_that_an_encoding_lacks_do_not_end_the_run(pipe: tuple[int, int]) -> None:
    FileSink(pipe[1], "ascii").write("é\n")
    assert os.read(pipe[0], 10) == b"?\n"


def test_several_renderers_hear_the_same_and_all_are_closed() -> None:
    emulators = [Emulator(100, 30), Emulator(100, 30)]
    paint = paint_for("never", XTERM, 2)
    renderer = Several([LiveRenderer(emulator, paint, emulator.size, 0.0) for emulator in emulators])
    play(sample_run()[:-1], renderer)
    renderer.suspend()
    renderer.resume()
    assert emulators[0].rows == emulators[1].rows
    renderer.close()
    assert not any(emulator.cursor_hidden for emulator in emulators)
