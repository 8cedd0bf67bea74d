#!/usr/bin/env bash
# Sees that the Debian packages for a step stand, and installs what is missing.
# Without root it prints the one line that does it, and fails.
#   needs.sh guest    a compiler of WASI modules, for the film
#   needs.sh netns    network namespaces with routers, for make test-all
#   needs.sh npm      npm, which fetches the speech guest
set -euo pipefail

# The package carries the compiler's major version in its name.
runtime() {
  local major
  major=$(clang -dumpversion 2>/dev/null | cut -d. -f1 || true)
  [ -n "$major" ] || major=$(apt-cache depends clang 2>/dev/null | sed -n 's/.*Depends: clang-\([0-9]*\).*/\1/p' | head -n 1)
  echo "libclang-rt-${major:-14}-dev-wasm32"
}

missing() {
  case $1 in
  guest)
    command -v clang >/dev/null || echo clang
    command -v wasm-ld >/dev/null || echo lld
    [ -e /usr/include/wasm32-wasi/stdio.h ] || echo wasi-libc
    ls /usr/lib/llvm-*/lib/clang/*/lib/wasi/libclang_rt.builtins-wasm32.a >/dev/null 2>&1 || runtime
    ;;
  netns)
    { command -v ip && command -v tc; } >/dev/null || echo iproute2
    command -v nft >/dev/null || echo nftables
    ;;
  npm) command -v npm >/dev/null || echo npm ;;
  *) echo "needs.sh: no such step: $1" >&2; exit 2 ;;
  esac
}

step=${1:-guest}
list=$(missing "$step")
[ -n "$list" ] || exit 0
if ! command -v apt-get >/dev/null; then
  echo "missing, and no apt-get here to install it: ${list//$'\n'/ }" >&2
  exit 1
fi
install() { echo "apt-get install -y --no-install-recommends ${*//$'\n'/ }"; }
if [ "$(id -u)" != 0 ]; then
  echo "needs root once, for what builds the examples and lays test networks. Run this, then again:" >&2
  echo "  sudo $(install "$list")" >&2
  exit 1
fi
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "installing: ${list//$'\n'/ }" >&2
if ! $(install "$list") >"$log" 2>&1; then
  # The package lists may be old, or absent as on a new machine.
  { apt-get update -q && $(install "$(missing "$step")"); } >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
fi
left=$(missing "$step")
[ -z "$left" ] || { echo "installed, and still missing: ${left//$'\n'/ }" >&2; exit 1; }
