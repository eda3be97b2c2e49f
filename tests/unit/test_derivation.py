import pytest

from nixmill.nix import derivation
from nixmill.nix.derivation import Derivation, DerivationError, DerivationOutput
from nixmill.nix.store_path import StorePath

PATH = f"/nix/store/{'a' * 32}-x"
TEXT = (
    f'Derive([("out","{PATH}","","")],[("{PATH}.drv",["dev","out"])],["{PATH}.sh"],"x86_64-linux","/bin/sh",'
    '["-c","echo \\"a],[(\\"\\n"],[("key","tab\\there\\\\"),("requiredSystemFeatures","kvm big")])'
)
MEANING = Derivation(
    {"out": DerivationOutput(PATH)},
    {StorePath(f"{PATH}.drv"): ("dev", "out")},
    (StorePath(f"{PATH}.sh"),),
    "x86_64-linux",
    "/bin/sh",
    ("-c", 'echo "a],[("\n'),
    {"key": "tab\there\\", "requiredSystemFeatures": "kvm big"},
)


def test_a_derivation_is_read_whole() -> None:
    assert derivation.parse(TEXT) == MEANING


def test_a_derivation_is_written_as_nix_writes_it() -> None:
    assert derivation.unparse(MEANING) == TEXT


def test_the_head_is_everything_but_arguments_and_environment() -> None:
    head = derivation.parse_head(TEXT)

    assert (head.outputs, head.input_drvs, head.input_srcs) == (
        MEANING.outputs,
        MEANING.input_drvs,
        MEANING.input_srcs,
    )
    assert (head.system, head.builder, head.args) == ("x86_64-linux", "/bin/sh", ())


def test_the_head_still_knows_which_features_are_required() -> None:
    assert derivation.parse_head(TEXT).required_features == {"kvm", "big"}


def test_features_are_found_in_structured_attributes() -> None:
    text = TEXT.replace('("requiredSystemFeatures","kvm big")', "").replace(
        '("key"', r'("__json","{\"requiredSystemFeatures\":[\"kvm\"]}"),("key"'
    )

    assert derivation.parse_head(text.replace("),])", ")])")).required_features == {"kvm"}


@pytest.mark.parametrize("json", ["[]", "{", '{"requiredSystemFeatures":3}', "3"])
def test_structured_attributes_that_make_no_sense_require_nothing(json: str) -> None:
    assert Derivation({}, {}, (), environment={"__json": json}).required_features == frozenset()


def test_fixed_outputs_are_known_by_their_hash() -> None:
    assert Derivation({"out": DerivationOutput(PATH, "r:sha256", "00")}, {}, ()).fixed_output
    assert not MEANING.fixed_output


def test_empty_lists_are_read() -> None:
    text = 'Derive([],[],[],"","",[],[])'

    assert derivation.unparse(derivation.parse(text)) == text
    assert derivation.parse_head(text) == derivation.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Derive(",
        "Derive([",
        'DrvWithVersion("xp-dyn-drv",[],[],[],"","",[],[])',
        TEXT.replace('"","")]', '"")]'),
        TEXT.replace("),(", ")("),
        TEXT[:-1],
        TEXT + ")",
        TEXT.replace(".drv", "\\.drv"),
        TEXT.replace("a" * 32, "A" * 32),
        TEXT.replace('"/bin/sh",', ""),
        TEXT.replace('["dev","out"]', "[]"),
    ],
)
def test_what_is_no_derivation_is_refused(text: str) -> None:
    with pytest.raises(DerivationError, match="No derivation"):
        derivation.parse(text)
