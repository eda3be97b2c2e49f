import pytest

from nixmill.nix import derived_path
from nixmill.nix.derived_path import DerivedPath, DerivedPathError
from nixmill.nix.store_path import StorePath

DRV = StorePath(f"/nix/store/{'a' * 32}-x.drv")


def test_outputs_follow_an_exclamation_mark_on_the_wire_and_a_caret_on_the_command_line() -> None:
    wanted = DerivedPath(DRV, ("out", "dev"))

    assert wanted.to_wire() == f"{DRV}!out,dev"
    assert wanted.to_installable() == f"{DRV}^out,dev"


def test_all_outputs_are_a_star() -> None:
    assert derived_path.all_outputs(DRV).to_wire() == f"{DRV}!*"


@pytest.mark.parametrize("text", [DRV, f"{DRV}!*", f"{DRV}!out,dev"])
def test_what_was_written_is_read_back(text: str) -> None:
    assert derived_path.parse(text).to_wire() == text
    assert derived_path.parse(text.replace("!", "^")).to_wire() == text


@pytest.mark.parametrize("text", ["", "/etc/passwd", f"{DRV}!", f"{DRV}!out,,dev"])
def test_what_is_no_derived_path_is_refused(text: str) -> None:
    with pytest.raises(DerivedPathError, match="no derived path"):
        derived_path.parse(text)
