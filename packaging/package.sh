#!/usr/bin/env bash
# Builds dist/fallow_VERSION_ARCH.deb: both binaries, manual pages, shell
# completions and systemd units.
set -euo pipefail
cd "$(dirname "$0")/.."
version=${1#v}
[[ $version =~ ^[0-9] ]] || version=0.1.0+$version
version=${version//-/+}
arch=$(dpkg --print-architecture 2>/dev/null || go env GOARCH)
root=dist/deb
rm -rf dist && mkdir -p $root/{DEBIAN,usr/bin,usr/lib/systemd/system,usr/share/man/man1,usr/share/bash-completion/completions,usr/share/zsh/vendor-completions,usr/share/fish/vendor_completions.d,usr/share/doc/fallow}
cp build/fallow build/fallowd $root/usr/bin/
build/fallow man $root/usr/share/man/man1 >/dev/null
gzip -9n $root/usr/share/man/man1/*.1
build/fallow completion bash > $root/usr/share/bash-completion/completions/fallow
build/fallow completion zsh  > $root/usr/share/zsh/vendor-completions/_fallow
build/fallow completion fish > $root/usr/share/fish/vendor_completions.d/fallow.fish
cp packaging/*.service $root/usr/lib/systemd/system/
cp LICENSE $root/usr/share/doc/fallow/copyright
cp CHANGELOG.md README.md docs/*.md $root/usr/share/doc/fallow/
cat > $root/DEBIAN/control <<C
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
 ledger's node.
C
cat > $root/DEBIAN/postinst <<'C'
#!/bin/sh
set -e
if [ "$1" = configure ]; then
  adduser --system --group --home /var/lib/fallow --quiet fallow || true
  chmod 0700 /var/lib/fallow
fi
C
chmod 0755 $root/DEBIAN/postinst
if command -v dpkg-deb >/dev/null; then
  dpkg-deb --root-owner-group --build $root "dist/fallow_${version}_${arch}.deb"
else
  tar -C $root -czf "dist/fallow_${version}_${arch}.tar.gz" usr && echo "dist/fallow_${version}_${arch}.tar.gz (no dpkg-deb here)"
fi
