# Feeds commands to the walker in a process that evaluates purely, for Nix versions whose `nix repl` cannot (2.8).
#
# `nix flake check --keep-going` evaluates the attributes of `hydraJobs` purely, one after another, reports each error and
# goes on: the very loop we need. Each attribute here takes the next command, whatever the order they come in.
#
# Pure evaluation reads nothing, yet in these versions `findFile` still looks whether a path exists before it asks whether
# it may be used. So a command is handed over as empty directories below `/proc/self/cwd`, one for each bit that is set,
# and `bit` asks for an allowed file by way of such a directory. The project's code learns nothing that it could not learn anyway.
#
# Before it reads, a process says that it waits and then writes more than its pipe holds: it sleeps until it is read again.
{ token, walker, home }:
let
  inherit (builtins) concatStringsSep findFile fromJSON genList listToAttrs map seq substring toString trace tryEval;

  root = concatStringsSep "" (genList (_: "/..") 64);
  bit = n: (tryEval (findFile [ { prefix = ""; path = "/proc/self/cwd"; } ] "bits/${toString n}${root}${home}/flake.nix")).success;
  number = from: width: builtins.foldl' (sum: i: sum * 2 + (if bit (from + i) then 1 else 0)) 0 (genList (i: i) width);

  alphabet = "0123456789[], ";
  letter = i: substring (number (16 + 4 * i) 4) 1 alphabet;
  command = _: fromJSON (concatStringsSep "" (genList letter (number 0 16)));

  doubled = n: text: if n == 0 then text else doubled (n - 1) (text + text);
  pad = doubled 12 "................";

  step = _: trace (token + "w" + pad) (seq (walker.run (command null)) (trace (token + "e") { }));
in
# After so many commands the process ends, and a new one takes its place.
listToAttrs (map (i: { name = toString i; value = { next = step i; }; }) (genList (i: i) 10000))
