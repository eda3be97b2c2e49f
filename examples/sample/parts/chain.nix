# Steps that can only follow one another: the critical path is long though each step is short.
{ part, mill }:
{
  step-1 = part "step-1" { };
  step-2 = part "step-2" { inputs = [ mill.step-1 ]; };
  step-3 = part "step-3" { inputs = [ mill.step-2 ]; seconds = 1; };
  step-4 = part "step-4" { inputs = [ mill.step-3 ]; seconds = 1; };
  step-5 = part "step-5" { inputs = [ mill.step-4 ]; seconds = 1; };
  step-6 = part "step-6" { inputs = [ mill.step-5 ]; seconds = 1; };
  step-7 = part "step-7" { inputs = [ mill.step-6 ]; seconds = 1; };
  step-8 = part "step-8" { inputs = [ mill.step-7 ]; };
}
