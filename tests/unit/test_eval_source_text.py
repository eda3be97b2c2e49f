"""What is written into a worker, and where targets belong."""

import re

import pytest

from nixmill.core.evaluation import EvaluationSettings, ExpressionTarget, FileTarget, FlakeTarget, Target
from nixmill.edge.evaluator import complaints, source_text
from nixmill.edge.evaluator.launch import Launch, parse_version
from nixmill.edge.evaluator.segments import Frontier
from nixmill.edge.evaluator.worker import ALPHABET, command_bits

FLAKE = FlakeTarget(reference="git+file:///x?rev=1", attr=("checks", "a${b}"))
FILE = FileTarget(file='/t/a "b".nix', tree_path="/t")
EXPRESSION = ExpressionTarget(text="{ } # end", tree_path="/u")


def test_targets_are_grouped_by_what_a_process_may_read() -> None:
    other = FileTarget(file="/u/x.nix", tree_path="/u")

    found = source_text.groups([FILE, FLAKE, other, FLAKE, EXPRESSION])

    assert [(group.tree_path, group.targets) for group in found] == [
        ("/t", (FILE,)),
        ("", (FLAKE, FLAKE)),
        ("/u", (other, EXPRESSION)),
    ]


def test_names_and_references_are_quoted() -> None:
    text = source_text.repl_lines("T", [FLAKE, FILE, EXPRESSION], EvaluationSettings(systems=("x86_64-linux",)))

    assert 'builtins.getFlake "git+file:///x?rev=1"' in text
    assert 'attr = [ "checks" "a\\${b}" ]' in text
    assert 'import "/t/a \\"b\\".nix"' in text
    assert "({ } # end\n)" in text
    assert 'systems = [ "x86_64-linux" ]' in text


def test_the_walker_has_no_comments_and_short_lines() -> None:
    text = source_text.walker_text()

    assert not re.search(r"(^|\s)#", text)
    assert max(map(len, text.split("\n"))) < 1000
    assert len(text.split("\n")) < 30


@pytest.mark.parametrize(
    ("attr", "kind"),
    [
        ((), "outputs"),
        (("checks",), "systems"),
        (("checks", "x86_64-linux"), "open"),
        (("hydraJobs",), "jobs"),
        (("hydraJobs", "a"), "jobs"),
        (("lib",), "open"),
    ],
)
def test_the_kind_of_a_flake_target(attr: tuple[str, ...], kind: str) -> None:
    assert source_text.kind(FlakeTarget(reference="x", attr=attr)) == kind
    assert source_text.kind(FILE) == "open"


def decode(bits: list[int]) -> str:
    """As `pure.nix` does it."""

    def number(at: int, width: int) -> int:
        return sum(1 << (width - 1 - i) for i in range(width) if at + i in bits)

    return "".join(ALPHABET[number(16 + 4 * i, 4)] for i in range(number(0, 16)))


def test_a_command_survives_being_laid_out_as_bits() -> None:
    batch = Frontier((("a",),) * 12).take(99, 1)
    assert batch is not None
    for command in ("[]", "[[[0,1],23,4567890]]", str(batch.command()).replace("(", "[").replace(")", "]")):
        assert decode(command_bits(command)) == command


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("nix (Nix) 2.8.0\n", (2, 8, 0)),
        ("nix (Nix) 2.35.0pre20260101_abc", (2, 35, 0)),
        ("nix (Determinate Nix 3.1) 2.30.1", (2, 30, 1)),
        ("nonsense", ()),
    ],
)
def test_versions_are_read(text: str, version: tuple[int, ...]) -> None:
    assert parse_version(text) == version


def test_processes_may_do_nothing_that_was_not_asked_for() -> None:
    environment = {"PATH": "/bin", "NIX_PATH": "nixpkgs=/x", "XDG_DATA_HOME": "/home/data", "GC_INITIAL_HEAP_SIZE": "1"}
    launch = Launch(program="nix", environment=environment, version=(2, 8, 0))

    flake, file = launch.repl(EvaluationSettings(), ""), launch.repl(EvaluationSettings(), "/tree")

    def option(argv: list[str], name: str) -> str:
        return argv[argv.index(name) + 1]

    for argv in (flake, file, launch.check(EvaluationSettings(), "/f")):
        assert option(argv, "accept-flake-config") == "false"
        assert option(argv, "allow-import-from-derivation") == "false"
        assert option(argv, "substituters") == ""
    assert (option(flake, "pure-eval"), option(flake, "restrict-eval")) == ("true", "false")
    assert (option(file, "pure-eval"), option(file, "restrict-eval")) == ("false", "true")
    assert option(file, "-I") == "nixmill-tree=/tree"
    assert "-I" not in flake
    environ = launch.environ("/private")
    assert (environ["NIX_PATH"], environ["XDG_DATA_HOME"]) == ("", "/private/data")
    assert environ["GC_INITIAL_HEAP_SIZE"] == "1"


@pytest.mark.parametrize(
    ("target", "text", "sentence"),
    [
        (
            FLAKE,
            "error: source tree referenced by 'x' does not contain a '/flake.nix' file",
            "There is no flake.nix in",
        ),
        (FLAKE, "error: path '/x/flake.nix' does not exist", "There is no flake.nix in"),
        (FLAKE, "error: cannot update unlocked flake input 'o' in pure mode", "Run `nix flake lock`"),
        (FLAKE, "error: input 'o' is unlocked", "cannot be evaluated: input 'o' is unlocked"),
        (
            FILE,
            "error: syntax error, x\n\n       at /t/a.nix:3:4:\n",
            "cannot be evaluated: syntax error, x (at a.nix:3:4)",
        ),
        (EXPRESSION, "error: undefined variable 'x'", "The expression cannot be evaluated: undefined variable 'x'"),
    ],
)
def test_failures_are_sentences_that_keep_nix_own_text(target: Target, text: str, sentence: str) -> None:
    failure = complaints.failed(target, text)

    assert sentence in str(failure)
    assert failure.detail == text


def test_an_unknown_attribute_suggests_the_nearest() -> None:
    target = FlakeTarget(reference="f", attr=("checks", "x86_64-linux", "helo"))

    assert "Did you mean checks.x86_64-linux.hello?" in str(complaints.unknown(target, 2, ["hello", "zebra"]))
    assert "There are: a, b" in str(complaints.unknown(target, 2, ["a", "b"]))
    assert "and 8 more" in str(complaints.unknown(target, 2, [f"q{i}" for i in range(20)]))
    assert "nothing in it" in str(complaints.unknown(target, 0, []))
