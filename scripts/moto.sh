#!/usr/bin/env bash
# Installs moto, which stands in for an object store (S3), into target/moto with pip and prints that folder. Fails when it
# is unavailable.
set -euo pipefail
cd "$(dirname "$0")/.."

PACKAGE='moto[server]==5.2.5'
folder=$PWD/target/moto

if [ "$(cat "$folder/package" 2>/dev/null)" != "$PACKAGE" ]; then
    if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
        timeout 300 apt-get update -qq
        DEBIAN_FRONTEND=noninteractive timeout 300 apt-get install -y -qq --no-install-recommends python3-venv
    fi
    rm -rf "$folder"
    python3 -m venv "$folder"
    timeout 600 "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "$PACKAGE"
    echo "$PACKAGE" >"$folder/package"
fi >&2
echo "$folder"
