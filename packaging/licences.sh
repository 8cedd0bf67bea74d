#!/usr/bin/env bash
# Lists the licence of every module that either binary links, and fails on one
# that is missing or not on the list of licences that go with Apache-2.0.
set -euo pipefail
cd "$(dirname "$0")/.."
bad=0
declare -A count=()
name() { # licence file -> name
  local f=$1
  if   grep -qiE 'Apache License' "$f" && grep -qE 'Version 2\.0' "$f"; then echo Apache-2.0
  elif grep -qE 'Apache-2\.0 Software License|licensed under Apache 2\.0' "$f"; then echo Apache-2.0
  elif grep -qE 'Mozilla Public License,? (Version|v\.) ?2\.0' "$f"; then echo MPL-2.0
  elif grep -qiE 'GNU (AFFERO |LESSER )?GENERAL PUBLIC' "$f"; then echo GPL
  elif grep -qiE 'Permission is hereby granted, free of charge|MIT License' "$f"; then echo MIT
  elif grep -qiE 'Permission to use, copy, modify,? (and|and/or) distribute this software' "$f"; then echo ISC
  elif grep -qiE 'Redistribution and use in source and binary forms' "$f"; then echo BSD
  elif grep -qiE 'This is free and unencumbered software' "$f"; then echo Unlicense
  elif grep -qiE 'CC0|Creative Commons Zero' "$f"; then echo CC0-1.0
  else echo unknown; fi
}
list=$(go list -deps -f '{{with .Module}}{{if not .Main}}{{with .Replace}}{{.Path}} {{.Dir}}{{else}}{{.Path}} {{.Dir}}{{end}}{{end}}{{end}}' ./cmd/fallow ./cmd/fallowd)
while read -r mod dir; do
  f=$(find "$dir" -maxdepth 1 -type f \( -iname 'licen[sc]e*' -o -iname 'copying*' -o -iname 'license-*' -o -iname 'unlicense*' \) | sort | grep -iE 'apache|mit' || find "$dir" -maxdepth 1 -type f \( -iname 'licen[sc]e*' -o -iname 'copying*' -o -iname 'unlicense*' \) | sort)
  f=$(head -n 1 <<<"$f")
  if [ -z "$f" ]; then # a module inside a larger repository carries it one level up
    f=$(find "$dir/.." -maxdepth 1 -type f -iname 'licen[sc]e*' | sort | head -n 1)
  fi
  l=none; [ -z "$f" ] || l=$(name "$f")
  count[$l]=$(( ${count[$l]:-0} + 1 ))
  case $l in none|unknown|GPL) echo "licence of $mod: $l" >&2; grep -qxF "$mod" packaging/licences.ok 2>/dev/null || bad=1;; esac
done < <(sort -u <<<"$list")
for l in "${!count[@]}"; do echo "$l: ${count[$l]} modules"; done | sort
exit $bad
