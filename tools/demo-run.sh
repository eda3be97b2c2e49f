#!/usr/bin/env bash
# Shows a local run: the sample project in a git repository of its own, with a change on a branch, checked for real.
. "$(dirname "$0")/lib.sh"

nixmill=$PWD/.venv/bin/nixmill
place=$(mktemp -d "${TMPDIR:-/tmp}/nixmill-demo.XXXXXX")
mill=$place/mill

# Nobody's git settings (signing, hooks, templates) should have a say in a demo.
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
commit() {
  git -C "$mill" add --all
  git -C "$mill" -c user.name=Miller -c user.email=miller@example.org commit --quiet --message "$1"
}

say "A sample project with a change on a branch: $mill"
cp -R examples/sample "$mill"
# Each demo builds everything anew, however often it ran before: its sources say which demo they belong to.
echo "# demo $place" >>"$mill/build.sh"
git -C "$mill" init --quiet --initial-branch=main
commit "The mill"

git -C "$mill" checkout --quiet -b finer-flour
echo spelt >>"$mill/src/grain.txt"                                            # a library changes, and all that needs it
echo "The pump is tight." >"$mill/src/pump.txt"                               # repaired
echo "The lantern smokes." >"$mill/src/lantern.txt"                           # broken
sed -i 's/windmill = part "windmill"/ferry = part "ferry"/' "$mill/parts/changing.nix" # one goes, one comes
commit "Mill spelt, mend the pump, replace the windmill by a ferry"

say "cd $mill && nixmill run"
say
status=0
(cd "$mill" && "$nixmill" run "$@") || status=$?

say
case $status in
  1 | 3) say "Parts of the sample fail on purpose (see examples/sample/README.md), so nixmill ended with exit code $status: as it should." ;;
  130) exit 130 ;;
  *) give_up "nixmill ended with exit code $status; 1 or 3 was expected, since parts of the sample fail on purpose." ;;
esac
cat >&2 <<TEXT
What to try next:

  cd $mill
  alias nixmill=$nixmill
  nixmill run                      # again: nothing that was built is built again
  nixmill log dam                  # the whole log of the failure
  nixmill why flour                # why it was built: down to the source that changed
  nixmill run release.nix -A weather
  nixmill doctor                   # is this machine set up well?

The demo's files are in $place; remove them when you like.
TEXT
