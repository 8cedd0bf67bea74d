#!/usr/bin/env bash
# The main job from end to end: a market on this machine, a film rendered on
# it, one provider killed on the way, the bill, and the audit of the books.
# make demo builds what it needs. Results lie in out/.
set -uo pipefail
cd "$(dirname "$0")/../.."
export FALLOW_HOME=$PWD/out/demo-home
fallow=$PWD/build/fallow
local=$FALLOW_HOME/local
say() { printf '\n== %s\n' "$*"; }

worst=0
keep() { [ "$1" -le "$worst" ] || worst=$1; }

watcher=
finish() {
  [ -z "$watcher" ] || kill "$watcher" 2>/dev/null
  "$fallow" down >/dev/null 2>&1
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

# number NAME takes the first number of that name out of JSON.
number() { sed -n "s/^ *\"$1\": *\([0-9][0-9]*\).*/\1/Ip" | head -n 1; }

# busy names a provider that runs a task right now, the widest first.
busy() {
  local p n
  for p in provider-2 provider-1 provider-3; do
    n=$("$fallow" --home "$local/$p" provider status --json 2>/dev/null | number running)
    [ "${n:-0}" -eq 0 ] || { echo "$p"; return; }
  done
  return 1
}

# kill_one waits for a third of the film, then kills a provider in its work.
kill_one() {
  local job done tasks victim pid
  while sleep 0.2; do
    job=$("$fallow" jobs --json 2>/dev/null) || continue
    tasks=$(number tasks <<<"$job") done=$(number done <<<"$job")
    [ "${done:-0}" -gt 0 ] && [ $((done * 3)) -ge "$tasks" ] || continue
    [ "$done" -lt "$tasks" ] || return 0
    victim=$(busy) || continue
    pid=$(number "$victim" <"$local/up.json")
    kill -9 "$pid" || continue
    echo "$victim (process $pid) was killed with kill -9 after $done of $tasks frames, in the middle of a task." >"$FALLOW_HOME/killed"
    # On a terminal the display is redrawn; the line is told again below.
    [ -t 1 ] || printf '\n== '"$(cat "$FALLOW_HOME/killed")"'\n\n'
    return 0
  done
}

# An earlier demo that was itself killed may still have its network up.
"$fallow" down >/dev/null 2>&1
rm -rf "$FALLOW_HOME" out/film out/film.gif out/film.mp4 out/contact-sheet.png
mkdir -p "$FALLOW_HOME"

say "a market on this machine"
"$fallow" up --detach --restart=false --block-time 500ms || exit $?
"$fallow" status

say "the film; one provider will be killed a third of the way in"
kill_one &
watcher=$!
"$fallow" run examples/film/job.yaml --out out/film --wait
keep $?
kill "$watcher" 2>/dev/null
wait "$watcher" 2>/dev/null
watcher=

if [ -s "$FALLOW_HOME/killed" ]; then
  say "$(cat "$FALLOW_HOME/killed") The film was finished all the same."
else
  say "no provider was killed: none worked when a third was done"
  keep 1
fi
for f in out/film.gif out/film.mp4 out/contact-sheet.png; do
  if [ -s "$f" ]; then
    echo "  $PWD/$f"
  elif [ "$f" != out/film.mp4 ]; then # which needs ffmpeg
    echo "  $f is missing" >&2
    keep 1
  fi
done
echo "  the frames: $PWD/out/film/"

say "payouts mature after the check window; then the audit of the books"
for p in provider-1 provider-3; do
  for _ in $(seq 120); do
    "$fallow" --home "$local/$p" balance --json 2>/dev/null | grep -q '"maturing"' || break
    sleep 0.25
  done
  "$fallow" --home "$local/$p" balance | grep -E 'account|credits'
done
"$fallow" audit
keep $?
exit "$worst"
