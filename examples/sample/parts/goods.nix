# What the mill is for. Slow enough to be watched.
{ part, mill }:
{
  flour = part "flour" {
    inputs = [ mill.house mill.grain ];
    phases = [ "unpackPhase" "buildPhase" "checkPhase" ];
    seconds = 2;
    lines = 20;
  };
  bran = part "bran" { inputs = [ mill.house mill.grain ]; seconds = 2; };
  semolina = part "semolina" { inputs = [ mill.flour mill.bran ]; seconds = 1; };
  sack = part "sack" { inputs = [ mill.flour ]; };
  bread = part "bread" {
    inputs = [ mill.flour mill.water ];
    phases = [ "kneadPhase" "restPhase" "bakePhase" ];
    seconds = 2;
  };
  manual = part "manual" {
    outputs = [ "out" "man" "dev" ];
    src = ../src/grain.txt;
    seconds = 1;
  };
  slow-river = part "slow-river" {
    phases = [ "springPhase" "brookPhase" "riverPhase" ];
    seconds = 3;
    lines = 5;
  };
  slow-oak = part "slow-oak" { seconds = 7; lines = 1; };
  colours = part "colours" {
    script = ''printf '\033[32mgreen\033[0m \033[1;31mred\033[0m \033[4munderlined\033[0m\n' '';
  };
  noted = builtins.trace "warning: the old scale is worn; use the new one" (part "noted" { });
}
