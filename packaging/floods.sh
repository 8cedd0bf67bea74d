#!/usr/bin/env bash
# Runs the floods at their full size, one after the other, and prints what each
# says it did to others: ratios to the same thing before it, in the same run.
set -euo pipefail
cd "$(dirname "$0")/.."
export FALLOW_LONG=1
log=$(mktemp)
trap 'rm -f "$log"' EXIT
while read -r dir pattern; do
  echo "== $dir"
  if ! go test -count=1 -v -timeout 10m -run "^($pattern)\$" "$dir" >"$log" 2>&1; then
    cat "$log"
    exit 1
  fi
  for name in ${pattern//|/ }; do
    grep -q "^--- PASS: $name " "$log" || { echo "$dir has no $name any more" >&2; exit 1; }
  done
  sed -nE 's/^--- PASS: (Test[A-Za-z]+) .*/(\1)/p; s/^ +[a-z_]+_test\.go:[0-9]+: //p' "$log"
done <<'LIST'
./hub TestFloodFromOnePeer|TestFloodOfUnfundedKeys|TestSlowConnections
./provider TestStrangersWithoutFunds|TestManyTinyLeases
./settle TestManyTinyLeases
./blob TestSizesThatAreNotSo
./collect TestPictureBombs
./meter TestHostile
LIST
