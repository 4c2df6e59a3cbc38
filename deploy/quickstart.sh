#!/usr/bin/env bash
# From a fresh machine to a potential: sets up the environment, then runs a small real campaign (silicon, labelled
# by DFT with GPAW) on this machine with a local database and local workers.
#
#   deploy/quickstart.sh              everything (about a quarter of an hour on 2 cores)
#   deploy/quickstart.sh --only-setup the environment alone
#
# Safe to start again at any time: the environment is reused, and the campaign goes on where it stopped.
# Variables: see deploy/lib.sh. Further arguments go to `gapfactory campaign run`.
set -euo pipefail
# shellcheck source=deploy/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

make_environment gpaw
install_assets pages
if [[ "${1:-}" == --only-setup ]]; then
    exit 0
fi

# numerical libraries run with one thread in each worker: results must not depend on the number of cores
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MPLBACKEND=Agg
cd "$ROOT"

step "running the campaign deploy/quickstart.yaml; Ctrl-C stops it, the same command goes on"
"$BIN/gapfactory" campaign run deploy/quickstart.yaml --out runs/quickstart-report "$@"
step "done; the report is in $ROOT/runs/quickstart-report"
say "Next: $BIN/gapfactory campaign --help, and docs/index.md"
