#!/usr/bin/env bash
# Fetches the files of others that the pages use into static/vendor, at the versions that stand
# here, each with its licence, beside the sums of all. To move to another version: change it here,
# run this, change the paths that static/ names, `make test-web`.
set -euo pipefail
cd "$(dirname "$0")/../static/vendor"

SWAGGER_UI=5.35.0
UPLOT=1.6.32

# vendor PACKAGE VERSION FOLDER FILE…: those files of the package into FOLDER-VERSION.
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
