# The same parts without flakes: nixmill run release.nix -A weather
{ system ? builtins.currentSystem }:
import ./mill.nix { inherit system; }
