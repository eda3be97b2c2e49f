# Names that Nix allows and that careless programs stumble over.
{ part, ... }:
{
  "a/b" = part "a/b" { };
  "with space" = part "with space" { };
  "dotted.name" = part "dotted.name" { };
  "quote\"d" = part "quote\"d" { };
  ".." = part "two dots" { };
  "\${not} a variable" = part "not a variable" { };
  "Mühle" = part "Muehle" { };
}
