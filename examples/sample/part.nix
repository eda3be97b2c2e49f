# A derivation that needs nothing but /bin/sh: `part "axle" { inputs = [ wheel ]; seconds = 2; }`.
{ system }:
let
  # What may stand in a store path's name.
  plain = name: builtins.concatStringsSep "-" (builtins.filter builtins.isString (builtins.split "[^a-zA-Z0-9-]+" name));
in
name:
{
  inputs ? [ ],
  src ? null,
  outputs ? [ "out" ],
  phases ? [ "buildPhase" ],
  seconds ? 0, # that each phase takes
  lines ? 3, # that each phase writes
  script ? "", # shell code that runs after the phases
  meta ? { },
  extra ? { },
}:
derivation (
  {
    name = plain name + "-1.0";
    inherit
      system
      inputs
      src
      outputs
      phases
      seconds
      lines
      script
      ;
    builder = "/bin/sh";
    args = [
      "-eu"
      ./build.sh
    ];
  }
  // extra
)
// {
  meta = {
    description = "The ${name} of the mill";
  } // meta;
}
