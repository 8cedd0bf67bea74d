#!/usr/bin/env bash
# Formatting, vet and the linters of .golangci.yml. The linter is built once
# into .bin, by its exact version.
set -euo pipefail
cd "$(dirname "$0")/.."
want=2.15.0
if ! .bin/golangci-lint version 2>/dev/null | grep -qE "version v?$want"; then
  echo "building golangci-lint $want (some minutes, once)" >&2
  GOBIN=$PWD/.bin go install "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v$want"
fi
.bin/golangci-lint run --timeout 15m ./...
