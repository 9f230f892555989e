#!/usr/bin/env bash
# Times skiff beside other builders: the whole table, or what the flags say. bench/run.sh -h lists them.
set -euo pipefail
cd "$(dirname "$0")/.."
exec go run ./bench "$@"
