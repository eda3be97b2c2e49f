# Attributes that do not evaluate, on purpose. Each is one error; nothing else suffers.
{ part, mill }:
{
  for-sale = throw "the old barn is sold and can no longer be built";
  escher = part "escher" { inputs = [ mill.escher ]; };
  lost-key = part "lost-key" { inputs = [ mill.key-under-the-mat ]; };
  half-bridge = assert 1 + 1 == 3; part "half-bridge" { };
  mixed-up = part "mixed-up" { seconds = 1 + "two"; };
  missing-plan = import ./plan-that-was-never-drawn.nix;
}
