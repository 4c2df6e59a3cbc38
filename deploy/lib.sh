# shellcheck shell=bash
# Shared by deploy/quickstart.sh and deploy/test.sh: makes the Python environment that both need.
#
# Sourced, never run. Everything comes from PyPI through pip and, only when something is missing and only as root
# or with passwordless sudo, from the system's own packages through apt-get.
#
#   GAPFACTORY_VENV    where the environment lives          (default: .venv in the checkout)
#   GAPFACTORY_PYTHON  the interpreter to make it from      (default: the first of python3, 3.13, 3.12, 3.11 that fits)
#   GAPFACTORY_APT     0 = never install system packages, only say what is missing

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="${GAPFACTORY_VENV:-$ROOT/.venv}"
BIN="$VENV/bin"
STARTED=$SECONDS
LAYOUT=1 # raise it when the environment has to be made anew although pyproject.toml did not change

# numba has wheels for these, and quippy-ase, the oracle of the tests; see docs/development.md
PYTHON_OLDEST=11
PYTHON_NEWEST=13

# ---- talking ---------------------------------------------------------------------------------------------------

say() { printf '%s\n' "$*"; }

step() { # one line per step, with the time since the start
    printf '[%2d:%02d] %s\n' $(((SECONDS - STARTED) / 60)) $(((SECONDS - STARTED) % 60)) "$*"
}

die() { # first argument: the fault; the others: the remedy, one line each
    printf '\nerror: %s\n' "$1" >&2
    shift
    (($# == 0)) || printf '       %s\n' "$@" >&2
    exit 1
}

quietly() { # run a command whose output matters only when it fails
    local log status=0
    log="$(mktemp)"
    "$@" >"$log" 2>&1 </dev/null || status=$?
    ((status == 0)) || tail -n 60 "$log" >&2
    rm -f "$log"
    return "$status"
}

# ---- the machine -----------------------------------------------------------------------------------------------

python_fits() { # can this interpreter be used? (a name on PATH may be a shim that runs nothing)
    "$1" - "$PYTHON_OLDEST" "$PYTHON_NEWEST" >/dev/null 2>&1 <<'PY'
import sys
oldest, newest = (int(a) for a in sys.argv[1:])
sys.exit(not (sys.version_info[0] == 3 and oldest <= sys.version_info[1] <= newest))
PY
}

find_python() { # prints the interpreter, fails when there is none
    local name
    if [[ -n "${GAPFACTORY_PYTHON:-}" ]]; then
        python_fits "$GAPFACTORY_PYTHON" && command -v "$GAPFACTORY_PYTHON"
        return
    fi
    for name in python3 python3.13 python3.12 python3.11; do
        if command -v "$name" >/dev/null && python_fits "$name"; then
            command -v "$name"
            return
        fi
    done
    return 1
}

python_can_make_environments() { "$1" -c 'import ensurepip, venv' >/dev/null 2>&1; }

python_has_headers() {
    "$1" -c 'import pathlib, sysconfig, sys
sys.exit(not (pathlib.Path(sysconfig.get_path("include")) / "Python.h").is_file())' >/dev/null 2>&1
}

compiles() { # does this C++ program (standard input) compile and link, with these arguments?
    local directory status=0
    directory="$(mktemp -d)"
    cat >"$directory/try.cpp"
    g++ -o "$directory/try" "$directory/try.cpp" "$@" >/dev/null 2>&1 || status=1
    rm -rf "$directory"
    return "$status"
}

have_compiler() { printf '#include <algorithm>\nint main() { return 0; }\n' | compiles -std=c++17; }

have_libxc() { printf '#include <xc.h>\nint main() { return xc_func_alloc() == nullptr; }\n' | compiles -lxc; }

have_blas() { printf 'extern "C" void dgemm_();\nint main() { dgemm_(); }\n' | compiles -lblas; }

have_fftw() { printf '#include <fftw3.h>\nint main() { return fftw_alignment_of(nullptr); }\n' | compiles -lfftw3; }

administrator() { # prints the prefix that makes a command run as root; fails when this user may not
    [[ "${GAPFACTORY_APT:-1}" != 0 ]] && command -v apt-get >/dev/null || return 1
    if ((EUID == 0)); then
        return 0
    elif command -v sudo >/dev/null && sudo -n true >/dev/null 2>&1; then
        printf 'sudo -n'
    else
        return 1
    fi
}

apt_update() { # once per run, and only where this user may; the lists of a fresh machine are empty
    local prefix
    if [[ -z "${APT_UPDATED:-}" ]] && prefix="$(administrator)"; then
        step "reading the lists of system packages"
        # shellcheck disable=SC2086  # the prefix is empty or two words
        quietly $prefix env DEBIAN_FRONTEND=noninteractive apt-get update || step "apt-get update failed; going on all the same"
        APT_UPDATED=yes
    fi
}

apt_install() { # install these Debian/Ubuntu packages, or say exactly what an administrator has to do
    local prefix
    if ! prefix="$(administrator)"; then
        die "these system packages are missing and this user may not install them: $*" \
            "Ask an administrator to run:" \
            "    apt-get update && apt-get install --no-install-recommends $*" \
            "(or the equivalent of another distribution), then start this script again."
    fi
    apt_update
    step "installing system packages: $*"
    # shellcheck disable=SC2086
    quietly $prefix env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" ||
        die "apt-get could not install: $*" "Its last lines are above."
}

apt_python() { # prints the newest packaged Python that fits (python3.12), or python3 where apt knows none by number
    local minor
    for ((minor = PYTHON_NEWEST; minor >= PYTHON_OLDEST; minor--)); do
        if command -v apt-cache >/dev/null && apt-cache show "python3.$minor-venv" >/dev/null 2>&1; then
            printf 'python3.%d' "$minor"
            return
        fi
    done
    printf 'python3'
}

prepare_machine() { # sets PYTHON; installs what is missing, all of it in one go
    local missing=() name=""
    if PYTHON="$(find_python)"; then
        name="$("$PYTHON" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')"
        python_can_make_environments "$PYTHON" || missing+=("$name-venv")
        python_has_headers "$PYTHON" || missing+=("$name-dev")
    elif [[ -n "${GAPFACTORY_PYTHON:-}" ]]; then
        die "GAPFACTORY_PYTHON=$GAPFACTORY_PYTHON is not a working Python 3.$PYTHON_OLDEST to 3.$PYTHON_NEWEST"
    else
        apt_update
        name="$(apt_python)"
        missing+=("$name" "$name-venv" "$name-dev")
    fi
    have_compiler || missing+=("g++")
    ((${#missing[@]} == 0)) || apt_install "${missing[@]}"

    PYTHON="$(find_python)" ||
        die "no Python 3.$PYTHON_OLDEST to 3.$PYTHON_NEWEST on this machine (python3 is $(python3 -V 2>&1))" \
            "Install one and name it: GAPFACTORY_PYTHON=/path/to/python3.12 $0"
    python_can_make_environments "$PYTHON" ||
        die "$PYTHON cannot make virtual environments (its modules venv and ensurepip are missing)" \
            "Install them, or name another interpreter with GAPFACTORY_PYTHON."
    python_has_headers "$PYTHON" ||
        die "the header files of $PYTHON are missing, and GPAW is built with them" \
            "Install them, or name another interpreter with GAPFACTORY_PYTHON."
    have_compiler || die "g++ cannot compile a C++17 program, and GPAW is built with it"
}

# The free DFT codes whose engines the tests run for real, a scheduler, a server for SSH, a faulty clock, a browser
# (with a font) and tables of embedded-atom potentials (a file, by its path), with the packages that have them.
CODES=(pw.x:quantum-espresso:quantum-espresso-data cp2k.psmp:cp2k:cp2k-data abinit:abinit:abinit-data mpirun:openmpi-bin
    slurmctld:slurmctld:slurmd:slurm-client:munge sshd:openssh-server ssh:openssh-client faketime:faketime ip:iproute2
    chromium:chromium:fonts-dejavu-core /usr/share/lammps/potentials/Al_mm.eam.fs:lammps-data)

install_codes() { # sets GAPFACTORY_REQUIRE_CODES=1 when all are here: a test that finds its code missing fails then
    local entry words missing=()
    for entry in "${CODES[@]}"; do
        IFS=: read -r -a words <<<"$entry"
        if [[ "${words[0]}" == /* && -e "${words[0]}" ]]; then continue; fi
        # daemons are beside the PATH of ordinary users
        PATH="$PATH:/usr/sbin" command -v "${words[0]}" >/dev/null || missing+=("${words[@]:1}")
    done
    if ((${#missing[@]} > 0)); then
        if administrator >/dev/null; then
            apt_install "${missing[@]}"
        else
            step "not installed, so their tests are skipped: ${missing[*]}"
            return
        fi
    fi
    export GAPFACTORY_REQUIRE_CODES=1
}

install_assets() { # what the dashboard's "pages" load, from npm and PyPI, pinned; for "tests" also what these load
    local options=()
    if [[ "$1" == tests ]]; then options=(--tests); fi
    step "scripts of the dashboard"
    quietly "$BIN/python" -m launchpad.dashboard.assets ${options[@]+"${options[@]}"} ||
        die "the scripts of the dashboard could not be fetched" "Its last lines are above; start this script again."
}

# Forces and frequencies of phonopy's own tests and examples (BSD-3-Clause): the last source distribution that was looked
# at and has them. Only its data are taken, for tests/unit/analysis/test_phonopy_examples.py, which looks for this place.
PHONOPY_EXAMPLES=phonopy-2.20.0
PHONOPY_EXAMPLES_SHA256=a5e2f9d1bd6efad051c6dfd4d9296846f4bd2d378c5c48eb179177656849999e

install_phonopy_examples() {
    local place="$VENV/$PHONOPY_EXAMPLES" private archive member members=()
    [[ -n "${GAPFACTORY_PHONOPY_SOURCE:-}" || -d "$place" ]] && return
    step "phonopy's own examples, for the tests"
    private="$(mktemp -d)"
    archive="$private/$PHONOPY_EXAMPLES.tar.gz"
    printf '%s --hash=sha256:%s\n' "${PHONOPY_EXAMPLES/-/==}" "$PHONOPY_EXAMPLES_SHA256" >"$private/wanted.txt"
    quietly "$BIN/python" -m pip download --no-deps --no-binary phonopy --require-hashes --requirement "$private/wanted.txt" \
        --dest "$private" ||
        die "phonopy's examples could not be fetched" "Its last lines are above; start this script again."
    for member in LICENSE test example/Al-ABACUS; do members+=("$PHONOPY_EXAMPLES/$member"); done
    tar -xzf "$archive" -C "$private" "${members[@]}"
    # whole or not at all
    mv "$private/$PHONOPY_EXAMPLES" "$place"
    rm -rf "$private"
}

install_checkers() { # what checks the files of deploy/ and is not on PyPI; a test whose program is missing is skipped
    local missing=()
    command -v systemd-analyze >/dev/null || missing+=(systemd)
    command -v openssl >/dev/null || missing+=(openssl)
    ((${#missing[@]} > 0)) || return 0
    if administrator >/dev/null; then
        apt_install "${missing[@]}"
    else
        step "not installed, so their tests are skipped: ${missing[*]}"
    fi
}

# ---- the environment -------------------------------------------------------------------------------------------

write_gpaw_configuration() { # GPAW's siteconfig: serial, with libxc, BLAS and FFTW only where the system has them
    local libraries=() nolibxc=True noblas=True fftw=False
    if have_libxc; then
        libraries+=("'xc'")
        nolibxc=False
    fi
    if have_blas; then
        libraries+=("'blas'")
        noblas=False
    fi
    if have_fftw; then
        libraries+=("'fftw3'")
        fftw=True
    fi
    cat >"$1" <<EOF_CONFIG
# Written by deploy/lib.sh. Without libxc GPAW has its built-in LDA, PBE, revPBE, RPBE and PW91.
compiler = 'g++'
mpi = False
nolibxc = $nolibxc
noblas = $noblas
fftw = $fftw
libraries = [$(
        IFS=,
        printf '%s' "${libraries[*]-}"
    )]
EOF_CONFIG
}

extra_requirements() { # the requirements of one extra of pyproject.toml, one per line
    "$BIN/python" - "$ROOT/pyproject.toml" "$1" <<'PY'
import sys, tomllib
with open(sys.argv[1], "rb") as f:
    print(*tomllib.load(f)["project"]["optional-dependencies"][sys.argv[2]], sep="\n")
PY
}

compile_loops() { # in two processes; the last call compiles what both wanted and only one could keep
    "$BIN/python" -m gapfactory.compiled potential &
    local first=$!
    "$BIN/python" -m gapfactory.compiled "random cells" similarity networks "datum cost" relaxation
    wait "$first" && "$BIN/python" -m gapfactory.compiled
}

make_environment() { # argument: the extras to install, e.g. "gpaw" or "gpaw,dev"
    local extras="$1" stamp="$VENV/.gapfactory-${1//,/-}" siteconfig="$VENV/gpaw-siteconfig.py" wanted gpaw
    # one stamp per set of extras, written last: what an interrupted run left behind counts for nothing
    wanted="layout $LAYOUT, $ROOT, $(sha256sum <"$ROOT/pyproject.toml")"
    # libxc or FFTW installed later: GPAW is built again, with it
    if [[ -e /usr/include/xc.h ]]; then wanted+=" libxc"; fi
    if [[ -e /usr/include/fftw3.h ]]; then wanted+=" fftw"; fi
    # one installation at a time, when two scripts start together
    exec 9<"$ROOT"
    if command -v flock >/dev/null; then flock 9; fi
    if [[ -f "$stamp" && "$(cat "$stamp")" == "$wanted" ]] && "$BIN/python" -c 'import gapfactory, launchpad' 2>/dev/null; then
        exec 9<&-
        step "environment $VENV is up to date"
        return
    fi

    prepare_machine
    if [[ -e "$VENV" && ! -f "$VENV/pyvenv.cfg" && -n "$(ls -A "$VENV")" ]]; then
        die "$VENV exists and is not a virtual environment; it is left alone" \
            "Choose another place with GAPFACTORY_VENV, or remove it."
    fi
    if ! python_fits "$BIN/python" || ! "$BIN/python" -m pip --version >/dev/null 2>&1; then
        step "making the environment $VENV with $("$PYTHON" -V) ($PYTHON)"
        quietly "$PYTHON" -m venv --clear "$VENV" || die "$PYTHON could not make $VENV"
    fi

    rm -f "$VENV"/.gapfactory-gpaw*
    quietly "$BIN/python" -m pip install --upgrade 'pip>=25' || die "pip could not upgrade itself in $VENV"

    write_gpaw_configuration "$siteconfig.new"
    if ! cmp -s "$siteconfig.new" "$siteconfig" || ! "$BIN/python" -c 'import gpaw' 2>/dev/null; then
        step "building GPAW ($(grep -q 'nolibxc = True' "$siteconfig.new" && printf 'without' || printf 'with') libxc; less than a minute)"
        # pip would serve a wheel that it once built against other libraries, hence without its cache
        mapfile -t gpaw < <(extra_requirements gpaw)
        GPAW_CONFIG="$siteconfig.new" quietly "$BIN/python" -m pip install --no-cache-dir --force-reinstall --no-deps "${gpaw[@]}" ||
            die "GPAW could not be built" "Its last lines are above; its configuration is $siteconfig.new."
        mv "$siteconfig.new" "$siteconfig"
    fi
    rm -f "$siteconfig.new"

    step "installing gapfactory[$extras] and what it needs"
    # editable: the environment always runs the code of this checkout, also after an update of it
    GPAW_CONFIG="$siteconfig" quietly "$BIN/python" -m pip install --editable "${ROOT}[$extras]" ||
        die "pip could not install gapfactory[$extras]" "Its last lines are above."
    quietly "$BIN/python" -m pip check || die "the packages in $VENV contradict each other (above)"
    "$BIN/python" -c 'import gapfactory, launchpad' || die "the installed package cannot be imported"
    step "compiling what is compiled on this machine (about a minute)"
    quietly compile_loops || die "the numerical loops could not be compiled"
    printf '%s' "$wanted" >"$stamp"
    if [[ "$extras" == gpaw,dev ]]; then cp "$stamp" "$VENV/.gapfactory-gpaw"; fi # the larger set contains the smaller
    exec 9<&-
    step "environment $VENV is ready"
}
