"""One client of the store proxy: each request is parsed, judged, and answered by us or by the client's own daemon.

What this file does not know: how connections begin (`store_proxy`), what requests mean (`store_proxy_questions`,
`store_proxy_adds`, `store_proxy_builds`), and policy (`core.store_view`).
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from nixmill.core.store_view import RefusedError
from nixmill.edge.sandbox import store_proxy_adds as adds
from nixmill.edge.sandbox import store_proxy_builds as builds
from nixmill.edge.sandbox import store_proxy_questions as questions
from nixmill.edge.sandbox.store_proxy_frames import Frames
from nixmill.edge.sandbox.store_proxy_talk import DaemonError, OverError, Talk
from nixmill.nix import worker_relay, worker_requests
from nixmill.nix.wire import ProtocolError
from nixmill.nix.worker_requests import FRAMED, Opcode, Request


class Session:
    """A conversation after both handshakes. Answers come in the order of requests, one at a time."""

    def __init__(self, talk: Talk) -> None:
        """Serve the client of `talk`."""
        self._talk = talk

    async def run(self) -> None:
        """Answer requests until the conversation cannot go on; raise `EndOfStreamError` when a side goes away."""
        client = self._talk.client
        try:
            while True:
                await self._respond(await client.read(worker_requests.read(client.reader)))
                await client.drain()
        except OverError as over:
            self._refuse(str(over))
        except ProtocolError as error:
            self._refuse(f"The request was refused, and the connection ends: {error}")
        await client.farewell()

    async def _respond(self, request: Request) -> None:
        frames = Frames(self._talk.client, self._talk.view, present=request.opcode in FRAMED)
        try:
            answer = await self._answer(request.opcode, request.values, frames)
        except RefusedError as refusal:
            await frames.drop()
            self._refuse(str(refusal), refusal.path)
        except DaemonError as error:
            await frames.drop()
            self._talk.client.write(error.message)
        else:
            if answer is not None:
                self._talk.client.write(worker_relay.LAST + answer)

    def _refuse(self, sentence: str, path: str = "") -> None:
        self._talk.estate.note(sentence, path)
        self._talk.client.write(worker_relay.error(sentence))

    async def _answer(self, opcode: Opcode, values: Sequence[Any], frames: Frames) -> bytes | None:
        """Return the answer, or None where it has been written."""
        if opcode in _ADDS:
            return await _ADDS[opcode](self._talk, frames, *values)
        if opcode in _QUESTIONS:
            return await _QUESTIONS[opcode](self._talk, *values)
        if opcode in _LOCAL:
            return _LOCAL[opcode](self._talk, *values)
        raise RefusedError(
            f"The operation {opcode.name} was refused: the evaluation of a change that is not trusted may not ask the "
            "Nix daemon for it."
        )


_ADDS: Final[Mapping[Opcode, Callable[..., Awaitable[bytes]]]] = {
    Opcode.ADD_TO_STORE: adds.add,
    Opcode.ADD_TO_STORE_NAR: adds.add_nar,
    Opcode.ADD_MULTIPLE_TO_STORE: adds.add_multiple,
}
_QUESTIONS: Final[Mapping[Opcode, Callable[..., Awaitable[bytes | None]]]] = {
    Opcode.ADD_TEXT_TO_STORE: adds.add_text,
    Opcode.ADD_TEMP_ROOT: questions.temp_root,
    Opcode.BUILD_PATHS: builds.build_paths,
    Opcode.BUILD_PATHS_WITH_RESULTS: builds.build_paths_with_results,
    Opcode.ENSURE_PATH: questions.ensure,
    Opcode.IS_VALID_PATH: questions.is_valid,
    Opcode.NAR_FROM_PATH: questions.nar_from_path,
    Opcode.QUERY_DERIVATION_OUTPUT_MAP: questions.output_map,
    Opcode.QUERY_PATH_FROM_HASH_PART: questions.from_hash_part,
    Opcode.QUERY_PATH_INFO: questions.query_path_info,
    Opcode.QUERY_VALID_PATHS: questions.valid_paths,
}
_LOCAL: Final[Mapping[Opcode, Callable[..., bytes]]] = {
    Opcode.QUERY_MISSING: questions.missing,
    Opcode.QUERY_SUBSTITUTABLE_PATHS: questions.nothing_to_fetch,
    Opcode.QUERY_SUBSTITUTABLE_PATH_INFO: questions.nothing_to_fetch,
    Opcode.QUERY_SUBSTITUTABLE_PATH_INFOS: questions.nothing_to_fetch,
    Opcode.SET_OPTIONS: questions.set_nothing,
}
"""What is answered without asking the daemon."""
