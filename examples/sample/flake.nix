{
  description = "A small mill: what `make demo` checks. Parts of it fail on purpose.";

  outputs =
    { self }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      forEachSystem =
        f:
        builtins.listToAttrs (
          map (system: {
            name = system;
            value = f system;
          }) systems
        );
      mill = system: import ./mill.nix { inherit system; };
    in
    {
      checks = forEachSystem mill;
      packages = forEachSystem (system: {
        inherit (mill system) flour sack manual;
        default = (mill system).flour;
      });
    };
}
