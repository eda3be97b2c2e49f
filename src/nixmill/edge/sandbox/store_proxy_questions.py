"""Requests that ask, and those that are answered without asking anybody. Outside the view nothing is valid.

What this file does not know: policy (`core.store_view`).
"""

from collections.abc import Sequence
from typing import Final

from nixmill.edge.sandbox.store_proxy_adds import discreet
from nixmill.edge.sandbox.store_proxy_talk import OverError, Talk
from nixmill.nix import nar, path_info, wire, worker_relay
from nixmill.nix.store_path import StorePath
from nixmill.nix.wire import ProtocolError, string, strings, u64
from nixmill.nix.worker_requests import Opcode, encode

NO: Final = u64(0)
YES: Final = u64(1)


async def is_valid(talk: Talk, text: str) -> bytes:
    """Say whether a path of the view is valid."""
    path = talk.view.find(text)
    if path is None:
        return NO
    await talk.ask(encode(Opcode.IS_VALID_PATH, path))
    if not await talk.number():
        return NO
    await talk.show(path)
    return YES


async def valid_paths(talk: Talk, texts: Sequence[str], _substitute: int) -> bytes:
    """Say which paths of the view are valid; none is fetched, whatever was asked."""
    known = [path for path in map(talk.view.find, texts) if path is not None]
    if not known:
        return strings(())
    await talk.ask(encode(Opcode.QUERY_VALID_PATHS, known, 0))
    valid = set(await talk.daemon.read(talk.daemon.reader.texts()))
    found = [path for path in known if path in valid]
    for path in found:
        await talk.show(path)
    return strings(found)


async def query_path_info(talk: Talk, text: str) -> bytes:
    """Tell what the store knows of a path of the view."""
    path = talk.view.find(text)
    if path is None:
        return NO
    await talk.ask(encode(Opcode.QUERY_PATH_INFO, path))
    if not await talk.number():
        return NO
    info = await talk.daemon.read(path_info.read(talk.daemon.reader, path))
    await talk.show(path)
    return YES + discreet(talk.view, info)[len(string(path)) :]


async def from_hash_part(talk: Talk, part: str) -> bytes:
    """Find a path of the view by its hash."""
    path = talk.view.from_hash_part(part)
    if path is not None:
        await talk.show(path)
    return string(path or "")


def missing(talk: Talk, targets: Sequence[str]) -> bytes:
    """Answer that every derivation of the view must be built, and that nothing else is known."""
    build, unknown = talk.view.split_targets(targets)
    return strings(build) + strings(()) + strings(unknown) + NO + NO


async def output_map(talk: Talk, text: str) -> bytes:
    """Tell the outputs of a derivation of the view."""
    path = talk.view.need(text, "Asking for the outputs of")
    await talk.ask(encode(Opcode.QUERY_DERIVATION_OUTPUT_MAP, path))
    return wire.string_map(await talk.daemon.read(talk.daemon.reader.text_map()))


async def nar_from_path(talk: Talk, text: str) -> None:
    """Pass on the contents of a path of the view; writes the whole answer."""
    path = talk.view.need(text, "Reading")
    await talk.ask(encode(Opcode.NAR_FROM_PATH, path))
    talk.client.write(worker_relay.LAST)
    try:
        await talk.daemon.read(nar.copy(talk.daemon.reader, talk.client.write), talk.client.drain)
    except ProtocolError as error:
        raise OverError(f"Reading {path} failed: {error}") from None


async def temp_root(talk: Talk, text: str) -> bytes:
    """Protect a path of the view; any other needs no protection from this evaluation."""
    path: StorePath | None = talk.view.find(text)
    if path is not None:
        await talk.ask(encode(Opcode.ADD_TEMP_ROOT, path))
        await talk.number()
    return YES


async def ensure(talk: Talk, text: str) -> bytes:
    """See to it that a path of the view is valid."""
    path = talk.view.need(text, "Using")
    await talk.ask(encode(Opcode.ENSURE_PATH, path))
    await talk.number()
    await talk.show(path)
    return YES


def nothing_to_fetch(_talk: Talk, *_arguments: object) -> bytes:
    """Answer that no cache has anything: an empty list, or 0 for a single path. Nothing may be fetched by its name."""
    return NO


def set_nothing(_talk: Talk, *_arguments: object) -> bytes:
    """Take a client's settings, and forget them."""
    return b""
