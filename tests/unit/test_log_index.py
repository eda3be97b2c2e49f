"""Where lines, phases and the error that matters are in a log, however its bytes arrive."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixmill.core.log_index import MARK_BYTES, LogIndex, Phase


def indexed(text: str | bytes, step: int = 1_000_000) -> LogIndex:
    data = text.encode() if isinstance(text, str) else text
    index = LogIndex()
    for at in range(0, len(data), step):
        index.feed(data[at : at + step])
    return index


BUILD = """Running phase: unpackPhase
unpacking source
@nix { "action": "setPhase", "phase": "configurePhase" }
checking for strerror... conftest.c:3:1: error: unknown type name
checking for fish... no
building
cc -Werror -c error.c -o error.o
error.c:4:10: error: expected ';' before 'return'
make: *** [Makefile:3: error.o] Error 1
"""


@pytest.mark.parametrize("step", [1, 7, 64, 10_000])
def test_phases_and_the_error_of_the_last_phase_are_found(step: int) -> None:
    index = indexed(BUILD, step)
    assert index.lines == 9
    assert index.whole == index.size == len(BUILD)
    assert index.phases == [Phase("unpackPhase", 1), Phase("configurePhase", 3), Phase("buildPhase", 6)]
    assert index.error == 8


@pytest.mark.parametrize(
    "line",
    [
        "main.c:3:1: error: expected ';'",
        "error[E0425]: cannot find value `x`",
        "error: builder for '/nix/store/x.drv' failed",
        "Traceback (most recent call last):",
        "AssertionError: 1 != 2",
        "FAILED tests/test_x.py::test_y",
        "--- FAIL: TestParse (0.00s)",
        "make[2]: *** [CMakeFiles/all.dir/all] Error 2",
        "CMake Error at CMakeLists.txt:3 (find_package):",
        "thread 'main' panicked at src/main.rs:2:5:",
        "/bin/sh: line 3: cmake: command not found",
        "foo.o: undefined reference to `bar'",
        "not ok 3 - parses",
        "fatal: not a git repository",
        "\x1b[1mfoo.c:1:2: \x1b[31merror: \x1b[0mexpected ';'",
        "java.lang.NullPointerException: null",
    ],
)
def test_an_error_is_recognised(line: str) -> None:
    assert indexed(f"building\nfine\n{line}\nmore\n").error == 3


@pytest.mark.parametrize(
    "line",
    [
        "cc -Werror -c error.c",
        "checking for strerror... yes",
        "0 errors, 0 warnings",
        "test result: ok. 12 passed; 0 failed",
        "compiling src/error.rs",
        "warning: unused variable",
        "MY_ERROR_CODE=3",
        "no failures",
    ],
)
def test_what_only_mentions_errors_is_none(line: str) -> None:
    assert indexed(f"building\n{line}\n").error is None


@given(st.lists(st.binary(max_size=40).filter(lambda b: b"\n" not in b), max_size=60), st.integers(1, 50))
def test_the_index_does_not_depend_on_how_bytes_arrive(lines: list[bytes], step: int) -> None:
    text = b"".join(line + b"\n" for line in lines) + b"no end"
    index = indexed(text, step)
    assert (index.lines, index.whole, index.size) == (len(lines), len(text) - 6, len(text))


def test_a_line_is_near_a_mark() -> None:
    line = b"x" * 99 + b"\n"
    index = indexed(line * 100_000, 1_000)
    for wanted in (1, 2, 5_000, 99_999):
        offset, number = index.near(wanted)
        assert number <= wanted
        assert offset == (number - 1) * 100
        assert (wanted - number) * 100 <= MARK_BYTES + 2_000
        assert index.near_offset((wanted - 1) * 100) == (offset, number)


def test_a_line_without_end_takes_no_memory() -> None:
    index = indexed(b"x" * 10_000_000, 65_536)
    assert len(index._unended) == 4096
    assert index.lines == index.whole == 0
