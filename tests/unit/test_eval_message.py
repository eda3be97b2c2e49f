"""Nix's errors taken apart, in the layout of Nix 2.8 and in that of 2.19 and later. The texts are Nix's own."""

from nixmill.core.evaluation import EvalFault
from nixmill.edge.evaluator import faults
from nixmill.nix import eval_message

OLD = (
    "\x1b[31;1merror:\x1b[0m one\n       two\n\n"
    "       \x1b[34;1mat \x1b[35;1m/src/pkgs/a.nix:2:13\x1b[0m:\n\n"
    "            1| {\n            2|   a = b;\n             |       \x1b[31;1m^\x1b[0m\n\n"
    "       … while evaluating the attribute 'a'\n\n       at /src/default.nix:1:1:\n\n            1| x\n"
    "             | ^"
)
OLD_WITHOUT_PLACE = (
    "error (ignored): error: hm\n\n       … while foo\n\n"
    "       … while checking the Hydra jobset 'hydraJobs.1'\n\n"
    "       at /nix/store/4d93wjbyzwziijjac7izcwkakp5rsk00-source/nixmill-pure.nix:2:154:\n\n            1| x"
)
NEW = (
    "\x1b[31;1merror:\x1b[0m\n"
    "       … while calling the 'foldl'' builtin\n         at «string»:1:1:\n            1| x\n"
    "             | ^\n\n       … while calling the 'throw' builtin\n"
    '         at /here/t/default.nix:1:52:\n            1| { a = throw "x"; }\n             |       ^\n\n'
    "       (stack trace truncated; use '--show-trace' to show the full, detailed trace)\n\n"
    "       error: hm\n       ho"
)
NEW_WITH_PLACE = (
    "error:\n       … while evaluating the attribute 'a'\n         at /src/a.nix:1:3:\n            1| x\n\n"
    "       error: attribute 'b' missing\n       at /src/b.nix:7:1:\n            7| { }.b\n             | ^\n"
    "       Did you mean c?"
)


def test_the_old_layout() -> None:
    parsed = eval_message.parse(OLD)

    assert parsed.message == "one\ntwo"
    assert [(f.text, f.position) for f in parsed.frames] == [
        ("", "/src/pkgs/a.nix:2:13"),
        ("while evaluating the attribute 'a'", "/src/default.nix:1:1"),
    ]
    assert "\x1b" not in parsed.frames[0].block


def test_the_old_layout_without_a_place_of_its_own() -> None:
    parsed = eval_message.parse(OLD_WITHOUT_PLACE)

    assert parsed.message == "hm"
    assert [f.text for f in parsed.frames] == ["while foo", "while checking the Hydra jobset 'hydraJobs.1'"]
    assert faults.position(parsed, "") == ""


def test_the_new_layout_puts_the_innermost_frame_first() -> None:
    parsed = eval_message.parse(NEW)

    assert parsed.message == "hm\nho"
    assert [f.text for f in parsed.frames] == [
        "while calling the 'throw' builtin",
        "while calling the 'foldl'' builtin",
    ]
    assert faults.position(parsed, "/here/t/") == "default.nix:1:52"
    assert faults.classify(parsed) is EvalFault.THROW


def test_the_new_layout_with_a_place_of_its_own() -> None:
    parsed = eval_message.parse(NEW_WITH_PLACE)

    assert parsed.message == "attribute 'b' missing"
    assert faults.position(parsed, "/src") == "b.nix:7:1"
    assert faults.classify(parsed) is EvalFault.MISSING_ATTRIBUTE


def test_text_in_no_known_layout_is_the_message() -> None:
    assert eval_message.parse("").message == ""
    assert eval_message.parse("error:").message == ""
    assert eval_message.parse("something else\nentirely").message == "something else\nentirely"
    assert eval_message.parse("error: a\n\n       b\n       error: c").message == "a\n\nb\nerror: c"


def test_terminal_sequences_and_control_characters_go_and_text_stays() -> None:
    hostile = "a\x1b[31mb\x1b]0;title\x07c\x1b]8;;http://x\x1b\\d\te\nf\x00g\x7fh\x08"

    assert eval_message.strip_ansi(hostile) == "abcd\te\nfgh"
    assert eval_message.strip_ansi("é → 𝄞") == "é → 𝄞"


def test_a_throw_that_quotes_another_fault_is_still_a_throw() -> None:
    text = NEW.replace("hm\n       ho", "it says: attribute 'x' missing")

    assert faults.classify(eval_message.parse(text)) is EvalFault.THROW
    assert faults.classify(eval_message.parse("error: it says: attribute 'x' missing")) is EvalFault.THROW


def test_positions_are_relative_to_where_the_source_lies() -> None:
    store = "/nix/store/4d93wjbyzwziijjac7izcwkakp5rsk00-source"
    assert faults.relative(f"{store}/a/b.nix:1:2", "") == "a/b.nix:1:2"
    assert faults.relative("«git+file:///x?rev=1»/b.nix:1:2", "") == "b.nix:1:2"
    assert faults.relative("/x/y/b.nix:1:2", "/x/y") == "b.nix:1:2"
    assert faults.relative("/x/yz/b.nix:1:2", "/x/y") == "/x/yz/b.nix:1:2"
    assert faults.relative("«string»:1:2", "/x") == ""
    assert faults.relative(f"{store}/nixmill-walker.nix:1:2", "") == ""


def test_an_endless_trace_is_cut_with_a_visible_gap() -> None:
    error = faults.error("error: " + "x" * 200_000, ("a",))

    assert len(error.message) < 70_000
    assert "200000 characters" in error.message
