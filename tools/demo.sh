#!/usr/bin/env bash
# Shows the server at work: a sample project is watched, checked, pushed to, and shown in the browser.
. "$(dirname "$0")/lib.sh"

nixmill=$PWD/.venv/bin/nixmill
place=$(mktemp -d "${TMPDIR:-/tmp}/nixmill-demo.XXXXXX")
mill=$place/mill
port=${PORT:-$(.venv/bin/python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')}
url=http://127.0.0.1:$port

# Nobody's settings (git's signing, hooks, templates; another server) should have a say in a demo.
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 NIXMILL_CONFIG=$place/server.toml
export XDG_STATE_HOME=$place/state XDG_CONFIG_HOME=$place/config
commit() {
  git -C "$mill" add --all
  git -C "$mill" -c user.name=Miller -c user.email=miller@example.org commit --quiet --message "$1"
}
finish() {
  [ -z "${server:-}" ] || kill "$server" 2>/dev/null || true
  wait 2>/dev/null || true
}
trap finish EXIT
trap 'exit 130' INT

say "A sample project in a git repository: $mill"
cp -R examples/sample "$mill"
# Each demo builds everything anew, however often it ran before: its sources say which demo they belong to.
echo "# demo $place" >>"$mill/build.sh"
git -C "$mill" init --quiet --initial-branch=main
commit "The mill"

password=$(.venv/bin/python -c 'import secrets; print(secrets.token_urlsafe(9))')
"$nixmill" cache key new demo-1 "$place/demo.key" >/dev/null 2>&1
printf 'listen = "127.0.0.1:%s"\nurl = "%s"\nstate = "%s"\n' "$port" "$url" "$place/server" >"$NIXMILL_CONFIG"
printf '[credentials]\ndemo-1 = "%s"\n[[cache]]\nname = "main"\nkeys = ["demo-1"]\n' "$place/demo.key" >>"$NIXMILL_CONFIG"
printf '%s\n' "$password" | "$nixmill" user create miller --admin --password-stdin >/dev/null
printf '[[project]]\nname = "mill"\ntitle = "The mill"\nurl = "file://%s"\npoll-s = 2\n' "$mill" >"$place/projects.toml"
"$nixmill" projects apply "$place/projects.toml" >/dev/null

say "The server: nixmill serve --config $NIXMILL_CONFIG"
"$nixmill" serve 2>"$place/server.log" &
server=$!
page() { # prints the JSON twin of a page; fails where there is none
  .venv/bin/python -c '
import sys, urllib.request
with urllib.request.urlopen(urllib.request.Request(sys.argv[1], headers={"Accept": "application/json"}), timeout=30) as answer:
    sys.stdout.write(answer.read().decode())' "$1" 2>/dev/null
}
until page "$url/healthz" >/dev/null; do
  kill -0 "$server" 2>/dev/null || give_up "The server did not start: $(cat "$place/server.log")"
  sleep 0.2
done
export NIXMILL_SERVER=$url
say "It answers at $url; its pages are live, so look there now."
if [ -n "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ] && [ -t 2 ] && command -v xdg-open >/dev/null; then
  xdg-open "$url/p/mill" >/dev/null 2>&1 || true
fi

watched() { # a run, and the exit code that it should have
  until page "$url/r/$1" >/dev/null; do sleep 0.2; done
  local status=0
  "$nixmill" watch "$1" || status=$?
  case $status in
    1 | 3) ;;
    130) exit 130 ;;
    *) give_up "Run $1 ended with exit code $status; 1 or 3 was expected, since parts of the sample fail on purpose. $(tail -n 20 "$place/server.log")" ;;
  esac
}

say
say "The server found the repository and checks it by itself: nixmill watch 1"
watched 1

echo spelt >>"$mill/src/grain.txt"                                                     # a library changes, and all that needs it
echo "The pump is tight." >"$mill/src/pump.txt"                                        # repaired
echo "The lantern smokes." >"$mill/src/lantern.txt"                                    # broken
sed -i 's/windmill = part "windmill"/ferry = part "ferry"/' "$mill/parts/changing.nix" # one goes, one comes
say
say "A push: spelt is milled, the pump mended, the windmill replaced by a ferry"
commit "Mill spelt, mend the pump, replace the windmill by a ferry"
watched 2

say
say "What is good is pinned, so that no collection of garbage takes it: nixmill roots"
"$nixmill" roots >&2
say
say "It is also signed and published, so that other machines can fetch it: nixmill cache show main"
"$nixmill" cache show main >&2

cat >&2 <<TEXT

Parts of the sample fail on purpose (examples/sample/README.md). What changed stands first on the page of run 2:

  $url/r/2          (sign in as miller, password $password)

TEXT
if [ -t 0 ] && [ -t 2 ]; then
  say "The server goes on until Ctrl-C. Its files are in $place; remove them when you like."
  wait "$server"
else
  page "$url/r/2" | .venv/bin/python -c '
import json, sys
page = json.load(sys.stdin)
print(page["run"]["sentence"], "Different from run 1:", {k: v for k, v in page["counts"].items() if v})' >&2
  say "Nobody sits at a terminal, so the server stops here. make demo-run shows the same without a server."
fi
