#!/usr/bin/env bash
# Takes README's pictures anew: docs/dashboard.webp and docs/dashboard-phone.webp, of a made-up person's year.
# What it needs and which settings it knows stands in scripts/web-tools.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/web-tools.sh

node --test --test-reporter=spec ./screenshots.js
