#!/usr/bin/env bash
# Runs every fuzz target of the tree in turn; together they take
# FUZZ_SECONDS (default 600), their builds not counted.
set -euo pipefail
cd "$(dirname "$0")/.."
mapfile -t targets < <(git ls-files '*_test.go' | xargs grep -HoE '^func Fuzz[A-Za-z0-9_]+' |
  sed -E 's#^(([^:]*)/)?[^/:]+:func (Fuzz.*)#./\2 \3#' | sort)
[ ${#targets[@]} -gt 0 ] || { echo "no fuzz targets found" >&2; exit 1; }
each=$(( ${FUZZ_SECONDS:-600} / ${#targets[@]} ))
[ "$each" -ge 2 ] || each=2
echo "${#targets[@]} fuzz targets, ${each}s each"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
for t in "${targets[@]}"; do
  read -r dir name <<<"$t"
  echo "== $dir $name"
  if ! go test -run='^$' -fuzz="^$name\$" -fuzztime="${each}s" -parallel="$(nproc)" "$dir" >"$log" 2>&1; then
    # Go reports the end of the time as a failure when a worker is slow to
    # notice it; then there is no failing input.
    if grep -q 'context deadline exceeded' "$log" && ! grep -qE 'Failing input written|panic:|hung or terminated' "$log"; then
      echo "(a worker outlived the time; no failing input)"
      continue
    fi
    cat "$log"
    exit 1
  fi
  tail -n 2 "$log"
done
