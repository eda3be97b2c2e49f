"""Asks the store what the plan wants to know, level by level, and tells the plan.

The plan says what to look at next (`Plan.frontier`); this file reads derivations, leases and checks outputs, and asks
once per group what the reachable caches could deliver. Only what is needed is looked at: below a derivation whose
outputs are valid or fetchable nothing is read.
"""

from collections.abc import Collection, Sequence

from nixmill.core.estimate import stem
from nixmill.core.history import PastBuild
from nixmill.core.node import Node, State
from nixmill.core.outcome import Outcome
from nixmill.core.plan import Plan
from nixmill.doors import History, Store
from nixmill.engine.memory import Memory
from nixmill.nix.derivation import Derivation
from nixmill.nix.store_path import StorePath


class Planner:
    """Keeps one plan supplied with facts about one store."""

    def __init__(self, plan: Plan, store: Store, history: History, memory: Memory, *, may_fetch: bool) -> None:
        """Supply `plan`; with `may_fetch` the store's caches are asked too."""
        self._memory = memory
        self._plan = plan
        self._store = store
        self._history = history
        self._may_fetch = may_fetch
        self._fetchable: set[StorePath] = set()
        self._asked: set[StorePath] = set()
        self.derivations: dict[StorePath, Derivation] = {}
        """Those that have to be built, read in full."""
        self.past: dict[StorePath, PastBuild] = {}

    async def expand(self) -> None:
        """Look at everything the plan asks for, until it asks for nothing more."""
        while nodes := self._plan.frontier():
            await self._read([node for node in nodes if node.outputs is None or node.state is State.UNREAD])
            await self._tell([node for node in nodes if node.state is State.UNKNOWN])

    async def _read(self, nodes: Sequence[Node]) -> None:
        """Read derivations that are not known yet; one that is not in the store ends as our own trouble."""
        if not nodes:
            return
        read = await self._store.derivations([node.drv_path for node in nodes])
        past, medians = await self._history.past_builds(list(read), {stem(node.name) for node in nodes})
        self.past.update(past)
        for node in nodes:
            derivation = read.get(node.drv_path)
            if derivation is None:
                self._plan.fail(node.drv_path, Outcome.INFRASTRUCTURE, _gone(node))
            else:
                self.derivations[node.drv_path] = derivation
                self._add(node, derivation, medians.get(stem(node.name)))

    def _add(self, node: Node, derivation: Derivation, about_s: float | None) -> None:
        self._plan.add(
            node.drv_path,
            system=derivation.system,
            features=derivation.required_features,
            inputs=derivation.input_drvs,
            outputs=outputs_of(derivation),
            about_s=about_s,
        )

    async def _tell(self, nodes: Sequence[Node]) -> None:
        """Lease outputs and tell which are valid, and which caches have."""
        known = [node for node in nodes if node.outputs is not None]
        paths = {path for node in known for path in (node.outputs or {}).values() if path is not None}
        valid = await self._store.hold(paths) if paths else set()
        await self._ask_caches([node.drv_path for node in known if not _all_in(node, valid)])
        absent = [node.drv_path for node in known if not _all_in(node, valid | self._fetchable)]
        hopeless = await self._memory.believed(absent)
        for node in known:
            outputs = node.outputs or {}
            self._plan.tell(
                node.drv_path,
                valid=[name for name, path in outputs.items() if path in valid],
                fetchable=[name for name, path in outputs.items() if path in self._fetchable],
                hopeless=hopeless.get(node.drv_path, ""),
            )

    async def _ask_caches(self, drv_paths: Collection[StorePath]) -> None:
        """Ask once for each derivation; the answer covers everything below it too. A hint, never a verdict."""
        wanted = [path for path in drv_paths if path not in self._asked]
        if not wanted or not self._may_fetch:
            return
        missing = await self._store.missing(wanted)
        self._fetchable |= missing.fetch
        self._asked |= missing.build
        self._asked.update(wanted)

    async def download(self) -> tuple[int, int]:
        """Return the bytes to download and unpacked, for everything that is still to be realised."""
        open_nodes = [n.drv_path for n in self._plan.nodes if n.attributes and n.state is not State.DONE]
        if not open_nodes or not self._may_fetch:
            return 0, 0
        missing = await self._store.missing(open_nodes)
        return missing.download_bytes, missing.nar_bytes


def outputs_of(derivation: Derivation) -> dict[str, StorePath | None]:
    """Return the outputs of a derivation; None where only a build can tell the path."""
    return {name: StorePath(out.path) if out.path else None for name, out in derivation.outputs.items()}


def _all_in(node: Node, valid: set[StorePath]) -> bool:
    return all(path in valid for path in (node.outputs or {}).values())


def _gone(node: Node) -> str:
    return f"{node.drv_path} is not in the store, though it was evaluated or is needed. Evaluate again: nixmill run"
