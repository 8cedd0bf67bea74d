#!/usr/bin/env bash
# Runs every fuzz target of the tree in turn; together they take
# FUZZ_SECONDS (default 600).
set -euo pipefail
cd "$(dirname "$0")/.."
mapfile -t targets < <(grep -rHoE --include='*_test.go' --exclude-dir=warm '^func (Fuzz[A-Za-z0-9_]+)' . | sed -E 's#^\./(.*)/[^/]+:func (Fuzz.*)#\1 \2#; s#^\./[^/]+:func (Fuzz.*)#. \1#' | sort)
[ ${#targets[@]} -gt 0 ] || { echo "no fuzz targets found" >&2; exit 1; }
total=${FUZZ_SECONDS:-600}
each=$(( total / ${#targets[@]} )); [ "$each" -ge 2 ] || each=2
echo "${#targets[@]} fuzz targets, ${each}s each"
for t in "${targets[@]}"; do
  read -r dir name <<<"$t"
  echo "== $dir $name"
  go test -run='^$' -fuzz="^$name\$" -fuzztime="${each}s" -parallel="$(nproc)" "./$dir" | tail -n 2
done
