import pytest

from nixmill.nix import store_path

GOOD = "/nix/store/70aia2cap0q375yn9vna7r6bkz4lf044-hello-2.12.drv"


def test_a_well_formed_path_has_its_parts() -> None:
    path = store_path.parse(GOOD)
    assert store_path.hash_part(path) == "70aia2cap0q375yn9vna7r6bkz4lf044"
    assert store_path.name_part(path) == "hello-2.12.drv"
    assert store_path.is_derivation(path)
    assert store_path.derivation_name(path) == "hello-2.12"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/nix/store",
        "/nix/store/",
        GOOD.replace("70aia2", "70aie2"),
        GOOD + "/bin/hello",
        GOOD + "\n",
        "/nix/store/70aia2cap0q375yn9vna7r6bkz4lf044-",
        "/nix/store/70aia2cap0q375yn9vna7r6bkz4lf044-.",
        "/nix/store/70aia2cap0q375yn9vna7r6bkz4lf044-..",
        "/nix/store/70aia2cap0q375yn9vna7r6bkz4lf044-a b",
        "/nix/store/70aia2cap0q375yn9vna7r6bkz4lf044-" + "a" * 212,
        "/nix/store/../70aia2cap0q375yn9vna7r6bkz4lf044-a",
    ],
)
def test_a_malformed_path_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(store_path.StorePathError, match=r"\.$"):
        store_path.parse(text)


def test_a_path_of_another_store_is_refused() -> None:
    with pytest.raises(store_path.StorePathError, match="is not a path in the store /scratch"):
        store_path.parse(GOOD, "/scratch")
