# Builds that fail on purpose, each in its own way, and what depends on them.
{ part, mill }:
{
  # One real failure: a long log whose end says why. Six others cannot be built because of it.
  dam = part "dam" {
    phases = [ "unpackPhase" "buildPhase" "checkPhase" ];
    seconds = 1;
    script = ''
      n=1
      while [ "$n" -le 400 ]; do echo "  stone $n laid, holds"; n=$((n + 1)); done
      echo "  stone 401 laid, slips" >&2
      echo "src/dam.c:401: error: expected 'mortar' before 'stone'" >&2
      echo "the dam does not hold: 400 of 401 stones are good" >&2
      exit 2
    '';
  };
  sluice-gate = part "sluice-gate" { inputs = [ mill.dam ]; };
  turbine = part "turbine" { inputs = [ mill.dam mill.gears ]; };
  lamp = part "lamp" { inputs = [ mill.turbine ]; };
  street = part "street" { inputs = [ mill.lamp ]; };
  village = part "village" { inputs = [ mill.street mill.bread ]; };
  fish-ladder = part "fish-ladder" { inputs = [ mill.dam ]; };

  # Takes longer than its own limit.
  sleeper = part "sleeper" {
    script = ''for hour in 1 2 3 4 5 6 7 8 9 10 11 12; do echo "asleep for $hour hours"; nap 1; done; nap 600'';
    meta.timeout = 5;
  };
  # Says nothing for longer than its own limit.
  mute = part "mute" {
    script = "nap 600";
    meta.maxSilent = 4;
  };
  # Claims other content than it has.
  counterfeit = part "counterfeit" {
    extra = {
      outputHashMode = "flat";
      outputHashAlgo = "sha256";
      outputHash = "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    };
  };
}
