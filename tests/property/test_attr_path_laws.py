import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nixmill.nix import attr_path

names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)


@given(st.lists(names, max_size=5).map(tuple))
@example(("a.b", "c/d", 'e"f', "g h", "${x}", "\n", "..", "", "$${", "\\", "if"))
def test_parse_is_the_inverse_of_show(path: tuple[str, ...]) -> None:
    assert attr_path.parse(attr_path.show(path)) == path


@pytest.mark.parametrize("text", [".", "a.", ".a", "a..b", '"a', 'a."b', '"a"b', 'a"b"'])
def test_malformed_text_is_refused(text: str) -> None:
    with pytest.raises(attr_path.AttrPathError):
        attr_path.parse(text)


@given(st.text(max_size=20))
def test_no_text_raises_anything_else(text: str) -> None:
    with contextlib.suppress(attr_path.AttrPathError):
        assert attr_path.parse(attr_path.show(attr_path.parse(text))) == attr_path.parse(text)
