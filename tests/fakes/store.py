"""A small world of stores in memory: the doors Store and Builder with scripted outcomes and durations.

Nothing here sleeps unless a script says so, and then through the `sleep` it was given, so that a fake clock works.
`tests/contract/test_store_door.py` holds this and the real daemons to the same behaviour.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field

from nixmill.doors import BuildLimits, BuildObserver, DoorError, Missing
from nixmill.nix.build_result import BuildResult, BuildStatus, Detail
from nixmill.nix.derivation import FEATURES_KEY, Derivation, DerivationOutput
from nixmill.nix.hashes import base32
from nixmill.nix.path_info import PathInfo
from nixmill.nix.store_path import StorePath, derivation_name

STORE_DIR = "/nix/store"


def make_path(name: str, seed: str = "") -> StorePath:
    """Return the path that `name` and `seed` always have."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()[:20]
    return StorePath(f"{STORE_DIR}/{base32(digest)}-{name}")


@dataclass
class Script:
    """What happens when a derivation is built, or a path fetched."""

    status: BuildStatus = BuildStatus.BUILT
    message: str = ""
    detail: Detail | None = None
    seconds: float = 0.0
    """How long the builder runs, through the world's `sleep`."""
    lines: Sequence[str] = ()
    output_bytes: int = 120
    error: DoorError | None = None
    """Raised instead of returning a result."""
    gate: asyncio.Event | None = None
    """The builder runs until this is set: for tests that decide the order themselves."""


@dataclass
class FakeStore:
    """One store. Everything a test may look at is a plain attribute."""

    name: str = "fake"
    contents: dict[StorePath, PathInfo] = field(default_factory=dict)
    """What is valid."""
    known_derivations: dict[StorePath, Derivation] = field(default_factory=dict)
    substitutable: dict[StorePath, Script] = field(default_factory=dict)
    """What a cache has, and how fetching it goes."""
    held: set[StorePath] = field(default_factory=set)
    calls: list[tuple[str, int]] = field(default_factory=list)
    """Each question: its name, and how many paths it was about."""
    failure: DoorError | None = None
    """Raised by every call while it is set: a daemon that is gone."""

    async def valid(self, paths: Collection[StorePath]) -> set[StorePath]:
        self._ask("valid", len(paths))
        return {path for path in paths if path in self.contents}

    async def hold(self, paths: Collection[StorePath]) -> set[StorePath]:
        self._ask("hold", len(paths))
        self.held.update(paths)
        return {path for path in paths if path in self.contents}

    async def missing(self, outputs_of: Collection[StorePath]) -> Missing:
        self._ask("missing", len(outputs_of))
        build: set[StorePath] = set()
        fetch: set[StorePath] = set()
        unknown = {drv_path for drv_path in outputs_of if drv_path not in self.known_derivations}
        todo = [drv_path for drv_path in outputs_of if drv_path in self.known_derivations]
        while todo:
            drv_path = todo.pop()
            lacking = {path for path in self.outputs(drv_path).values() if path not in self.contents}
            if lacking <= self.substitutable.keys():
                fetch |= lacking
            elif drv_path not in build:
                build.add(drv_path)
                todo.extend(self.known_derivations[drv_path].input_drvs)
        return Missing(
            build=frozenset(build),
            fetch=frozenset(fetch),
            unknown=frozenset(unknown),
            download_bytes=0,
            nar_bytes=sum(self.substitutable[path].output_bytes for path in fetch),
        )

    async def derivations(self, drv_paths: Collection[StorePath]) -> dict[StorePath, Derivation]:
        self._ask("derivations", len(drv_paths))
        return {path: self.known_derivations[path] for path in drv_paths if path in self.known_derivations}

    async def full_derivation(self, drv_path: StorePath) -> Derivation | None:
        self._ask("full_derivation", 1)
        return self.known_derivations.get(drv_path)

    async def path_infos(self, paths: Collection[StorePath]) -> dict[StorePath, PathInfo]:
        self._ask("path_infos", len(paths))
        return {path: self.contents[path] for path in paths if path in self.contents}

    def outputs(self, drv_path: StorePath) -> dict[str, StorePath]:
        """Return the output paths of a derivation."""
        return {name: StorePath(o.path) for name, o in self.known_derivations[drv_path].outputs.items()}

    def add(self, path: StorePath, *, nar_size: int = 120, references: Sequence[StorePath] = ()) -> StorePath:
        """Make a path valid."""
        digest = hashlib.sha256(path.encode()).hexdigest()
        self.contents[path] = PathInfo(
            path=path,
            deriver=None,
            nar_hash=f"sha256:{digest}",
            nar_size=nar_size,
            references=tuple(references),
        )
        return path

    def derivation(
        self,
        name: str,
        inputs: Sequence[StorePath] = (),
        *,
        outputs: Sequence[str] = ("out",),
        system: str = "x86_64-linux",
        features: Sequence[str] = (),
        sources: Sequence[StorePath] = (),
        seed: str = "",
    ) -> StorePath:
        """Instantiate a derivation that needs all outputs of `inputs`; return its path."""
        seed = f"{seed}{sorted(inputs)}{system}"
        drv_path = make_path(f"{name}.drv", seed)
        suffixes = {output: "" if output == "out" else f"-{output}" for output in outputs}
        self.known_derivations[drv_path] = Derivation(
            outputs={o: DerivationOutput(make_path(name + suffix, seed)) for o, suffix in suffixes.items()},
            input_drvs={i: tuple(sorted(self.known_derivations[i].outputs)) for i in inputs},
            input_srcs=tuple(sources),
            system=system,
            builder="/bin/sh",
            environment={FEATURES_KEY: " ".join(features)} if features else {},
        )
        return self.add(drv_path, nar_size=500)

    def collect_garbage(self) -> set[StorePath]:
        """Forget all outputs and derivations that nobody holds; return them."""
        dead = self.contents.keys() - self.held
        for path in dead:
            del self.contents[path]
            self.known_derivations.pop(path, None)
        return dead

    def _ask(self, call: str, count: int) -> None:
        self.calls.append((call, count))
        if self.failure is not None:
            raise self.failure


@dataclass
class FakeBuilder:
    """One machine. Builds for `home`; with another `machine`, inputs must be in that store first."""

    home: FakeStore
    machine: FakeStore | None = None
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    scripts: dict[StorePath, list[Script]] = field(default_factory=dict)
    """What happens at the first, second, … attempt; the last one repeats; none means success."""
    attempts: list[StorePath] = field(default_factory=list)
    """Every attempt in the order they began."""
    finished: list[StorePath] = field(default_factory=list)
    cancelled: list[StorePath] = field(default_factory=list)
    fetched: list[StorePath] = field(default_factory=list)
    running: set[StorePath] = field(default_factory=set)
    peak: int = 0
    """Most builders that ran at once."""
    limits: dict[StorePath, BuildLimits] = field(default_factory=dict)

    def script(self, drv_path: StorePath, *attempts: Script) -> None:
        """Say how the attempts at a derivation go."""
        self.scripts[drv_path] = list(attempts)

    async def prepare(self, drv_path: StorePath, inputs: Collection[StorePath]) -> set[StorePath]:
        store = self.machine or self.home
        lacking = set(inputs) - await store.hold(inputs)
        for path in lacking & self.home.contents.keys():
            store.contents[path] = self.home.contents[path]
        for path in lacking & store.substitutable.keys():
            await self._fetch_one(store, path)
        return lacking - store.contents.keys()

    async def build(self, drv_path: StorePath, limits: BuildLimits, observer: BuildObserver) -> BuildResult:
        outputs = self.home.outputs(drv_path)
        self.attempts.append(drv_path)
        self.limits[drv_path] = limits
        if all(path in self.home.contents for path in outputs.values()):
            await self.home.hold(outputs.values())
            return BuildResult(status=BuildStatus.ALREADY_VALID, outputs=outputs)
        self._require_inputs(drv_path)
        script = self._next_script(drv_path)
        self.running.add(drv_path)
        self.peak = max(self.peak, len(self.running))
        try:
            result = await self._run(drv_path, script, limits, observer)
        except asyncio.CancelledError:
            self.cancelled.append(drv_path)
            raise
        finally:
            self.running.discard(drv_path)
        self.finished.append(drv_path)
        return result

    async def fetch(self, paths: Collection[StorePath], observer: BuildObserver) -> dict[StorePath, BuildResult]:
        observer.started()
        self.fetched.extend(paths)
        results = {path: await self._fetch_one(self.home, path) for path in paths}
        await self.home.hold([path for path, result in results.items() if result.good])
        return results

    async def _fetch_one(self, store: FakeStore, path: StorePath) -> BuildResult:
        if path in store.contents:
            return BuildResult(status=BuildStatus.ALREADY_VALID)
        script = store.substitutable.get(path)
        if script is None:
            return BuildResult(status=BuildStatus.NO_SUBSTITUTERS, message=f"no substituter can provide {path}")
        await self.sleep(script.seconds)
        if script.error is not None:
            raise script.error
        if script.status is not BuildStatus.BUILT:
            return BuildResult(status=script.status, message=script.message, detail=script.detail)
        store.add(path, nar_size=script.output_bytes)
        return BuildResult(status=BuildStatus.SUBSTITUTED)

    def _require_inputs(self, drv_path: StorePath) -> None:
        """A scheduler that starts a build before its inputs are there is wrong, so say so loudly."""
        store = self.machine or self.home
        derivation = self.home.known_derivations[drv_path]
        for input_path, names in derivation.input_drvs.items():
            for name in names:
                path = self.home.outputs(input_path)[name]
                assert path in store.contents, f"{drv_path} started before its input {path} was in {store.name}"

    def _next_script(self, drv_path: StorePath) -> Script:
        scripts = self.scripts.get(drv_path)
        if not scripts:
            return Script()
        return scripts.pop(0) if len(scripts) > 1 else scripts[0]

    async def _run(
        self, drv_path: StorePath, script: Script, limits: BuildLimits, observer: BuildObserver
    ) -> BuildResult:
        observer.started()
        for line in script.lines:
            observer.line(line)
        allowed = [s for s in (limits.timeout_s, limits.silence_s) if s]
        await self.sleep(min([script.seconds, *allowed]))
        if script.gate is not None:
            await script.gate.wait()
        if script.error is not None:
            raise script.error
        early = _cut_short(script, limits)
        if early is not None:
            return early
        if script.status is not BuildStatus.BUILT:
            if limits.keep_failed:
                observer.kept(f"/build/{derivation_name(drv_path)}")
            return BuildResult(status=script.status, message=script.message, detail=script.detail)
        return await self._succeed(drv_path, script, limits)

    async def _succeed(self, drv_path: StorePath, script: Script, limits: BuildLimits) -> BuildResult:
        outputs = self.home.outputs(drv_path)
        for path in outputs.values():
            self.home.add(path, nar_size=script.output_bytes)
        await self.home.hold(outputs.values())
        size = script.output_bytes * len(outputs)
        if limits.output_bytes and size > limits.output_bytes:
            message = f"The outputs hold {size} bytes; the limit is {limits.output_bytes}."
            return BuildResult(
                status=BuildStatus.OUTPUT_REJECTED, message=message, outputs=outputs, detail=Detail.OUTPUT_SIZE
            )
        return BuildResult(status=BuildStatus.BUILT, outputs=outputs)


def _cut_short(script: Script, limits: BuildLimits) -> BuildResult | None:
    """Return the result of the limit that ends a builder which prints its lines first and is silent then."""
    if limits.log_bytes and sum(len(line) + 1 for line in script.lines) > limits.log_bytes:
        return BuildResult(status=BuildStatus.LOG_LIMIT_EXCEEDED, message="log limit exceeded")
    if limits.silence_s and script.seconds > limits.silence_s and not 0 < limits.timeout_s <= limits.silence_s:
        return BuildResult(status=BuildStatus.TIMED_OUT, message="silent too long", detail=Detail.SILENCE)
    if limits.timeout_s and script.seconds > limits.timeout_s:
        return BuildResult(status=BuildStatus.TIMED_OUT, message="timed out")
    return None
