# Sets within sets: their attributes are jobs too, since the sets ask for it.
{ part, ... }:
{
  weather = {
    recurseForDerivations = true;
    sun = part "sun" { };
    rain = part "rain" { };
    wind = {
      recurseForDerivations = true;
      breeze = part "breeze" { };
      storm = part "storm" { seconds = 1; };
    };
  };
  # Not asked for, so never looked at.
  attic.dust = throw "nobody looks here";
}
