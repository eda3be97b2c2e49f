"""Laws of everything that reads what a daemon or a store wrote."""

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixmill.nix import (
    build_result,
    derivation,
    derived_path,
    hashes,
    log_events,
    nar,
    operations,
    path_info,
    wire,
    worker_protocol,
)
from nixmill.nix.derivation import Derivation, DerivationError, DerivationOutput
from nixmill.nix.derived_path import DerivedPath
from nixmill.nix.path_info import PathInfo
from nixmill.nix.store_path import StorePath
from nixmill.nix.wire import Parser, ProtocolError, Reader, parse
from nixmill.nix.worker_protocol import DaemonFacts, RemoteError, UnsupportedError

FACTS = DaemonFacts(minor=38)
STORE = "/nix/store"

names = st.text(alphabet="abcXYZ019+-._?=", min_size=1, max_size=12).map(lambda name: f"n{name}")
hash_parts = st.text(alphabet=hashes.ALPHABET, min_size=32, max_size=32)
paths = st.builds(lambda part, name: StorePath(f"{STORE}/{part}-{name}"), hash_parts, names)
drv_paths = paths.map(lambda path: StorePath(f"{path}.drv"))
NASTY = ["", '"', "\\", "],[(", '"),("', "\n\r\t", "\\n", "\udcff", "é", "\0", '("requiredSystemFeatures","x")', "])"]
texts = st.one_of(st.sampled_from(NASTY), st.text(max_size=20), st.lists(st.sampled_from(NASTY)).map("".join))
# A lone surrogate stands for a byte that is not UTF-8; others cannot come from bytes.
wire_texts = st.binary(max_size=30).map(derivation.decode)
output_names = st.text(alphabet="abcdev", min_size=1, max_size=5)
outputs = st.one_of(
    st.builds(DerivationOutput, paths),
    st.builds(DerivationOutput, paths, st.just("r:sha256"), st.just("00ff")),
    st.just(DerivationOutput("", "r:sha256", "")),
)
printable = texts.filter(lambda text: text.encode("utf-8", "replace").decode() == text)
derivations = st.builds(
    Derivation,
    st.dictionaries(output_names, outputs, max_size=3),
    st.dictionaries(
        drv_paths, st.sets(output_names, min_size=1, max_size=3).map(lambda s: tuple(sorted(s))), max_size=4
    ),
    st.sets(paths, max_size=3).map(lambda s: tuple(sorted(s))),
    printable,
    printable,
    st.lists(texts, max_size=4).map(tuple),
    st.dictionaries(texts, texts, max_size=5),
)
infos = st.builds(
    PathInfo,
    path=paths,
    deriver=st.none() | drv_paths,
    nar_hash=st.binary(min_size=32, max_size=32).map(lambda digest: f"sha256:{digest.hex()}"),
    nar_size=st.integers(0, 2**63),
    references=st.lists(paths, max_size=3).map(tuple),
    registered_at=st.integers(0, 2**40),
    ultimate=st.booleans(),
    signatures=st.lists(wire_texts, max_size=2).map(tuple),
    content_address=st.sampled_from(["", "fixed:r:sha256:00"]),
)


def bytewise(make: Callable[[Reader], Parser[object]], data: bytes) -> object:
    """Parse `data` fed byte by byte; whatever is not done at the end is an error."""
    reader = Reader()
    parser = make(reader)
    for index in range(len(data) + 1):
        try:
            next(parser)
        except StopIteration as stop:
            assert index == len(data), "stopped before the end"
            return stop.value
        reader.feed(data[index : index + 1])
    raise AssertionError("never stopped")


@given(derivations)
def test_a_derivation_that_was_printed_is_parsed_to_itself(value: Derivation) -> None:
    text = derivation.unparse(value)

    assert derivation.parse(text) == value
    assert derivation.unparse(derivation.parse(text)) == text


@given(derivations)
def test_the_head_of_a_derivation_agrees_with_the_whole(value: Derivation) -> None:
    head = derivation.parse_head(derivation.unparse(value))

    assert (head.outputs, head.input_drvs, head.input_srcs) == (value.outputs, value.input_drvs, value.input_srcs)
    assert (head.system, head.builder) == (value.system, value.builder)


@given(derivations, st.integers(0, 2000), texts)
def test_a_damaged_derivation_is_refused_or_read_but_nothing_else(value: Derivation, at: int, rubbish: str) -> None:
    text = derivation.unparse(value)
    damaged = text[: at % len(text)] + rubbish + text[at % len(text) + 1 :]
    for read in (derivation.parse, derivation.parse_head):
        with contextlib.suppress(DerivationError):
            read(damaged)


@given(texts)
def test_any_text_is_a_derivation_or_refused(text: str) -> None:
    for read in (derivation.parse, derivation.parse_head):
        with contextlib.suppress(DerivationError):
            read("Derive([" + text)


@given(st.lists(wire_texts))
def test_strings_survive_the_wire_byte_by_byte(values: list[str]) -> None:
    data = wire.strings(values)
    reader = Reader(data)

    assert parse(reader.texts(), reader) == values
    assert bytewise(Reader.texts, data) == values


@given(infos)
def test_path_infos_survive_the_wire(info: PathInfo) -> None:
    data = path_info.write(info)

    def read(reader: Reader) -> Parser[PathInfo]:
        path = yield from reader.text()
        return (yield from path_info.read(reader, StorePath(path)))

    assert bytewise(read, data) == info


@given(paths, st.none() | st.lists(output_names, min_size=1, max_size=3).map(tuple))
def test_derived_paths_survive_printing(path: StorePath, wanted: tuple[str, ...] | None) -> None:
    value = DerivedPath(path, wanted)

    assert derived_path.parse(value.to_wire()) == value
    assert derived_path.parse(value.to_installable()) == value


@given(st.binary(max_size=64))
def test_base_32_survives_a_round_trip(data: bytes) -> None:
    assert hashes.from_base32(hashes.base32(data), len(data)) == data


@given(st.sampled_from(["md5", "sha1", "sha256", "sha512"]), st.binary(min_size=64, max_size=64))
def test_hashes_survive_every_spelling(algorithm: str, data: bytes) -> None:
    value = hashes.Hash(algorithm, data[: hashes.SIZES[algorithm]])

    for text in (value.base16(), value.base32(), value.base64()):
        assert hashes.parse(f"{algorithm}:{text}") == value
        assert hashes.parse(text, algorithm) == value
    assert hashes.parse(value.sri()) == value


@given(st.text())
def test_any_text_is_a_hash_or_refused(text: str) -> None:
    for candidate in (text, f"sha256:{text}", f"sha1-{text}"):
        with contextlib.suppress(hashes.HashError):
            hashes.parse(candidate, "sha256")


@given(st.text())
def test_removing_ansi_codes_leaves_none(text: str) -> None:
    assert "\x1b[" not in log_events.plain(f"\x1b[1m{text.replace(chr(27), '')}\x1b[0m")


READERS: dict[str, Callable[[Reader], Parser[object]]] = {
    "handshake": lambda reader: worker_protocol.handshake(reader, lambda _: None),
    "messages": lambda reader: worker_protocol.messages(reader, lambda _: None),
    "build result": lambda reader: build_result.read(reader, 38, STORE),
    "build results": operations.build_paths_with_results([], FACTS, STORE).answer,
    "path info": operations.query_path_info(StorePath(f"{STORE}/{'a' * 32}-x")).answer,
    "missing": operations.query_missing([]).answer,
    "valid paths": operations.query_valid_paths([]).answer,
    "nar": lambda reader: nar.copy(reader, lambda _: None),
}
_MAGIC = [0x616C7473, 0x6F6C6D67, 0x63787470, 0x53545254, 0x53544F50, 0x52534C54, 0x6478696F, 0x126, 0x122]
words = st.one_of(
    st.sampled_from(_MAGIC).map(wire.u64),
    st.integers(0, 120).map(wire.u64),
    st.integers(0, 2**64 - 1).map(wire.u64),
    st.sampled_from(["", "(", ")", "type", "regular", "contents", "entry", "nix-archive-1", "sha256:x!out"]).map(
        wire.string
    ),
    st.sampled_from(['{"outPath":"a"}', "[" * 5000, "{}", "3"]).map(wire.string),
    wire_texts.map(wire.string),
    st.binary(max_size=20),
)


@pytest.mark.parametrize("reader", READERS)
@given(data=st.lists(words, max_size=30).map(b"".join))
def test_garbage_raises_nothing_but_errors_of_the_protocol(reader: str, data: bytes) -> None:
    source = Reader(data)
    with contextlib.suppress(ProtocolError, RemoteError, UnsupportedError):
        parse(READERS[reader](source), source)


@pytest.mark.parametrize("reader", READERS)
@given(data=st.lists(words, max_size=12).map(b"".join))
def test_what_is_read_does_not_depend_on_how_it_arrived(reader: str, data: bytes) -> None:
    assert outcome(READERS[reader], [data]) == outcome(READERS[reader], [bytes([byte]) for byte in data])


def outcome(make: Callable[[Reader], Parser[object]], pieces: list[bytes]) -> object:
    """Return value, error or hunger, and how much was left over."""
    source = Reader()
    parser = make(source)
    for piece in [b"", *pieces]:
        source.feed(piece)
        try:
            next(parser)
        except StopIteration as stop:
            return ("value", stop.value)
        except (ProtocolError, RemoteError, UnsupportedError) as error:
            return (type(error), str(error))
    return "wants more"
