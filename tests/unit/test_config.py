import pytest

from nixmill.cli.init import TOML
from nixmill.config import ProjectConfig, read_config
from nixmill.core.errors import InputError


def test_an_empty_file_is_all_defaults() -> None:
    assert read_config("") == ProjectConfig()


def test_what_init_writes_is_all_defaults_and_its_comments_are_true() -> None:
    assert read_config(TOML) == ProjectConfig()
    uncommented = "\n".join(line.removeprefix("# ") if " = " in line else line for line in TOML.splitlines())
    assert read_config(uncommented).evaluate.targets == (".#checks",)
    assert read_config(uncommented).build == ProjectConfig().build


@pytest.mark.parametrize(
    ("text", "sentence", "remedy"),
    [
        ("[evaluate]\ntarget = ['.']", "unknown field `target` in \\[evaluate\\]", "Did you mean `targets`"),
        (
            "[evaluate]\nmemory-mib = 'much'",
            "Expected `int`, got `str` in \\[evaluate.memory-mib\\]",
            "docs/configuration.md",
        ),
        ("[evaluate", "no valid TOML", "Mend"),
        ("xyzzy = 1", "unknown field `xyzzy`", "Known fields"),
    ],
)
def test_mistakes_get_a_sentence_and_a_remedy(text: str, sentence: str, remedy: str) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        read_config(text)
    assert remedy in caught.value.remedy
