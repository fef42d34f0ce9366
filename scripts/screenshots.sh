#!/usr/bin/env bash
# Takes the screenshots of the README, docs/dashboard.webp and docs/dashboard-phone.webp, with a year of sample
# data. Requirements and settings: scripts/web-tools.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/web-tools.sh

node --test --test-reporter=spec ./screenshots.js
