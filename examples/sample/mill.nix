# All parts of the mill, as one set: each file in parts/ gives some of them.
{ system }:
let
  part = import ./part.nix { inherit system; };
  give = file: import file { inherit part mill; };
  mill =
    give ./parts/machinery.nix
    // give ./parts/chain.nix
    // give ./parts/goods.nix
    // give ./parts/inspections.nix
    // give ./parts/names.nix
    // give ./parts/weather.nix
    // give ./parts/broken-builds.nix
    // give ./parts/broken-evaluation.nix
    // give ./parts/changing.nix;
in
mill
