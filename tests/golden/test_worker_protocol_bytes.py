"""Bytes that every Nix agrees on, and what they mean.

The facts are those of Nix's own golden files for the worker protocol (`src/libstore-tests/data/worker-protocol` of
Nix 2.34); the vectors are written anew, in hexadecimal, with spaces between fields and text as text.
"""

from collections.abc import Callable

import pytest

from nixmill.nix import build_result, derived_path, path_info, realisation, wire, worker_protocol
from nixmill.nix.build_result import BuildResult, BuildStatus
from nixmill.nix.path_info import PathInfo
from nixmill.nix.store_path import StorePath
from nixmill.nix.wire import Parser, Reader, parse
from nixmill.nix.worker_protocol import RemoteError

HASH_PART = "g1w7hy3q" * 4
BAR = StorePath(f"/nix/store/{HASH_PART}-bar")
FOO = StorePath(f"/nix/store/{HASH_PART}-foo")


def vector(*fields: str) -> bytes:
    """Join fields: hexadecimal digits, or a text in quotes, which is padded to eight bytes but has no length."""
    out = b""
    for part in fields:
        if part.startswith("'"):
            data = part[1:-1].encode()
            out += data + bytes(-len(data) % 8)
        else:
            out += bytes.fromhex(part.replace("..", "00" * 7))
    return out


def read(make: Callable[[Reader], Parser[object]], data: bytes) -> object:
    """Parse the whole of `data`, fed at once and byte by byte; both must agree."""
    reader = Reader(data)
    whole = parse(make(reader), reader)
    slowly = Reader()
    parser = make(slowly)
    for byte in data:
        next(parser)
        slowly.feed(bytes([byte]))
    with pytest.raises(StopIteration) as stop:
        next(parser)
    assert stop.value.value == whole
    return whole


STRINGS = {
    "": vector("00.."),
    "hi": vector("02..", "'hi'"),
    "white rabbit": vector("0c..", "'white rabbit'"),
    "大白兔": vector("09..", "e5a4a7e799bde58594 00000000000000"),
    "oh no ": vector("06..", "'oh no '"),
}


@pytest.mark.parametrize("text", STRINGS)
def test_strings(text: str) -> None:
    assert wire.string(text) == STRINGS[text]
    assert read(Reader.text, STRINGS[text]) == text


def test_lists_of_strings() -> None:
    data = vector("03..", "00..", "03..", "'foo'", "03..", "'bar'")

    assert wire.strings(["", "foo", "bar"]) == data
    assert read(Reader.texts, data) == ["", "foo", "bar"]


def test_the_daemons_greeting() -> None:
    """The magic number reads `oixd` on the wire; the version is 1.10 here, far too old for us."""
    assert vector("'oixd'", "0a01 000000000000") == wire.u64(worker_protocol.SERVER_MAGIC) + wire.u64(0x10A)


DERIVED_PATHS = {
    FOO: vector("2f..", f"'{FOO}'"),
    f"{BAR}.drv!*": vector("35..", f"'{BAR}.drv!*'"),
    f"{BAR}.drv!x,y": vector("37..", f"'{BAR}.drv!x,y'"),
}


@pytest.mark.parametrize("text", DERIVED_PATHS)
def test_derived_paths(text: str) -> None:
    assert wire.string(derived_path.parse(text).to_wire()) == DERIVED_PATHS[text]


NO_TIMES = "00" * 32
TIMES = "03.. 01.. 1e.. 32.."
NO_OUTPUTS = "00.."
REALISATION = (
    '{"dependentRealisations":{},"id":"sha256:6f869f9ea2823bda165e06076fd0de4366dead2c0e8d2dbbad277d4f15c373f5!bar",'
    f'"outPath":"{HASH_PART}-bar","signatures":[]}}'
)
OUTPUTS = (
    "01..",
    "4b..",
    "'sha256:6f869f9ea2823bda165e06076fd0de4366dead2c0e8d2dbbad277d4f15c373f5!bar'",
    "b0..",
    f"'{REALISATION}'",
)
REJECTED = BuildResult(status=BuildStatus.OUTPUT_REJECTED, message="no idea why")
NOT_DETERMINISTIC = BuildResult(status=BuildStatus.NOT_DETERMINISTIC, message="no idea why")
BUILT = BuildResult(
    status=BuildStatus.BUILT,
    outputs={"bar": BAR},
    realisations={"bar": realisation.parse(REALISATION, "/nix/store")},
)
BUILD_RESULTS = [
    (27, vector("05..", "0b..", "'no idea why'"), REJECTED),
    (27, vector("00..", "00.."), BuildResult(status=BuildStatus.BUILT)),
    (28, vector("05..", "0b..", "'no idea why'", NO_OUTPUTS), REJECTED),
    (28, vector("00..", "00..", *OUTPUTS), BUILT),
    (29, vector("05..", "0b..", "'no idea why'", NO_TIMES, NO_OUTPUTS), REJECTED),
    (29, vector("0c..", "0b..", "'no idea why'", TIMES, NO_OUTPUTS), NOT_DETERMINISTIC),
    (29, vector("00..", "00..", "01.. 00.. 1e.. 32..", *OUTPUTS), BUILT),
    (37, vector("05..", "0b..", "'no idea why'", NO_TIMES, "00..", "00..", NO_OUTPUTS), REJECTED),
    (
        37,
        vector(
            "00..", "00..", "01.. 00.. 1e.. 32..", "01..", "0065cd1d 00000000", "01..", "004f0024 00000000", *OUTPUTS
        ),
        BUILT,
    ),
]


@pytest.mark.parametrize(("minor", "data", "meaning"), BUILD_RESULTS)
def test_build_results_of_every_version(minor: int, data: bytes, meaning: BuildResult) -> None:
    assert read(lambda reader: build_result.read(reader, minor, "/nix/store"), data) == meaning


def test_a_status_from_the_future_is_a_miscellaneous_failure() -> None:
    data = vector("63..", "00..", NO_TIMES, NO_OUTPUTS)
    result = read(lambda reader: build_result.read(reader, 29, "/nix/store"), data)

    assert result == BuildResult(status=BuildStatus.MISC_FAILURE)


NAR_HASH = "15e3c560894cbb27085cf65b5a2ecb18488c999497f4531b6907a7581ce6d527"
SIGNATURE = f"fake-sig-1:{'A' * 86}=="
PLAIN_INFO = vector("00..", "40..", f"'{NAR_HASH}'", "00..", "7f5b000000000000", "3e88000000000000")
PATH_INFOS = [
    (
        vector("2f..", f"'{BAR}'") + PLAIN_INFO + vector("01..", "00..", "00.."),
        PathInfo(
            path=BAR,
            deriver=None,
            nar_hash=f"sha256:{NAR_HASH}",
            nar_size=34878,
            references=(),
            registered_at=23423,
            ultimate=True,
        ),
    ),
    (
        vector("2f..", f"'{BAR}'", "33..", f"'{BAR}.drv'", "40..", f"'{NAR_HASH}'")
        + vector("02..", "2f..", f"'{BAR}'", "2f..", f"'{FOO}'", "7f5b000000000000", "3e88000000000000")
        + vector("00..", "01..", "63..", f"'{SIGNATURE}'", "00.."),
        PathInfo(
            path=BAR,
            deriver=StorePath(f"{BAR}.drv"),
            nar_hash=f"sha256:{NAR_HASH}",
            nar_size=34878,
            references=(BAR, FOO),
            registered_at=23423,
            signatures=(SIGNATURE,),
        ),
    ),
]


@pytest.mark.parametrize(("data", "meaning"), PATH_INFOS)
def test_path_infos(data: bytes, meaning: PathInfo) -> None:
    def whole(reader: Reader) -> Parser[PathInfo]:
        path = yield from reader.text()
        return (yield from path_info.read(reader, StorePath(path)))

    assert path_info.write(meaning) == data
    assert read(whole, data) == meaning


def test_an_error_of_the_daemon() -> None:
    data = vector("'ptxc'", "05..", "'Error'", "00..", "05..", "'Error'", "04..", "'oops'", "00..", "00..")
    reader = Reader(data)

    with pytest.raises(RemoteError, match=r"^oops$"):
        parse(worker_protocol.messages(reader, worker_protocol.ignore), reader)
