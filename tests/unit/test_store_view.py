"""What the evaluation of a stranger's change may know of a store, and what it may add."""

import json

import pytest

from nixmill.core.store_view import RefusedError, StoreView
from nixmill.nix import derivation
from nixmill.nix.derivation import Derivation, DerivationOutput
from nixmill.nix.store_path import StorePath

STORE = "/nix/store"
GIVEN = StorePath(f"{STORE}/{'0' * 32}-given")
GIVEN_DRV = StorePath(f"{STORE}/{'3' * 32}-given.drv")
FOREIGN = StorePath(f"{STORE}/{'1' * 32}-foreign")
OUT = f"{STORE}/{'2' * 32}-x"


def view(*, allow_builds: bool = False, bytes_max: int = 1 << 30, paths_max: int = 1000) -> StoreView:
    return StoreView([GIVEN, GIVEN_DRV], allow_builds=allow_builds, bytes_max=bytes_max, paths_max=paths_max)


def text(environment: dict[str, str] | None = None, system: str = "x86_64-linux", **others: object) -> bytes:
    parts: dict[str, object] = {"outputs": {"out": DerivationOutput(OUT)}, "input_drvs": {}, "input_srcs": ()}
    made = Derivation(**(parts | others), system=system, builder="/bin/sh", environment=environment or {})  # type: ignore[arg-type]
    return derivation.unparse(made).encode()


def test_only_what_is_given_or_added_is_known() -> None:
    seen = view()
    assert seen.find(GIVEN) == GIVEN
    assert seen.find(FOREIGN) is None
    assert seen.from_hash_part("0" * 32) == GIVEN
    assert seen.from_hash_part("1" * 32) is None
    seen.added(FOREIGN)
    assert seen.find(FOREIGN) == FOREIGN
    assert seen.from_hash_part("1" * 32) == FOREIGN


@pytest.mark.parametrize(
    "path", ["", "/etc/passwd", f"{GIVEN}/..", f"{STORE}/../x", f"{GIVEN}\n", "\udcff", f"{GIVEN}\0"]
)
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(RefusedError, match="was refused"):
        view().find(path)


def test_a_sentence_holds_no_control_characters_and_no_novel() -> None:
    with pytest.raises(RefusedError) as refusal:
        view().admit("\x1b[31m\n" + "x" * 5000, "text:sha256", ())
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 1000


def test_plain_derivations_pass() -> None:
    content = text({"a": "__b", "q": 'a"\\n'}, input_drvs={GIVEN_DRV: ("out",)}, input_srcs=(GIVEN,))
    view().check_text("x.drv", content, (GIVEN, GIVEN_DRV))
    view().check_text("x", b"Derive([", ())


HARMLESS = {
    "false": {"__noChroot": ""},
    "blank profile": {"__sandboxProfile": " \n"},
    "structured false": {"__json": json.dumps({"__noChroot": False, "__impureHostDeps": [], "__sandboxProfile": None})},
    "nested": {"__json": json.dumps({"env": {"__noChroot": True}})},
    "a word": {"comment": "__noChroot"},
}


@pytest.mark.parametrize("case", HARMLESS)
def test_what_asks_for_nothing_passes(case: str) -> None:
    view().check_text("x.drv", text(HARMLESS[case]), ())


def test_what_nixpkgs_says_of_every_derivation_for_macos_passes_there_only() -> None:
    asks = {"__impureHostDeps": "/dev/zero /bin/sh /usr/lib/libSystem.B.dylib"}
    view().check_text("x.drv", text(asks, "aarch64-darwin"), ())
    with pytest.raises(RefusedError, match="__impureHostDeps"):
        view().check_text("x.drv", text(asks), ())


ESCAPES = {
    "noChroot": {"__noChroot": "1"},
    "noChroot, odd": {"__noChroot": "true"},
    "host": {"__impureHostDeps": "/etc"},
    "profile": {"__sandboxProfile": "(allow default)"},
    "network": {"__darwinAllowLocalNetworking": "1"},
    "structured": {"__json": json.dumps({"__noChroot": True})},
    "structured, escaped": {"__json": '{"\\u005f_noChroot": true}'},
    "structured, twice": {"__json": '{"__noChroot": true, "__noChroot": false}'},
    "beside structured": {"__json": "{}", "__noChroot": "1"},
    "structured host": {"__json": json.dumps({"__impureHostDeps": ["/etc"]})},
}


@pytest.mark.parametrize("case", ESCAPES)
@pytest.mark.parametrize("system", ["x86_64-linux", "aarch64-darwin"])
def test_what_leaves_the_sandbox_is_refused(case: str, system: str) -> None:
    with pytest.raises(RefusedError, match="asks for a build outside the sandbox"):
        view().check_text("x.drv", text(ESCAPES[case], system), ())


@pytest.mark.parametrize("word", ["/usr/lib/../../etc", "/device", "/bin/shadow", "/usr/lib /etc"])
def test_paths_that_only_look_like_those_of_macos_are_refused(word: str) -> None:
    with pytest.raises(RefusedError, match="__impureHostDeps"):
        view().check_text("x.drv", text({"__impureHostDeps": word}, "aarch64-darwin"), ())


MALFORMED = {
    "not one": b"Derive",
    "newer form": b'DrvWithVersion("xp-dyn-drv",[],[],[],"x","x",[],[])',
    "key with needless escapes": text({"xxnoChroot": "1"}).replace(b"xxnoChroot", rb"\_\_noChroot"),
    "key twice": text({"__noChroot": "", "z": ""}).replace(b'("z","")', b'("__noChroot","")'),
    "structured, no JSON": text({"__json": "{"}),
    "structured, no object": text({"__json": "[]"}),
    "structured, deep": text({"__json": "[" * 100_000}),
    "bytes": b"\xff\xfe",
}


@pytest.mark.parametrize("case", MALFORMED)
def test_what_cannot_be_judged_is_refused(case: str) -> None:
    with pytest.raises(RefusedError, match=r"No derivation|outside the sandbox"):
        view().check_text("x.drv", MALFORMED[case], ())


WRONG = {
    "foreign source": (text(input_srcs=(FOREIGN,)), (FOREIGN,), "with the input"),
    "foreign derivation": (text(input_drvs={f"{FOREIGN}.drv": ("out",)}), (), "with the input"),
    "reference too few": (text(input_srcs=(GIVEN,)), (), "not its inputs"),
    "reference too many": (text(), (GIVEN,), "not its inputs"),
    "output elsewhere": (text(outputs={"out": DerivationOutput("/etc/passwd")}), (), "not a path in the store"),
    "output climbs": (text(outputs={"out": DerivationOutput(f"{STORE}/../x")}), (), "malformed"),
    "output's name": (text(outputs={"a/b": DerivationOutput(OUT)}), (), "name of an output"),
    "impure": (text(outputs={"out": DerivationOutput("", "r:sha256", "impure")}), (), "impure"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_reaches_beyond_the_view_is_refused(case: str) -> None:
    content, references, reason = WRONG[case]
    with pytest.raises(RefusedError, match=reason):
        view().check_text("x.drv", content, references)


def test_only_own_derivations_are_built_and_only_where_that_is_allowed() -> None:
    target = f"{FOREIGN}.drv!out"
    with pytest.raises(RefusedError, match=r"import-from-derivation\) is off"):
        view().buildable([target])
    seen = view(allow_builds=True)
    for text_ in (target, f"{GIVEN_DRV}!out"):
        with pytest.raises(RefusedError, match="that this evaluation made"):
            seen.buildable([text_])
    seen.added(StorePath(f"{FOREIGN}.drv"))
    assert [found.to_wire() for found in seen.buildable([target, GIVEN])] == [target, GIVEN]
    for odd in (f"{FOREIGN}.drv!out!out", f"{FOREIGN}.drv!a/b", f"{FOREIGN}.drv!", FOREIGN, "x"):
        with pytest.raises(RefusedError, match="refused"):
            seen.buildable([odd])


def test_bytes_and_paths_are_counted() -> None:
    seen = view(bytes_max=10, paths_max=1)
    seen.spend(10)
    with pytest.raises(RefusedError, match="more than 10 bytes"):
        seen.spend(1)
    seen.admit("x", "text:sha256", ())
    seen.added(FOREIGN)
    with pytest.raises(RefusedError, match="has added 1 paths"):
        seen.admit("y", "text:sha256", ())
