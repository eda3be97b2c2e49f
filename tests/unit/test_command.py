"""Commands in comments, and who may give which."""

import pytest

from nixmill.core.command import COMMANDS_MAX, Command, Misunderstood, Verb, commands, may_command
from nixmill.core.trust import Permission


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/nixmill retry", [Command(verb=Verb.RETRY)]),
        ("/nixmill RETRY  ", [Command(verb=Verb.RETRY)]),
        ("thanks!\n/nixmill approve\n", [Command(verb=Verb.APPROVE)]),
        ("/nixmill approve 0123abcd", [Command(verb=Verb.APPROVE, commit="0123abcd")]),
        ("/nixmill build checks.x86_64-linux.a", [Command(verb=Verb.BUILD, attribute="checks.x86_64-linux.a")]),
        ('/nixmill build packages."a b"', [Command(verb=Verb.BUILD, attribute='packages."a b"')]),
        ("/nixmill", [Command(verb=Verb.HELP)]),
        ("/nixmill cancel\r\n/nixmill retry", [Command(verb=Verb.CANCEL), Command(verb=Verb.RETRY)]),
        ("> /nixmill approve", []),
        ("    /nixmill approve", []),
        ("```\n/nixmill approve\n```", []),
        ("I would write /nixmill approve", []),
        ("/nixmillions approve", []),
        ("", []),
    ],
)
def test_only_whole_lines_of_ones_own_are_commands(text: str, expected: list[Command]) -> None:
    assert commands(text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("/nixmill aprove", "Did you mean `/nixmill approve`?"),
        ("/nixmill build", "Which attribute?"),
        ("/nixmill retry everything", "takes nothing more"),
        ("/nixmill approve abc def", "takes nothing more"),
        ("/nixmill \x1b[31m", "That is no command."),
    ],
)
def test_what_is_misunderstood_is_told(text: str, said: str) -> None:
    (found,) = commands(text)
    assert isinstance(found, Misunderstood)
    assert said in found.sentence
    assert "\x1b" not in found.sentence, "what a stranger wrote is not said back"


def test_a_comment_holds_few_commands() -> None:
    assert len(commands("/nixmill retry\n" * 100)) == COMMANDS_MAX


@pytest.mark.parametrize("verb", list(Verb))
def test_who_may_write_may_everything(verb: Verb) -> None:
    assert may_command(verb, Permission.WRITE, is_author=False, held=True) == ""


@pytest.mark.parametrize("permission", [Permission.NONE, Permission.READ])
def test_strangers_may_ask_for_help_and_nothing_else(permission: Permission) -> None:
    may = {verb for verb in Verb if not may_command(verb, permission, is_author=False, held=False)}
    assert may == {Verb.HELP}


def test_authors_try_again_and_stop_their_own_but_never_approve() -> None:
    may = {verb for verb in Verb if not may_command(verb, Permission.READ, is_author=True, held=False)}
    assert may == {Verb.HELP, Verb.RETRY, Verb.CANCEL, Verb.BUILD}
    held = {verb for verb in Verb if not may_command(verb, Permission.READ, is_author=True, held=True)}
    assert held == {Verb.HELP, Verb.CANCEL}
