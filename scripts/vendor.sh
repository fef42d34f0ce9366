#!/usr/bin/env bash
# Downloads the third-party files of the pages into static/vendor, with their licenses and checksums. To update one,
# change its version here, run this script, change the paths in static/, and run `make test-web`.
set -euo pipefail
cd "$(dirname "$0")/../static/vendor"

SWAGGER_UI=5.35.0
UPLOT=1.6.32

# vendor PACKAGE VERSION FOLDER FILE…: copies these files of the package to FOLDER-VERSION.
vendor() {
    local package=$1 version=$2 folder=$3-$2 scratch
    shift 3
    scratch=$(mktemp -d)
    (cd "$scratch" && npm pack --silent "$package@$version" >/dev/null && tar -xzf ./*.tgz)
    rm -rf "$folder"
    mkdir "$folder"
    local file
    for file in "$@"; do cp "$scratch/package/$file" "$folder/"; done
    chmod 644 "$folder"/*
    (cd "$folder" && sha256sum -- * >SHA256SUMS)
    rm -rf "$scratch"
    echo "$folder: $*"
}

rm -rf ./swagger-ui-* ./uplot-*
vendor swagger-ui-dist "$SWAGGER_UI" swagger-ui \
    LICENSE NOTICE swagger-ui-bundle.js swagger-ui-bundle.js.LICENSE.txt swagger-ui.css
vendor uplot "$UPLOT" uplot \
    LICENSE dist/uPlot.iife.min.js dist/uPlot.min.css
