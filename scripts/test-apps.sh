#!/usr/bin/env bash
# Plays the apps of docs/APPS.md against a server: pushes as Health Auto Export and HC Webhook send them, the folder of
# Gadgetbridge and Syncthing, and Home Assistant with the YAML of deploy/home-assistant.md.
#
#   scripts/test-apps.sh                          test the release binary
#   COFFEE_TRACKER=path scripts/test-apps.sh      test this binary
#
# HOME_ASSISTANT_PYTHON: Python 3.13 or newer. Home Assistant is installed from PyPI in target/home-assistant; without this
# Python or without PyPI, its test is skipped and reported. Uses loopback, free ports and temporary folders.
set -euo pipefail
cd "$(dirname "$0")/.."
# The recipe needs 2024.10 or newer.
version=2025.4.4
# Requirements of its integration `rest`.
libraries=(jsonpath==0.82.2 xmltodict==0.13.0)
environment=target/home-assistant

program=$(realpath "${COFFEE_TRACKER:-${CARGO_TARGET_DIR:-target}/release/coffee-tracker}")
[ -x "$program" ] || { echo "$program does not exist; run \`make build\` first" >&2; exit 1; }

# Prints a Python that can run this version of Home Assistant.
find_python() {
    local candidate
    for candidate in "${HOME_ASSISTANT_PYTHON:-}" python3 python3.13 python3.14; do
        [ -z "$candidate" ] || ! "$candidate" -c 'import sys, venv, ensurepip; assert sys.version_info >= (3, 13)' 2>/dev/null ||
            { echo "$candidate"; return; }
    done
    return 1
}

install_home_assistant() {
    local python
    [ "$(cat "$environment.complete" 2>/dev/null)" != "$version ${libraries[*]}" ] || return 0
    python=$(find_python) || { echo "Python 3.13 is not installed"; return 1; }
    rm -rf "$environment"
    mkdir -p target
    "$python" -m venv "$environment"
    # With its own constraints; otherwise pip tries many versions of many packages.
    if ! pip_install --no-deps "homeassistant==$version" ||
        ! pip_install --constraint "$environment"/lib/python3*/site-packages/homeassistant/package_constraints.txt \
            "homeassistant==$version" "${libraries[@]}"; then
        echo "it cannot be installed from PyPI"
        return 1
    fi
    echo "$version ${libraries[*]}" >"$environment.complete"
}

pip_install() { timeout 1200 "$environment/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; }

python3 scripts/play_apps.py "$program"
if reason=$(install_home_assistant); then
    "$environment/bin/python" scripts/play_home_assistant.py "$program"
else
    echo "apps: skipped Home Assistant: ${reason##*$'\n'}"
fi
