import pytest

from nixmill.nix import wire
from nixmill.nix.wire import ProtocolError, Reader, parse


def test_a_string_is_padded_to_eight_bytes() -> None:
    assert wire.string("hi") == bytes.fromhex("0200000000000000 6869000000000000")
    assert wire.string("eight ch") == bytes.fromhex("0800000000000000") + b"eight ch"
    assert wire.string("") == bytes(8)


def test_a_list_begins_with_its_length() -> None:
    assert wire.strings(["", "a"]) == wire.u64(2) + wire.string("") + wire.string("a")


def test_bytes_that_are_not_utf8_survive_a_round_trip() -> None:
    reader = Reader(wire.string(b"\xff\xfe"))
    text = parse(reader.text(), reader)

    assert wire.string(text) == wire.string(b"\xff\xfe")


def test_a_map_is_read_as_written() -> None:
    reader = Reader(wire.string_map({"b": "2", "a": "1"}))

    assert parse(reader.text_map(), reader) == {"b": "2", "a": "1"}


def test_a_parser_waits_for_bytes_that_have_not_arrived() -> None:
    reader = Reader()
    parser = reader.text()
    data = wire.string("word")
    for byte in data[:-1]:
        reader.feed(bytes([byte]))
        next(parser)
    reader.feed(data[-1:])

    with pytest.raises(StopIteration) as stop:
        next(parser)

    assert stop.value.value == "word"


def test_what_has_been_read_does_not_pile_up() -> None:
    reader = Reader()
    for _ in range(50):
        reader.feed(wire.string(b"x" * 100_000))
        with pytest.raises(StopIteration):
            next(reader.blob())

    assert len(reader) == 0
    assert len(reader._data) < 1_000_000


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (wire.u64(2**63), "9223372036854775808 bytes"),
        (wire.u64(1) + b"ax" + bytes(6), "padded"),
        (wire.u64(4) + b"abc", "stops in the middle"),
        (wire.string("a") + b"!", "1 bytes follow"),
    ],
)
def test_a_malformed_string_is_a_protocol_error(data: bytes, complaint: str) -> None:
    reader = Reader(data)
    with pytest.raises(ProtocolError, match=complaint):
        parse(reader.blob(), reader)


def test_a_list_of_absurd_length_is_a_protocol_error() -> None:
    reader = Reader(wire.u64(2**40))
    with pytest.raises(ProtocolError, match="items"):
        parse(reader.texts(), reader)
