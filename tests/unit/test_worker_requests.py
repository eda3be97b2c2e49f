"""Requests of clients, paths that prove themselves, and handshakes in the middle."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixmill.nix import content_address, nar, wire, worker_relay, worker_requests
from nixmill.nix.content_address import METHODS, ContentAddress, ContentAddressError
from nixmill.nix.content_proof import ContentProof
from nixmill.nix.wire import ProtocolError, Reader, parse
from nixmill.nix.worker_requests import Opcode, Request, encode

PATH = f"/nix/store/{'0' * 32}-x"

EXAMPLES = [
    (Request(Opcode.IS_VALID_PATH, (PATH,)), encode(Opcode.IS_VALID_PATH, PATH)),
    (Request(Opcode.ADD_TO_STORE, ("x", "text:sha256", [PATH], 0)), encode(7, "x", "text:sha256", (PATH,), 0)),  # type: ignore[arg-type]
    (Request(Opcode.ADD_TEXT_TO_STORE, ("x", b"\xff\0", [])), encode(8, "x", b"\xff\0", ())),  # type: ignore[arg-type]
    (Request(Opcode.VERIFY_STORE, (1, 0)), encode(Opcode.VERIFY_STORE, 1, 0)),
    (Request(Opcode.QUERY_SUBSTITUTABLE_PATH_INFOS, ({PATH: ""},)), encode(30, 1, PATH, "")),  # type: ignore[arg-type]
    (
        Request(Opcode.BUILD_DERIVATION, (PATH, [["out", PATH, "", ""]], [], "s", "b", ["-c"], {"k": "v"}, 0)),
        encode(36, PATH, 1, "out", PATH, "", "", (), "s", "b", ("-c",), 1, "k", "v", 0),  # type: ignore[arg-type]
    ),
]


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_requests(number: int) -> None:
    request, data = EXAMPLES[number]
    reader = Reader(data)
    assert parse(worker_requests.read(reader), reader) == request


@pytest.mark.parametrize("opcode", list(Opcode))
def test_every_operation_can_be_read(opcode: Opcode) -> None:
    reader = Reader(wire.u64(opcode) + bytes(8 * 20))
    parser = worker_requests.read(reader)
    with pytest.raises(StopIteration):
        next(parser)


@given(st.sampled_from([*Opcode, 99]), st.binary(max_size=200))
def test_garbage_is_read_or_refused_and_never_more_than_there_is(opcode: int, data: bytes) -> None:
    whole = wire.u64(opcode) + data
    slow, parser = Reader(), None
    outcomes = []
    for reader, feeding in ((Reader(whole), [b""]), (slow, [whole[at : at + 1] for at in range(len(whole))])):
        parser = worker_requests.read(reader)
        outcome: object = "unfinished"
        try:
            for piece in feeding:
                reader.feed(piece)
                next(parser)
        except StopIteration as stop:
            outcome = stop.value
        except ProtocolError as error:
            outcome = str(error)
        outcomes.append(outcome)
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize(
    "data",
    [
        wire.u64(Opcode.IS_VALID_PATH) + wire.u64(worker_requests.NAME_BYTES_MAX + 1),
        wire.u64(Opcode.ADD_TEXT_TO_STORE) + wire.string("x") + wire.u64(worker_requests.CONTENT_BYTES_MAX + 1),
        wire.u64(Opcode.QUERY_VALID_PATHS) + wire.u64(worker_requests.LIST_ITEMS_MAX + 1),
        wire.u64(Opcode.IS_VALID_PATH) + wire.u64(1) + b"xx000000",
        wire.u64(2),
    ],
)
def test_lengths_beyond_the_limit_are_refused_before_they_arrive(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        next(worker_requests.read(Reader(data)))


# What `nix-store --print-fixed-path` and `builtins.toFile` of Nix 2.8 say of a file `hello` that holds that word.
PATHS = {
    "text:sha256": "/nix/store/i4f75pn3bxkxdk2kld86k5qazq4cqj8i-hello",
    "fixed:sha256": "/nix/store/3fhdhfqli6qm669f7sz8d8v6xz24zrqc-hello",
    "fixed:r:sha256": "/nix/store/yqi18hzk6wxzj2ksv7x9k8rnnzwirzz9-hello",
    "fixed:r:sha1": "/nix/store/9yw8zg8zabkb6xrhdxm7shpq2cjcx9ky-hello",
}


def archive_of(content: bytes) -> bytes:
    words: tuple[str | bytes, ...] = ("nix-archive-1", "(", "type", "regular", "contents", content, ")")
    return b"".join(map(wire.string, words))


@pytest.mark.parametrize("method", PATHS)
def test_paths_follow_from_contents_as_nix_has_it(method: str) -> None:
    subject = archive_of(b"hello") if METHODS[method].kind == "nar" else b"hello"
    address = ContentAddress(METHODS[method], hashlib.new(METHODS[method].algorithm, subject).digest())
    assert content_address.path_of(address, "hello", (), "/nix/store") == PATHS[method]


@pytest.mark.parametrize("method", METHODS)
def test_addresses_survive_a_round_trip_and_are_proved(method: str) -> None:
    content = b"hello" * 30000
    archive = archive_of(content)
    subject = archive if METHODS[method].kind == "nar" else content
    address = ContentAddress(METHODS[method], hashlib.new(METHODS[method].algorithm, subject).digest())
    assert content_address.parse(content_address.render(address)) == address
    proof = ContentProof(address)
    for at in range(0, len(archive), 1000):
        assert not proof.holds
        proof.feed(archive[at : at + 1000])
    assert proof.holds
    other = ContentProof(address)
    other.feed(archive_of(b"other"))
    assert not other.holds


@pytest.mark.parametrize(
    "text", ["", "text:sha1", "fixed:git:sha1", "fixed:r:blake3", "fixed:", "r:sha256", "text:sha256 "]
)
def test_methods_that_not_every_daemon_knows_are_refused(text: str) -> None:
    with pytest.raises(ContentAddressError):
        content_address.parse_method(text)


def test_a_file_is_not_proved_by_a_directory() -> None:
    address = ContentAddress(METHODS["fixed:sha256"], bytes(32))
    with pytest.raises(ProtocolError):
        ContentProof(address).feed(b"".join(map(wire.string, ("nix-archive-1", "(", "type", "directory", ")"))))


def test_only_the_contents_of_a_file_are_copied() -> None:
    found = bytearray()
    reader = Reader(archive_of(b"contents"))
    parse(nar.copy_file(reader, found.extend), reader)
    assert found == b"contents"


def test_messages_are_passed_on_unchanged_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    line = wire.u64(0x6F6C6D67) + wire.string("a line")
    start = b"".join(map(wire.u64, (0x53545254, 1, 3, 105))) + wire.string("building") + wire.u64(2)
    start += wire.u64(0) + wire.u64(7) + wire.u64(1) + wire.string("field") + wire.u64(0)
    stop = wire.u64(0x53544F50) + wire.u64(1)
    result = b"".join(map(wire.u64, (0x52534C54, 1, 101, 1, 1))) + wire.string("log")
    passed: list[bytes] = []
    reader = Reader(line + start + result + stop + worker_relay.LAST)
    assert parse(worker_relay.messages(reader, passed.append), reader) is None
    assert b"".join(passed) == line + start + result + stop
    monkeypatch.setattr(worker_relay, "MESSAGE_BYTES_MAX", len(line))
    passed.clear()
    reader = Reader(line + line + worker_relay.error("No."))
    assert parse(worker_relay.messages(reader, passed.append), reader) == worker_relay.error("No.")
    assert passed == [line]


@pytest.mark.parametrize("kind", [0x64617461, 0x64617416, 0])
def test_messages_that_ask_for_data_are_refused(kind: int) -> None:
    with pytest.raises(ProtocolError, match="no allowed request"):
        next(worker_relay.messages(Reader(wire.u64(kind) + bytes(8)), lambda _: None))
