# Walks the attributes of some targets inside an evaluation process and says what it finds.
#
# It decides what is a job and which sets are opened. It knows nothing of processes, batches or retries: `worker.py` loads
# it, `segments.py` chooses what `run` is asked for, `records.py` reads what it says.
#
# Everything is said by `builtins.trace`: the token (random, so that no text of a project is taken for ours), one
# letter, then the rest of the line:
#   b PATH    what follows is about the item at PATH: indices joined by dots; errors, warnings and traces too
#   r INDEX   the file or flake of a target has been loaded
#   u JSON    a target's attribute does not exist: {"t": the target, "i": index of the name, "n": the names that exist there}
#   j JSON    the item is a job        m JSON  its meta, on a line of its own so that bad meta cannot lose the job
#   s JSON    the item is a set that is to be descended into: the list of its names
#   d         the item is a set nested too deeply
#   p PLACE   where the item is defined: said before an error of which Nix itself may tell no place (throw, assert)
#   x SYSTEM  a job or a set of jobs is left out, being for another system than those that are wanted
# A process says `.` (or, served by `pure.nix`, `e`) when a command is done.
# An item of which nothing is said is no job. Names are addressed by index, so that no name ever becomes source text.
{
  token, # starts each line of ours
  targets, # list of { root, attr, kind }
  arguments ? { }, # for functions, as `--arg` of Nix
  systems ? [ ], # only jobs of these; empty: all
  force ? false, # open every set
  depthMax ? 20, # sets nested deeper are not opened
  smallMax ? 8, # sets of at most so many names are walked at once, larger ones only named
}:
let
  inherit (builtins) attrNames elem elemAt filter foldl' functionArgs genList head isAttrs isFunction isInt isList isString length listToAttrs map match substring tail toJSON toString toXML trace unsafeDiscardStringContext;

  say = text: trace (token + text);

  # Nix's autoCallFunction: a function of named arguments is called with those that were given, anything else is left.
  call = value:
    if isFunction value then callFunction value
    else if isAttrs value && value ? __functor then call (value.__functor value)
    else value;
  callFunction = f:
    let
      shape = substring 0 160 (toXML f);
      formals = functionArgs f;
      missing = filter (n: !formals.${n} && !(arguments ? ${n})) (attrNames formals);
    in
    if formals == { } && match ".*<attrspat.*" shape == null then f
    else if missing != [ ] then throw "cannot evaluate a function that has an argument without a value ('${head missing}')"
    else f (if match ".*<attrspat ellipsis=.*" shape != null then arguments else builtins.intersectAttrs formals arguments);

  isSystem = name: match "[a-z0-9_]+-(linux|darwin|freebsd|netbsd|openbsd|cygwin|windows|none|wasi|solaris|redox)" name != null;
  unwantedSystem = name: systems != [ ] && isSystem name && !(elem name systems);

  # Kinds of sets: "outputs" of a flake; "systems", such as `checks`, holds one set per system; "jobs" is `hydraJobs` and
  # what is below; "open" is opened whatever it says; "plain" only if it says so; "closed" is never looked at.
  perSystem = [ "checks" "packages" "devShells" "legacyPackages" "formatter" "defaultPackage" "devShell" ];
  kindBelow = kind: name: {
    outputs = if elem name perSystem then "systems" else if name == "hydraJobs" then "jobs" else "closed";
    systems = "open";
    jobs = "jobs";
  }.${kind} or "plain";
  bySystem = name: names: isSystem name || builtins.any isSystem names;
  opens = node:
    force || elem node.kind [ "open" "outputs" "systems" ] || node.isRoot
    || (node.kind == "jobs" && (node.name == "hydraJobs" || bySystem node.name node.names))
    || node.value.recurseForDerivations or false;

  # A node of the tree. Nix's laziness makes it a memory: what was evaluated once stays.
  make = { name, at, kind, depth, isRoot ? false, origin, place ? null }:
    let
      value = call origin;
      names =
        if kind == "systems" then filter (n: systems == [ ] || elem n systems) (attrNames value)
        else if kind == "jobs" then filter (n: !unwantedSystem n) (attrNames value)
        else attrNames value;
      child = i: let n = elemAt names i; in make {
        name = n;
        at = "${at}.${toString i}";
        kind = kindBelow kind n;
        depth = depth + 1;
        origin = value.${n};
        place = builtins.unsafeGetAttrPos n value;
      };
    in
    { inherit name at kind depth isRoot value names place; sub = genList child (length names); };

  # As Nix's findAlongAttrPath: functions on the way are called, lists are indexed by number.
  select = value: path: at:
    let
      here = call value;
      name = head path;
      index = if match "[0-9]+" name == null then -1 else builtins.fromJSON name;
    in
    if path == [ ] then { found = true; inherit value; }
    else if isAttrs here && here ? ${name} then select here.${name} (tail path) (at + 1)
    else if isList here && index >= 0 && index < length here then select (elemAt here index) (tail path) (at + 1)
    else { found = false; index = at; names = if isAttrs here then attrNames here else [ ]; };

  loadTarget = t: { root, attr, ... }:
    let selected = select root attr 0; in
    builtins.seq root (say "r${toString t}" (
      if selected.found then selected.value
      else say "u${toJSON { inherit t; i = selected.index; n = selected.names; }}" null));
  targetNode = i: let t = elemAt targets i; in make {
    name = "";
    at = toString i;
    inherit (t) kind;
    depth = 0;
    isRoot = true;
    origin = loadTarget i t;
  };
  top = { sub = genList targetNode (length targets); };

  plain = value: if isString value then unsafeDiscardStringContext value else null;
  whole = value: if isInt value then value else null;
  sayJob = v:
    if unwanted v then say "x${toString (plain (v.system or "unknown"))}" null
    else say "j${toJSON {
      n = plain v.name;
      s = plain (v.system or "unknown");
      d = plain v.drvPath;
      o = if v ? outputs
        then map (o: [ o (plain (v.${o}.outPath or null)) ]) v.outputs
        else [ [ "out" (plain (v.outPath or null)) ] ];
    }}" (if v ? meta then sayMeta v.meta else null);
  sayMeta = meta:
    let people = meta.maintainers or [ ]; in
    say "m${toJSON {
      d = plain (meta.description or null);
      p = map (m: if isAttrs m then plain (m.email or m.name or m.github or null) else plain m) (if isList people then people else [ people ]);
      t = whole (meta.timeout or null);
      s = whole (meta.maxSilent or null);
    }}" null;

  saySet = node:
    if !(opens node) then null
    else if node.depth >= depthMax then say "d" null
    else builtins.seq (foldl' (_: n: say "x${n}" null) null (leftOut node))
      (say "s${toJSON node.names}" (if length node.names > smallMax then null else walk node 0 (length node.names)));
  leftOut = node: if node.kind == "systems" then filter (n: !(elem n node.names)) (attrNames node.value) else [ ];

  item = node: say "b${node.at}" (if sound node then look node else say "p${placeOf node.place}" (look node));
  look = node:
    if node.kind == "closed" || !(isAttrs node.value) then null
    else if node.value.type or null == "derivation" then sayJob node.value
    else saySet node;
  # Nothing is evaluated twice for it: what was found stays in the node, and a throw is only thrown again.
  sound = node: node.kind == "closed" || (builtins.tryEval (
    if isAttrs node.value && node.value.type or null == "derivation" && !(unwanted node.value)
    then builtins.seq node.value.drvPath true else true)).success;
  placeOf = p: if p == null then "" else "${unsafeDiscardStringContext (toString p.file)}:${toString p.line}:${toString p.column}";

  walk = node: from: to: foldl' (_: i: item (elemAt node.sub i)) null (genList (i: i + from) (to - from));
  locate = foldl' (node: i: elemAt node.sub i) top;

  # The same walk as a value, for an evaluator that walks by itself: jobs, and sets that say whether they are to be opened.
  prune = node:
    if node.kind == "closed" || !(isAttrs node.value) then null
    else if node.value.type or null == "derivation" then (if unwanted node.value then null else node.value)
    else if !(opens node) then null
    else if node.depth >= depthMax then say "d" (throw "nested too deeply")
    else listToAttrs (genList (i: { name = elemAt node.names i; value = prune (elemAt node.sub i); }) (length node.names))
      // { recurseForDerivations = true; };
  unwanted = v: systems != [ ] && !(elem (plain (v.system or "unknown")) systems);
in
{
  # Targets are called t0, t1, …
  tree = listToAttrs (genList (i: { name = "t${toString i}"; value = prune (elemAt top.sub i); }) (length targets));

  # Walk some runs of items: each is [ PATH FROM TO ], PATH a list of indices from the list of targets.
  run = segments: foldl' (_: s: walk (locate (elemAt s 0)) (elemAt s 1) (elemAt s 2)) null segments;
}
