# Builds one part with nothing but a POSIX shell: sandboxes differ in what else they have.
export PATH=/bin:/usr/bin

# The shell of some sandboxes has no sleep; then work instead.
nap() {
  sleep "$1" 2>/dev/null || { n=0; while [ "$n" -lt $(($1 * 250000)) ]; do n=$((n + 1)); done; }
}

begin_phase() { printf '@nix { "action": "setPhase", "phase": "%s" }\n' "$1" >&2; }

for phase in $phases; do
  begin_phase "$phase"
  echo "$name: $phase"
  line=1
  while [ "$line" -le "$lines" ]; do
    echo "  working on $name, $line of $lines"
    line=$((line + 1))
  done
  [ "$seconds" = 0 ] || nap "$seconds"
done

eval "$script"

for output in $outputs; do
  eval "path=\$$output"
  {
    echo "$name ($output)"
    for input in $inputs; do echo "made with $input"; done
    [ -z "$src" ] || while IFS= read -r text; do echo "$text"; done <"$src"
  } >"$path"
done
