#!/usr/bin/env bash
# Builds the files of a release in dist/:
#
#   coffee-tracker_VERSION-1_ARCH.deb              Debian package
#   coffee-tracker-VERSION-linux-ARCH.tar.gz       program, units, manual pages and completions, for `make install`
#   coffee-tracker-VERSION-linux-ARCH.cdx.json     dependencies (SBOM, CycloneDX)
#   BUILD.txt                                      commit, time and compilers
#   SHA256SUMS, SHA256SUMS.asc                     digests of these files, and their signature
#   apt/                                           apt repository: see scripts/apt-repository.sh
#
# ARCHS (amd64 arm64 armhf): the architectures to build.
# SIGN_KEY: the GPG key that signs; without it, nothing is signed.
# APT_URL: the address under which apt/ will be published, for coffee-tracker.sources.
# WAY, CROSS: see scripts/build-release.sh; TOOLS, SOURCE_DATE_EPOCH: see scripts/release.sh.
#
# Packages of earlier versions in dist/apt stay in the repository. The same commit and compilers give the same bytes in
# every folder, except signatures: `make test-dist`.
cd "$(dirname "$0")/.."
. scripts/where.sh
. scripts/release.sh

CARGO_CYCLONEDX=0.5.9

archs=${ARCHS:-amd64 arm64 armhf}
name=coffee-tracker-$(version)-linux
unset CARGO_TARGET_DIR
umask 022

# archive ARCH: writes a checkout without the sources, in which the program is already built.
archive() {
    local folder=target/dist/$name-$1
    rm -rf "$folder"
    mkdir -p "$folder"/{scripts,target/release}
    cp -R Makefile README.md CHANGELOG.md LICENSE .env.example coffee-tracker.service deploy docs "$folder"
    cp scripts/{where,install,service,drill}.sh "$folder/scripts"
    cp -R target/deb "$folder/target/manual"
    rm "$folder"/target/manual/{changelog,coffee-tracker.env}
    cp "target/$triple/release/coffee-tracker" "$folder/target/release"
    tar --sort=name --format=gnu --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX \
        --directory=target/dist --create "$name-$1" | gzip -n9 >"dist/$name-$1.tar.gz"
}

# sbom ARCH: cargo-cyclonedx writes next to Cargo.toml and includes the path of the checkout.
sbom() {
    cargo cyclonedx --quiet --format json --spec-version 1.5 --target "$triple" --override-filename "$name-$1.cdx"
    sed "s#file://$PWD#file:///coffee-tracker#g" "$name-$1.cdx.json" >"dist/$name-$1.cdx.json"
    rm "$name-$1.cdx.json"
}

for arch in $archs; do target_of "$arch"; done
[ -z "$(git status --porcelain 2>/dev/null)" ] || say "note: the release will contain changes that are not committed"
cargo_tool cargo-cyclonedx "$CARGO_CYCLONEDX"
# If this folder exists, scripts/manual.sh uses a debug build, which is faster.
mkdir -p dist/apt "${MANUAL_TARGET:-target}/debug/deps"
find dist -maxdepth 1 -type f -delete
printf 'version %s, commit %s, SOURCE_DATE_EPOCH=%s\n' "$(version)" "$(git rev-parse HEAD 2>/dev/null || echo unknown)" \
    "$SOURCE_DATE_EPOCH" >dist/BUILD.txt
for arch in $archs; do
    target_of "$arch"
    scripts/build-release.sh "$arch"
    OUTPUT=dist scripts/deb.sh release "$arch"
    archive "$arch"
    sbom "$arch"
    cat "target/$triple/release/toolchain.txt" >>dist/BUILD.txt
done
cp dist/*.deb dist/apt
scripts/apt-repository.sh dist/apt
(cd dist && sha256sum -- *.deb *.tar.gz *.cdx.json BUILD.txt >SHA256SUMS)
[ -z "${SIGN_KEY:-}" ] || gpg --yes --local-user "$SIGN_KEY" --armor --detach-sign dist/SHA256SUMS
ls -l dist dist/apt
