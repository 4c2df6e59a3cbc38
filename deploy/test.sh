#!/usr/bin/env bash
# Every check of the project: ruff, mypy and the tests. Sets up its environment first.
#
#   deploy/test.sh                         everything
#   deploy/test.sh tests/unit -x           arguments go to pytest; paths replace the default ones
#
# All checks run even if an early one fails; the exit code is 0 only when every one passed. Variables: see deploy/lib.sh.
set -euo pipefail
# shellcheck source=deploy/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

make_environment gpaw,dev
install_assets tests
install_phonopy_examples
install_codes
install_checkers

export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MPLBACKEND=Agg
# the tests call the console scripts (gapfactory, gap_fit, lpad, rlaunch) of this environment
export PATH="$BIN:$PATH" VIRTUAL_ENV="$VENV"
# and must never meet the database or the scratch of the person who runs them
unset GAPFACTORY_DB GAPFACTORY_DB_FILE GAPFACTORY_DATA GAPFACTORY_SCRATCH
private="$(mktemp -d)"
trap 'rm -rf "$private"' EXIT
export XDG_DATA_HOME="$private/data" XDG_STATE_HOME="$private/state"
cd "$ROOT"

failed=()
check() { # check NAME COMMAND...
    local name="$1"
    shift
    step "$name"
    "$@" </dev/null || failed+=("$name")
}

# a path among the arguments replaces everything
everything=yes
for argument in "$@"; do
    if [[ -e "${argument%%::*}" ]]; then everything=no; fi
done

check "ruff check" "$BIN/ruff" check .
check "ruff format" "$BIN/ruff" format --check --quiet .
check "mypy" "$BIN/mypy"
pytest=("$BIN/python" -m pytest --durations=15)
if [[ "$everything" == no ]]; then
    check "pytest" "${pytest[@]}" "$@"
else
    # fast first, so that an early fault is seen early; by file, because most tests wait for something; what loads the
    # machine on purpose, or draws in a browser, runs alone
    check "tests side by side" "${pytest[@]}" -n 2 --dist loadfile tests/unit tests/integration "$@"
    check "tests one by one" "${pytest[@]}" tests/acceptance "$@"
fi
# FireWorks' own tests, from its source distribution, against the embedded server
if (($# == 0)); then
    check "FireWorks' suite" "$BIN/python" tests/acceptance/fireworks_suite.py --fast
fi

if ((${#failed[@]} > 0)); then
    IFS=,
    die "failed: ${failed[*]}"
fi
step "every check passed"
