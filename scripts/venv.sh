# shellcheck shell=bash
# Installs pinned Python packages into .venv. Sourced in the root of the checkout.
#   python_with NAME==VERSION...     install missing packages

venv=.venv

python_with() {
    "$venv/bin/python" -c '
import sys
from importlib.metadata import version
for package in sys.argv[1:]:
    name, _, wanted = package.partition("==")
    assert version(name) == wanted
' "$@" 2>/dev/null && return
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
}
