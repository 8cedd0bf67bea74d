#!/usr/bin/env bash
# Builds fallow for Linux on arm64, macOS and Windows. Of fallowd, whose Cosmos
# packages take a quarter of an hour of processor time for each target, it sees
# that every import has files for Linux on arm64.
set -euo pipefail
cd "$(dirname "$0")/.."
export CGO_ENABLED=0
for target in linux/arm64 darwin/arm64 windows/amd64; do
  echo "fallow for $target"
  GOOS=${target%/*} GOARCH=${target#*/} go build -o /dev/null ./cmd/fallow
done
echo "fallowd for linux/arm64 (its imports)"
GOOS=linux GOARCH=arm64 go list -deps ./cmd/fallowd >/dev/null
