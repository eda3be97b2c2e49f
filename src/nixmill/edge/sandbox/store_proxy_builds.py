"""Builds during evaluation (import-from-derivation), where the configuration allows them.

What this file does not know: policy (`core.store_view`).
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from nixmill.core.store_view import RefusedError
from nixmill.edge.sandbox.store_proxy_questions import YES
from nixmill.edge.sandbox.store_proxy_talk import Talk
from nixmill.nix import path_info, wire, worker_relay
from nixmill.nix.derived_path import DerivedPath
from nixmill.nix.store_path import StorePath
from nixmill.nix.worker_requests import Opcode, encode

CLOSURE_PATHS_MAX: Final = 100_000
"""How many paths one result may bring into view."""

_NORMAL_MODE: Final = 0
_RESULT_SHAPE: Final = "usuuuu"
_CPU_SHAPE: Final = "oo"
_CPU_SINCE: Final = 37


async def build_paths(talk: Talk, texts: Sequence[str], mode: int) -> bytes:
    """Build what the view allows; an error ends the request."""
    targets = _targets(talk, texts, mode)
    await talk.ask_at_length(encode(Opcode.BUILD_PATHS, [target.to_wire() for target in targets], _NORMAL_MODE))
    await talk.number()
    await _reveal(talk, targets)
    return YES


async def build_paths_with_results(talk: Talk, texts: Sequence[str], mode: int) -> bytes:
    """Build what the view allows; each target has a result of its own."""
    targets = _targets(talk, texts, mode)
    await talk.ask_at_length(encode(Opcode.BUILD_PATHS_WITH_RESULTS, [t.to_wire() for t in targets], _NORMAL_MODE))
    count = await talk.number()
    shape = "s" + _RESULT_SHAPE + (_CPU_SHAPE if talk.minor >= _CPU_SINCE else "") + "m"
    results = [await talk.daemon.read(worker_relay.copy(talk.daemon.reader, shape)) for _ in range(count)]
    await _reveal(talk, targets)
    return wire.u64(count) + b"".join(results)


def _targets(talk: Talk, texts: Sequence[str], mode: int) -> list[DerivedPath]:
    if mode != _NORMAL_MODE:
        raise RefusedError("Building was refused: an evaluation may neither repair paths nor build them again.")
    return talk.view.buildable(texts)


async def _reveal(talk: Talk, targets: Iterable[DerivedPath]) -> None:
    """Bring the valid outputs of what was built into view, with everything they refer to."""
    for target in targets:
        if target.outputs is not None:
            await talk.ask(encode(Opcode.QUERY_DERIVATION_OUTPUT_MAP, target.path))
            outputs = await talk.daemon.read(talk.daemon.reader.text_map())
            await _reveal_closure(talk, [StorePath(path) for path in outputs.values() if path])


async def _reveal_closure(talk: Talk, outputs: Sequence[StorePath]) -> None:
    queue, seen = deque(outputs), set(outputs)
    while queue:
        path = queue.popleft()
        await talk.ask(encode(Opcode.QUERY_PATH_INFO, path))
        if not await talk.number():
            continue  # another output, or its build failed
        info = await talk.daemon.read(path_info.read(talk.daemon.reader, path))
        talk.view.reveal(path)
        await talk.show(path)
        queue.extend(new := [reference for reference in info.references if reference not in seen])
        seen.update(new)
        if len(seen) > CLOSURE_PATHS_MAX:
            raise RefusedError(f"The build's result was refused: it refers to more than {CLOSURE_PATHS_MAX} paths.")
