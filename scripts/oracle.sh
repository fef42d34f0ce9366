#!/usr/bin/env bash
# Computes the reference values of the statistics with SciPy (installed into .venv) and compares them with
# tests/data/statistics.json to 12 digits.
#
#   scripts/oracle.sh            compare
#   scripts/oracle.sh --write    update the file
set -euo pipefail
cd "$(dirname "$0")/.."

file=tests/data/statistics.json
. scripts/venv.sh
python_with numpy==2.4.6 scipy==1.17.1

fresh=$(mktemp)
trap 'rm -f "$fresh"' EXIT
"$venv/bin/python" scripts/oracle.py > "$fresh"
if [ "${1:-}" = --write ]; then
    cp "$fresh" "$file"
    echo "updated $file"
    exit
fi
"$venv/bin/python" - "$fresh" "$file" <<'PYTHON'
import json
import math
import sys

fresh, kept = (json.load(open(path)) for path in sys.argv[1:])


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or math.isclose(a, b, rel_tol=1e-12, abs_tol=1e-14)


sys.exit(None if same(fresh, kept) else f"{sys.argv[2]} holds other figures: scripts/oracle.sh --write")
PYTHON
echo "$file matches SciPy"
