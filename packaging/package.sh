#!/usr/bin/env bash
# Builds dist/fallow_VERSION_ARCH.deb out of build/: both binaries, manual
# pages, shell completions and systemd units. Without dpkg-deb it makes a
# tar.gz of the same tree.
set -euo pipefail
cd "$(dirname "$0")/.."
umask 022
version=${1:-0.1.0}
version=${version#v}
[[ $version =~ ^[0-9]+\.[0-9]+ ]] || version=0.1.0+$version # a bare commit
version=${version//-/+}
arch=$(dpkg --print-architecture 2>/dev/null || go env GOARCH)
for bin in fallow fallowd; do
  [ -x build/$bin ] || { echo "build/$bin is missing; run: make build" >&2; exit 1; }
done

root=dist/deb
share=$root/usr/share
rm -rf dist
install -D -m 755 -t $root/usr/bin build/fallow build/fallowd
install -D -m 644 -t $root/usr/lib/systemd/system packaging/*.service
install -D -m 644 -t $share/doc/fallow CHANGELOG.md README.md docs/*.md
install -D -m 644 LICENSE $share/doc/fallow/copyright
install -d $share/man/man1 $share/bash-completion/completions $share/zsh/vendor-completions $share/fish/vendor_completions.d $root/DEBIAN
build/fallow man $share/man/man1 >/dev/null
gzip -9n $share/man/man1/*.1
build/fallow completion bash >$share/bash-completion/completions/fallow
build/fallow completion zsh >$share/zsh/vendor-completions/_fallow
build/fallow completion fish >$share/fish/vendor_completions.d/fallow.fish

cat >$root/DEBIAN/control <<E
Package: fallow
Version: $version
Architecture: $arch
Maintainer: The Fallow maintainers <maintainers@fallow.network>
Section: net
Priority: optional
Depends: adduser
Suggests: ffmpeg
Installed-Size: $(du -sk $root/usr | cut -f1)
Description: open market for compute
 Rent machines by the second or by the task, or lend yours while it lies idle.
 The package holds fallow, for tenants, providers and hubs, and fallowd, the
 ledger's node. No service starts by itself.
E
cat >$root/DEBIAN/postinst <<'E'
#!/bin/sh
set -e
if [ "$1" = configure ]; then
  getent passwd fallow >/dev/null || adduser --system --group --home /var/lib/fallow --quiet fallow
  chmod 0700 /var/lib/fallow
  [ ! -d /run/systemd/system ] || systemctl daemon-reload
fi
E
cat >$root/DEBIAN/prerm <<'E'
#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
  systemctl disable --now fallow-provider.service fallow-hub.service fallowd.service || true
fi
E
cat >$root/DEBIAN/postrm <<'E'
#!/bin/sh
set -e
# Keys and journals in /var/lib/fallow are money: they stay, even on purge.
[ ! -d /run/systemd/system ] || systemctl daemon-reload
E
chmod 755 $root/DEBIAN/{postinst,prerm,postrm}

if command -v dpkg-deb >/dev/null; then
  dpkg-deb --root-owner-group --build $root "dist/fallow_${version}_${arch}.deb"
else
  tar -C $root --owner=0 --group=0 -czf "dist/fallow_${version}_${arch}.tar.gz" usr
  echo "dist/fallow_${version}_${arch}.tar.gz (no dpkg-deb here)"
fi
rm -rf $root
