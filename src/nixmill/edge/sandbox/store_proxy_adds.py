"""Requests that add to the store. Texts are held and judged before a daemon hears of them; all else is streamed.

What this file does not know: policy (`core.store_view`).
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from nixmill.core.store_view import RefusedError, StoreView
from nixmill.edge.sandbox.store_proxy_frames import Frames, FrameWriter, pass_all, pass_nar
from nixmill.edge.sandbox.store_proxy_talk import Talk
from nixmill.nix import nar, path_info, worker_requests
from nixmill.nix.content_proof import ContentProof
from nixmill.nix.path_info import PathInfo
from nixmill.nix.store_path import StorePath
from nixmill.nix.wire import ProtocolError, string
from nixmill.nix.worker_requests import PATH_INFO_SHAPE, Opcode, encode

_NOTHING: Final = b""


async def add(talk: Talk, frames: Frames, name: str, method: str, references: Sequence[str], repair: int) -> bytes:
    """Add contents under a name: the daemon computes the path from them."""
    _no_repair(repair)
    request = encode(Opcode.ADD_TO_STORE, name, method, references, 0)
    if talk.view.admit(name, method, references).kind == "text":
        content = await frames.held()
        talk.view.check_text(name, content, references)
        await _deliver(talk, request, content)
    else:
        talk.daemon.write(request)
        await talk.hear_while(pass_all(frames, talk.daemon))
    path = StorePath(await talk.text())
    info = await talk.daemon.read(path_info.read(talk.daemon.reader, path))
    await _added(talk, path)
    return discreet(talk.view, info)


async def add_text(talk: Talk, name: str, content: bytes, references: Sequence[str]) -> bytes:
    """Add a text, as clients did before Nix 2.4 and some still do."""
    talk.view.spend(len(content))
    talk.view.admit(name, "text:sha256", references)
    talk.view.check_text(name, content, references)
    await talk.ask(encode(Opcode.ADD_TEXT_TO_STORE, name, content, references))
    path = StorePath(await talk.text())
    await _added(talk, path)
    return string(path)


async def add_nar(talk: Talk, frames: Frames, *values: Any) -> bytes:  # noqa: ANN401 - as `worker_requests` read them
    """Add one path as its NAR."""
    *info, repair, _unsigned = values
    _no_repair(repair)
    await _add_proved(talk, frames, info)
    await frames.finish()
    return _NOTHING


async def add_multiple(talk: Talk, frames: Frames, repair: int, _unsigned: int) -> bytes:
    """Add several paths as NARs, one request of ours for each: old daemons lose their place otherwise."""
    _no_repair(repair)
    for _ in range(await frames.read(lambda reader: reader.u64())):
        values = await frames.read(lambda reader: worker_requests.values(reader, PATH_INFO_SHAPE))
        await _add_proved(talk, frames, values)
    await frames.finish()
    return _NOTHING


def discreet(view: StoreView, info: PathInfo) -> bytes:
    """Return what may be told of a path: not which derivation of somebody else made it."""
    known = info.deriver is None or view.knows(info.deriver)
    return path_info.write(info if known else msgspec.structs.replace(info, deriver=None))


async def _add_proved(talk: Talk, frames: Frames, values: Sequence[Any]) -> None:
    """Add a path whose NAR must prove it to us: a daemon looks at no NAR of a path that it has.

    Not passed on: deriver, time, signatures, and the claims to be ultimate and in no need of signatures.
    """
    path, _, nar_hash, references, _, size, _, _, address = values
    claimed = talk.view.admit_proved(path, address, references)
    request = encode(Opcode.ADD_TO_STORE_NAR, path, "", nar_hash, references, 0, size, 0, (), address, 0, 0)
    proof = ContentProof(claimed)
    if claimed.method.kind == "text":
        await _add_held(talk, frames, path, request, references, proof)
    else:
        talk.daemon.write(request)
        await talk.hear_while(pass_nar(frames, talk.daemon, proof.feed))
    _believe(path, proof)
    await _added(talk, StorePath(path))


async def _add_held(
    talk: Talk, frames: Frames, path: str, request: bytes, references: Sequence[str], proof: ContentProof
) -> None:
    archive = await frames.held_nar()
    try:
        proof.feed(archive)
        content = nar.regular_file(archive)
    except ProtocolError as error:
        raise RefusedError(f"Adding {path} was refused: {error}") from None
    _believe(path, proof)
    talk.view.check_text(path, content, references)
    await _deliver(talk, request, archive)


def _believe(path: str, proof: ContentProof) -> None:
    if not proof.holds:
        raise RefusedError(f"Adding {path} was refused: what came is not what the path stands for.")


async def _deliver(talk: Talk, request: bytes, content: bytes) -> None:
    """Send a request with data that was held; all of it is bounded, so nothing waits for the daemon to take it."""
    talk.daemon.write(request)
    out = FrameWriter(talk.daemon)
    out.write(content)
    out.end()
    await talk.hear()


async def _added(talk: Talk, path: StorePath) -> None:
    talk.view.added(path)
    await talk.show(path)


def _no_repair(repair: int) -> None:
    if repair:
        raise RefusedError("Repairing a path was refused: an evaluation may add paths, not replace them.")
