# What the second commit of the demo touches (tools/demo.sh): one part is repaired, one breaks, one goes, one comes.
{ part, ... }:
let
  unless = flaw: name: if builtins.match ".*${flaw}.*" (builtins.readFile (../src + "/${name}.txt")) != null
    then throw "the ${name} cannot be made: src/${name}.txt says that it ${flaw}"
    else part name { src = ../src + "/${name}.txt"; };
in
{
  pump = unless "leaks" "pump";
  lantern = unless "smokes" "lantern";
  windmill = part "windmill" { };
}
