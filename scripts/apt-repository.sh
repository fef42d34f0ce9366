#!/usr/bin/env bash
# Indexes the Debian packages in a folder as a flat apt repository, and signs it.
#
#   scripts/apt-repository.sh FOLDER      write Packages, Packages.gz and Release
#
# SIGN_KEY: the GPG key that signs: also writes InRelease, Release.gpg and the public key, coffee-tracker.asc.
# APT_URL: the address under which the folder will be published: also writes coffee-tracker.sources, which contains the
#   public key and is all that a machine needs in /etc/apt/sources.list.d.
# SOURCE_DATE_EPOCH (now): date of the repository. apt ignores a repository that is older than the one it has seen.
set -euo pipefail
export LC_ALL=C

folder=${1:-}
[ $# = 1 ] && [ -d "$folder" ] || { echo "usage: scripts/apt-repository.sh FOLDER" >&2; exit 2; }
cd "$folder"

digest() { sha256sum "$1" | cut -d ' ' -f 1; }

packages() {
    local package
    for package in *.deb; do
        # An empty line ends the entry of a package.
        dpkg-deb --field "$package" | sed '/^$/d'
        printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "$package" "$(stat -c %s "$package")" "$(digest "$package")"
    done
}

release() {
    local file
    cat <<END
Origin: Coffee Tracker
Label: Coffee Tracker
Suite: stable
Architectures: $(sed -n 's/^Architecture: //p' Packages | sort -u | paste -sd ' ')
Date: $(date -u -d "@${SOURCE_DATE_EPOCH:-$(date +%s)}" '+%a, %d %b %Y %H:%M:%S UTC')
SHA256:
END
    for file in Packages Packages.gz; do
        printf ' %s %s %s\n' "$(digest "$file")" "$(stat -c %s "$file")" "$file"
    done
}

# The public key in a field: an indented line for each, and a dot for an empty one.
sources() {
    printf 'Types: deb\nURIs: %s\nSuites: ./\nSigned-By:\n' "$APT_URL"
    sed -e 's/^$/./' -e 's/^/ /' coffee-tracker.asc
}

ls -- *.deb >/dev/null 2>&1 || { echo "there are no packages in $folder" >&2; exit 1; }
rm -f InRelease Release.gpg coffee-tracker.asc coffee-tracker.sources
packages >Packages
gzip -n9 <Packages >Packages.gz
release >Release
if [ -z "${SIGN_KEY:-}" ]; then
    echo "note: $folder is not signed, so apt will not use it; set SIGN_KEY"
    exit
fi
gpg --local-user "$SIGN_KEY" --digest-algo SHA512 --output InRelease --clearsign Release
gpg --local-user "$SIGN_KEY" --digest-algo SHA512 --output Release.gpg --armor --detach-sign Release
gpg --armor --export "$SIGN_KEY" >coffee-tracker.asc
[ -z "${APT_URL:-}" ] || sources >coffee-tracker.sources
