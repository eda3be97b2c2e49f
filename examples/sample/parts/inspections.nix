# Quick checks of other parts.
{ part, mill }:
builtins.listToAttrs (
  map
    (name: {
      name = "inspect-${name}";
      value = part "inspect-${name}" {
        inputs = [ mill.${name} ];
        phases = [ "checkPhase" ];
        lines = 12;
      };
    })
    [ "grain" "water" "wheel" "gears" "stones" "hopper" "flour" "bran" "sack" "bread" ]
)
