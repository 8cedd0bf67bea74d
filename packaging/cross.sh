#!/usr/bin/env bash
# Both binaries for Linux on arm64; the tenant's for macOS and Windows too.
set -euo pipefail
cd "$(dirname "$0")/.."
for target in linux/arm64 darwin/arm64 windows/amd64; do
  echo "fallow for $target"
  CGO_ENABLED=0 GOOS=${target%/*} GOARCH=${target#*/} go build -o /dev/null ./cmd/fallow
done
echo "fallowd for linux/arm64 (type-checked)"
CGO_ENABLED=0 GOOS=linux GOARCH=arm64 go vet ./cmd/fallowd
