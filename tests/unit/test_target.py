import pytest

from nixmill.core.errors import InputError
from nixmill.core.evaluation import FileTarget, FlakeTarget
from nixmill.core.source import Tree
from nixmill.core.target import (
    ExpressionWord,
    FileWord,
    FlakeWord,
    Word,
    default_words,
    inside,
    locate,
    read_words,
    show_word,
)


def read(
    *words: str, file: str | None = None, expression: str | None = None, attrs: tuple[str, ...] = ()
) -> tuple[Word, ...]:
    return read_words(words, file=file, expression=expression, attrs=attrs)


def tree(subdirectory: str = "") -> Tree:
    return Tree(
        project="p",
        path="/cache/p",
        tree_hash="t",
        commit="c",
        dirty=False,
        checkout="/home/me/p",
        flake_reference="git+file:///home/me/p?rev=c",
        subdirectory=subdirectory,
    )


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ((".",), (FlakeWord(".", ("checks",)),)),
        ((".#packages",), (FlakeWord(".", ("packages",)),)),
        (("#hydraJobs",), (FlakeWord(".", ("hydraJobs",)),)),
        (('./sub#a."b.c"',), (FlakeWord("./sub", ("a", "b.c")),)),
        ((".#a", ".#b"), (FlakeWord(".", ("a",)), FlakeWord(".", ("b",)))),
        (("release.nix",), (FileWord("release.nix", ()),)),
    ],
)
def test_words_mean_what_nix_users_expect(words: tuple[str, ...], meant: tuple[Word, ...]) -> None:
    assert read(*words) == meant


def test_attributes_select_from_files_and_expressions() -> None:
    assert read("release.nix", attrs=("a", "b.c")) == (
        FileWord("release.nix", ("a",)),
        FileWord("release.nix", ("b", "c")),
    )
    assert read(file="x.nix", attrs=("a",)) == (FileWord("x.nix", ("a",)),)
    assert read(expression="{ }") == (ExpressionWord("{ }", ()),)
    assert read() == ()


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: read("github:NixOS/nixpkgs#hello"), "remote flake"),
        (lambda: read(".#a", attrs=("b",)), "-A goes with a file"),
        (lambda: read(file="a", expression="b"), "exclude each other"),
        (lambda: read(".", file="a"), "cannot stand beside"),
        (lambda: read(".#a..b"), "no attribute path"),
        (lambda: default_words(frozenset()), "nothing to evaluate"),
        (lambda: inside("../..", tree("sub")), "outside the checkout"),
        (lambda: inside("/etc/passwd", tree()), "outside the checkout"),
    ],
)
def test_contradictions_get_a_sentence_and_a_remedy(call: object, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        call()  # type: ignore[operator]
    assert caught.value.remedy


def test_a_word_is_found_where_the_person_stands() -> None:
    assert locate(FileWord("ci.nix", ("x",)), tree("sub")) == FileTarget(
        file="/cache/p/sub/ci.nix", tree_path="/cache/p", attr=("x",)
    )
    assert locate(FlakeWord(".", ("checks",)), tree()) == FlakeTarget(
        reference="git+file:///home/me/p?rev=c", attr=("checks",)
    )
    assert locate(FlakeWord("..", ("checks",)), tree("sub")) == FlakeTarget(
        reference="git+file:///home/me/p?rev=c", attr=("checks",)
    )
    assert locate(FlakeWord(".", ("a",)), tree("sub")) == FlakeTarget(
        reference="git+file:///home/me/p?rev=c&dir=sub", attr=("a",)
    )
    assert inside("/home/me/p/x.nix", tree("sub")) == "x.nix"


def test_the_default_is_the_flake_then_release_then_default() -> None:
    assert default_words(frozenset({"flake.nix", "release.nix"})) == (FlakeWord(".", ("checks",)),)
    assert default_words(frozenset({"release.nix", "default.nix"})) == (FileWord("release.nix", ()),)
    assert default_words(frozenset({"default.nix"}), "..") == (FileWord("../default.nix", ()),)


def test_words_are_shown_as_they_would_be_typed() -> None:
    assert [
        show_word(word) for word in (FlakeWord(".", ("a", "b c")), FileWord("r.nix", ("x",)), FileWord("r.nix", ()))
    ] == [
        '.#a."b c"',
        "r.nix -A x",
        "r.nix",
    ]
