"""Dialogues with a daemon that is a string of bytes."""

from collections.abc import Sequence

import pytest

from nixmill.nix import log_events, operations, wire, worker_protocol
from nixmill.nix.log_events import LogEvent
from nixmill.nix.store_path import StorePath
from nixmill.nix.wire import ProtocolError, Reader, parse
from nixmill.nix.worker_protocol import DaemonFacts, RemoteError, UnsupportedError

LAST = wire.u64(0x616C7473)
SERVER = wire.u64(0x6478696F)
PATH = StorePath(f"/nix/store/{'a' * 32}-x")


def shake_hands(answer: bytes, newest_minor: int = 38) -> tuple[DaemonFacts, bytes]:
    sent: list[bytes] = []
    reader = Reader(answer)
    facts = parse(worker_protocol.handshake(reader, sent.append, newest_minor), reader)
    return facts, b"".join(sent)


def listen_to(data: bytes) -> Sequence[LogEvent]:
    heard: list[LogEvent] = []
    reader = Reader(data)
    parse(worker_protocol.messages(reader, heard.append), reader)
    return heard


def test_a_daemon_of_nix_2_34_tells_version_and_trust() -> None:
    answer = SERVER + wire.u64(0x126) + wire.strings([]) + wire.string("2.34.8") + wire.u64(1) + LAST

    facts, sent = shake_hands(answer)

    assert facts == DaemonFacts(minor=38, nix_version="2.34.8", trusted=True)
    assert sent == wire.u64(0x6E697863) + wire.u64(0x126) + wire.strings([]) + wire.u64(0) * 2


def test_features_we_do_not_offer_are_not_in_use() -> None:
    offered = ["realisation-with-path-not-hash", "delete-dead-specific-referrers"]
    answer = SERVER + wire.u64(0x126) + wire.strings(offered) + wire.string("2.35.0") + wire.u64(2) + LAST

    facts, _ = shake_hands(answer)

    assert facts == DaemonFacts(minor=38, nix_version="2.35.0", trusted=False)


def test_a_daemon_of_nix_2_8_says_nothing_of_trust() -> None:
    facts, sent = shake_hands(SERVER + wire.u64(0x122) + wire.string("2.8.0") + LAST)

    assert facts == DaemonFacts(minor=34, nix_version="2.8.0", trusted=None)
    assert sent == wire.u64(0x6E697863) + wire.u64(0x122) + wire.u64(0) * 2


def test_a_newer_daemon_is_spoken_to_in_our_protocol() -> None:
    facts, _ = shake_hands(SERVER + wire.u64(0x1FF) + wire.strings([]) + wire.string("9") + wire.u64(0) + LAST)

    assert facts.minor == 38


@pytest.mark.parametrize("version", [0x115, 0x200, 0])
def test_a_daemon_that_is_too_old_or_of_another_kind_is_refused(version: int) -> None:
    with pytest.raises(UnsupportedError, match="newer"):
        shake_hands(SERVER + wire.u64(version))


def test_something_else_that_answers_is_no_daemon() -> None:
    with pytest.raises(ProtocolError, match="no Nix daemon"):
        shake_hands(b"SSH-2.0-OpenSSH_9.2\r\n")


def test_an_error_during_the_handshake_is_told() -> None:
    with pytest.raises(RemoteError, match="cannot open the store"):
        shake_hands(SERVER + wire.u64(0x122) + wire.string("2.8.0") + error("cannot open the store"))


def error(message: str, traces: Sequence[str] = ()) -> bytes:
    body = b"".join(wire.u64(0) + wire.string(trace) for trace in traces)
    name = wire.string("Error") + wire.u64(0) + wire.string("Error") + wire.string(message)
    return wire.u64(0x63787470) + name + wire.u64(0) + wire.u64(len(traces)) + body


def test_an_error_loses_its_colours_and_keeps_its_traces() -> None:
    with pytest.raises(RemoteError) as caught:
        listen_to(error("\x1b[31;1mno\x1b[0m such path", ["while building"]))

    assert str(caught.value) == "no such path\n… while building"


def activity(number: int, kind: int, fields: bytes = b"\0" * 8) -> bytes:
    return wire.u64(0x53545254) + wire.u64(number) + wire.u64(3) + wire.u64(kind) + wire.string("t") + fields + bytes(8)


def test_activities_lines_and_messages_become_events() -> None:
    field = wire.u64(1) + wire.u64(1) + wire.string("hello")
    data = (
        activity(5, 105)
        + wire.u64(0x52534C54)
        + wire.u64(5)
        + wire.u64(101)
        + field
        + wire.u64(0x6F6C6D67)
        + wire.string("note")
        + wire.u64(0x53544F50)
        + wire.u64(5)
        + LAST
    )

    assert listen_to(data) == [
        log_events.Started(5, 105, "t", ()),
        log_events.LogLine(5, "hello"),
        log_events.Message("note"),
        log_events.Stopped(5),
    ]


def test_counters_are_dropped() -> None:
    progress = wire.u64(0x52534C54) + wire.u64(5) + wire.u64(105) + wire.u64(4) + (wire.u64(0) * 2) * 4

    assert listen_to(activity(1, 104) + progress + LAST) == []


@pytest.mark.parametrize("kind", [0, 1, 2**64 - 1])
def test_an_unknown_message_is_a_protocol_error(kind: int) -> None:
    with pytest.raises(ProtocolError, match="unknown kind"):
        listen_to(wire.u64(kind))


def test_operations_are_refused_before_they_are_sent_to_a_daemon_that_lacks_them() -> None:
    operation = operations.build_paths_with_results([], DaemonFacts(minor=33, nix_version="2.7.0"), "/nix/store")

    with pytest.raises(UnsupportedError, match=r"Nix 2\.7\.0.*BuildPathsWithResults.*1\.34"):
        operation.check(DaemonFacts(minor=33, nix_version="2.7.0"))


def test_answers_to_requests_written_ahead_come_in_order() -> None:
    asked = [operations.query_valid_paths([PATH]), operations.query_valid_paths([])]
    reader = Reader(LAST + wire.strings([PATH]) + LAST + wire.strings([]))

    assert parse(worker_protocol.conclude_all(asked, reader, worker_protocol.ignore), reader) == [[PATH], []]


def test_a_path_that_is_not_valid_has_no_info() -> None:
    reader = Reader(LAST + wire.u64(0))
    operation = operations.query_path_info(PATH)

    assert parse(worker_protocol.conclude(operation, reader, worker_protocol.ignore), reader) is None


def test_options_send_every_override() -> None:
    request = operations.set_options(operations.Options(max_silent_s=7, overrides={"timeout": "9"})).request

    assert request.endswith(wire.string_map({"timeout": "9"}))
    assert wire.u64(7) in request
