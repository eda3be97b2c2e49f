"""Why a derivation changed; `tests/nix/test_why_changed_of_nix.py` asks it of derivations that Nix made."""

from collections.abc import Mapping
from typing import Any

import pytest

from nixmill.core.why_changed import Difference, Explainer, Explanation, Kind, text_diff, together
from nixmill.nix.attr_path import AttrPath
from nixmill.nix.derivation import Derivation, DerivationOutput
from nixmill.nix.store_path import StorePath

ALPHABET = "0123456789abcdfghijklmnpqrsvwxyz"


def path(name: str, state: int = 0) -> StorePath:
    return StorePath(f"/nix/store/{ALPHABET[state] * 32}-{name}")


def drv(name: str, state: int = 0) -> StorePath:
    return path(f"{name}.drv", state)


def made(*inputs: StorePath, sources: tuple[StorePath, ...] = (), **more: Any) -> Derivation:  # noqa: ANN401 (any fields)
    return Derivation(
        outputs=more.pop("outputs", {"out": DerivationOutput("/nix/store/x")}),
        input_drvs=dict.fromkeys(inputs, ("out",)),
        input_srcs=sources,
        environment=more.pop("environment", {}),
        **more,
    )


def explain(store: Mapping[StorePath, Derivation], old: StorePath, new: StorePath) -> Explanation:
    """Answer what is asked from `store`; nothing may be asked twice."""
    asking = Explainer().explain(old, new)
    asked: set[StorePath] = set()
    answer: Mapping[StorePath, Derivation] | None = None
    while True:
        try:
            wanted = next(asking) if answer is None else asking.send(answer)
        except StopIteration as end:
            explanation: Explanation = end.value
            return explanation
        assert not wanted & asked
        asked |= wanted
        answer = {one: store[one] for one in wanted if one in store}


def sentences(old: Derivation, new: Derivation) -> list[str]:
    store = {drv("top", 0): old, drv("top", 1): new}
    return [root.difference.sentence for root in explain(store, *store).roots]


def test_the_way_leads_down_to_the_source_that_changed() -> None:
    store = {
        drv("top", 0): made(drv("lib", 0)),
        drv("top", 1): made(drv("lib", 1)),
        drv("lib", 0): made(drv("same"), sources=(path("hello.c", 0),)),
        drv("lib", 1): made(drv("same"), sources=(path("hello.c", 1),)),
    }
    explanation = explain(store, drv("top", 0), drv("top", 1))
    (root,) = explanation.roots
    assert root.difference.sentence == "source hello.c of lib changed"
    assert (root.difference.before, root.difference.after) == (path("hello.c", 0), path("hello.c", 1))
    assert root.way == ("top", "lib")
    assert explanation.complete


def test_a_changed_variable_shows_a_short_text_diff() -> None:
    old = made(environment={"script": "one\ntwo\nthree", "out": "/nix/store/a"})
    new = made(environment={"script": "one\n2\nthree", "out": "/nix/store/b"})
    store = {drv("top", 0): old, drv("top", 1): new}
    (root,) = explain(store, *store).roots
    assert root.difference.sentence == "script of top changed"
    assert root.difference.text == " one\n-two\n+2\n three"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (made(builder="/bin/sh"), made(builder="/bin/bash"), ["builder of top changed"]),
        (made(args=("-c", "a")), made(args=("-c", "b")), ["arguments of top's builder changed"]),
        (made(system="a-linux"), made(system="b-linux"), ["system of top changed from a-linux to b-linux"]),
        (made(), made(drv("zlib")), ["top needs zlib, which is new"]),
        (made(drv("zlib")), made(), ["top no longer needs zlib"]),
        (made(), made(sources=(path("fix.patch"),)), ["source fix.patch of top changed"]),
        (
            made(environment={"__json": '{"a": 1, "b": [1]}'}),
            made(environment={"__json": '{"a": 1, "b": [2]}'}),
            ["b of top changed"],
        ),
        (made(environment={"__json": "{"}), made(environment={"__json": "["}), ["__json of top changed"]),
    ],
)
def test_what_a_derivation_has_of_its_own(old: Derivation, new: Derivation, expected: list[str]) -> None:
    assert sentences(old, new) == expected


def test_other_outputs_of_the_same_input() -> None:
    old, new = made(drv("zlib")), made()
    new.input_drvs[drv("zlib")] = ("dev", "out")
    assert sentences(old, new) == ["top needs other outputs of zlib"]


def test_store_paths_in_variables_are_explained_by_inputs() -> None:
    old = made(
        drv("lib", 0), environment={"inputs": f"{path('lib', 2)} {path('b', 2)}", "s": f"{path('lib', 2)}/bin/x"}
    )
    new = made(
        drv("lib", 1), environment={"inputs": f"{path('b', 2)} {path('lib', 3)}", "s": f"{path('lib', 3)}/bin/x"}
    )
    store = {
        drv("top", 0): old,
        drv("top", 1): new,
        drv("lib", 0): made(builder="a"),
        drv("lib", 1): made(builder="b"),
    }
    explanation = explain(store, drv("top", 0), drv("top", 1))
    assert [root.difference.sentence for root in explanation.roots] == ["builder of lib changed"]


def test_inputs_of_another_version_are_taken_for_the_same_thing() -> None:
    store = {
        drv("top", 0): made(drv("lib-1.0", 0)),
        drv("top", 1): made(drv("lib-1.1", 1)),
        drv("lib-1.0", 0): made(environment={"name": "lib-1.0", "version": "1.0"}),
        drv("lib-1.1", 1): made(environment={"name": "lib-1.1", "version": "1.1"}),
    }
    (root,) = explain(store, drv("top", 0), drv("top", 1)).roots
    assert root.difference.sentence == "version of lib-1.1 changed"


def test_a_name_alone_can_be_what_changed() -> None:
    store = {drv("lib-a", 0): made(environment={"name": "a"}), drv("lib-b", 1): made(environment={"name": "b"})}
    (root,) = explain(store, *store).roots
    assert root.difference.sentence == "lib-a became lib-b"


def fixed(digest: str, url: str) -> Derivation:
    return made(outputs={"out": DerivationOutput("/nix/store/x", "sha256", digest)}, environment={"url": url})


def test_of_a_download_only_the_hash_counts() -> None:
    assert sentences(fixed("aa", "u"), fixed("bb", "u")) == ["content of top changed"]
    assert sentences(fixed("aa", "u"), fixed("aa", "v")) == ["top is fetched in another way, with the same content"]


def test_what_the_store_no_longer_has_is_said() -> None:
    explanation = explain({}, drv("top", 0), drv("top", 1))
    expected = "top changed, but the store no longer has both states of it"
    assert [root.difference.sentence for root in explanation.roots] == [expected]


def test_the_same_derivation_has_nothing_to_explain() -> None:
    assert explain({}, drv("top"), drv("top")) == Explanation(roots=(), complete=True)


def test_a_diamond_is_told_once_and_a_long_chain_works() -> None:
    length = 3000
    store = {}
    for state in (0, 1):
        for at in range(1, length):
            store[drv(f"d-{at}x", state)] = made(drv(f"d-{at - 1}x", state), drv(f"d-{max(0, at - 2)}x", state))
        store[drv("d-0x", state)] = made(builder=str(state))
    explanation = explain(store, drv(f"d-{length - 1}x", 0), drv(f"d-{length - 1}x", 1))
    (root,) = explanation.roots
    assert root.difference.kind is Kind.BUILDER
    assert root.way[0] == f"d-{length - 1}x"
    assert root.way[-1] == "d-0x"


def test_attributes_are_grouped_under_what_they_share() -> None:
    store = {drv("hello", state): made(sources=(path("src", state),)) for state in (0, 1)}
    for name in "ab":
        store |= {drv(name, state): made(drv("hello", state)) for state in (0, 1)}
    store |= {drv("c", state): made(builder=str(state)) for state in (0, 1)}
    explanations: dict[AttrPath, Explanation] = {(name,): explain(store, drv(name, 0), drv(name, 1)) for name in "abc"}
    grouped = [(difference.sentence, paths) for difference, paths in together(explanations)]
    assert grouped == [("source src of hello changed", (("a",), ("b",))), ("builder of c changed", (("c",),))]


def test_a_long_diff_is_cut_where_it_says_so() -> None:
    text = text_diff("\n".join(str(at) for at in range(30)), "x" * 500)
    lines = text.splitlines()
    assert len(lines) == 13
    assert lines[-1] == "… 19 more lines"
    assert all(len(line) <= 160 for line in lines)


def test_every_kind_has_its_sentence() -> None:
    for kind in Kind:
        assert "  " not in Difference(kind=kind, name="x", subject="y", before="a", after="b").sentence
