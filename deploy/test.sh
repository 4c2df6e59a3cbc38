#!/usr/bin/env bash
# Every check of the project: ruff, mypy and the tests. Sets up its environment first.
#
#   deploy/test.sh                         everything but the tests marked `long`
#   deploy/test.sh --long                  these, too: before a release, and after changes of what they are about
#   deploy/test.sh tests/unit -x           arguments go to pytest; paths replace the default ones, long tests included
#
# All checks run even if an early one fails; the exit code is 0 only when every one passed. Variables: see deploy/lib.sh.
set -euo pipefail
# shellcheck source=deploy/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

asked=" and not long"
if [[ "${1:-}" == --long ]]; then
    asked=""
    shift
fi
make_environment gpaw,dev
install_assets tests
install_phonopy_examples
install_codes
install_checkers

export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MPLBACKEND=Agg
# thousands of processes begin in the tests: where Python is told to keep no bytecode, each would compile every module
export PYTHONDONTWRITEBYTECODE=
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
# one core for a minute or more: beside the tests, and told after them
"$BIN/mypy" >"$private/mypy.log" 2>&1 </dev/null &
mypy=$!
trap 'kill "$mypy" 2>/dev/null || :; rm -rf "$private"' EXIT
pytest=("$BIN/python" -m pytest --durations=15)
if [[ "$everything" == no ]]; then
    check "pytest" "${pytest[@]}" "$@"
else
    # by file, because most tests share a campaign or a server with their neighbours; three on two cores,
    # because campaigns wait for their processes a fifth of the time; as collected, so that the long ones come first
    check "tests side by side" "${pytest[@]}" -n 3 --dist loadfile --no-loadscope-reorder -m "not alone$asked" tests "$@"
    check "tests one by one" "${pytest[@]}" -m "alone$asked" tests/acceptance/dashboard tests/acceptance/test_chaos*.py "$@"
fi
mypy_ended() {
    local status=0
    wait "$mypy" || status=$?
    cat "$private/mypy.log"
    return "$status"
}
check "mypy" mypy_ended
# FireWorks' own tests, from its source distribution, against the embedded server
if (($# == 0)); then
    check "FireWorks' suite" "$BIN/python" tests/acceptance/fireworks_suite.py --fast
fi

if ((${#failed[@]} > 0)); then
    IFS=,
    die "failed: ${failed[*]}"
fi
step "every check passed"
