#!/usr/bin/env bash
# Starts the network that the end-to-end tests left behind once more, and
# proves its books.
set -euo pipefail
cd "$(dirname "$0")/.."
home=${FALLOW_E2E_HOME:-$PWD/build/e2e-home}
[ -d "$home/local" ] || { echo "no network in $home: make test leaves one there" >&2; exit 1; }
export FALLOW_HOME=$home
trap 'build/fallow down >/dev/null 2>&1 || true' EXIT
build/fallow up --detach
build/fallow audit
