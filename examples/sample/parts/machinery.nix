# Libraries, one might say: a diamond (grain and water reach flour by two ways) under almost everything else.
{ part, mill }:
{
  grain = part "grain" { src = ../src/grain.txt; };
  water = part "water" { src = ../src/water.txt; };
  wheel = part "wheel" {
    inputs = [ mill.water ];
    phases = [ "unpackPhase" "buildPhase" "checkPhase" ];
    seconds = 1;
  };
  axle = part "axle" { inputs = [ mill.wheel ]; };
  gears = part "gears" {
    inputs = [ mill.axle ];
    phases = [ "buildPhase" "installPhase" ];
    seconds = 1;
  };
  stones = part "stones" {
    phases = [ "unpackPhase" "configurePhase" "buildPhase" "installPhase" ];
    seconds = 2;
    lines = 40;
  };
  hopper = part "hopper" { inputs = [ mill.grain ]; seconds = 1; };
  house = part "house" { inputs = [ mill.gears mill.stones mill.hopper ]; seconds = 1; };
}
