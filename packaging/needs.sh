#!/usr/bin/env bash
# Sees that the Debian packages for building guests stand, and installs what
# is missing. Without root it prints the one line that does it, and fails.
set -euo pipefail
missing=()
command -v clang >/dev/null || missing+=(clang)
command -v wasm-ld >/dev/null || ls /usr/bin/wasm-ld-* >/dev/null 2>&1 || missing+=(lld)
[ -e /usr/include/wasm32-wasi/stdio.h ] || missing+=(wasi-libc)
if ! ls /usr/lib/llvm-*/lib/clang/*/lib/wasi/libclang_rt.builtins-wasm32.a >/dev/null 2>&1; then
  # The package carries the compiler's major version in its name.
  major=$(clang -dumpversion 2>/dev/null | cut -d. -f1 || true)
  [ -n "$major" ] || major=$(apt-cache depends clang 2>/dev/null | sed -n 's/.*Depends: clang-\([0-9]*\).*/\1/p' | head -n 1)
  missing+=("libclang-rt-${major:-14}-dev-wasm32")
fi
[ ${#missing[@]} -gt 0 ] || exit 0
line="apt-get install -y --no-install-recommends ${missing[*]}"
if [ "$(id -u)" != 0 ]; then
  echo "needs root once, for packages that build the film's guest. Run this, then again:" >&2
  echo "  sudo $line" >&2
  exit 1
fi
echo "installing: ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
if ! $line >/dev/null 2>&1; then
  apt-get update -q >/dev/null
  # After the first update the compiler's version is known.
  major=$(apt-cache depends clang 2>/dev/null | sed -n 's/.*Depends: clang-\([0-9]*\).*/\1/p' | head -n 1)
  [ -z "$major" ] || line=$(sed "s/libclang-rt-[0-9]*-dev/libclang-rt-$major-dev/" <<<"$line")
  $line >/dev/null
fi
