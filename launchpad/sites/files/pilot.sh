#!/usr/bin/env bash
# A pilot job: starts workers that take tasks until there are none, or until the job's time is nearly over.
#
#   pilot.sh                          our workers, as site.conf says
#   pilot.sh singleshot --fw_id 7     one Firework that qlaunch reserved, with FireWorks' own rlaunch
#
# The scheduler runs it through the job script that qlaunch or 'gapfactory site submit' wrote. See README.md.
set -euo pipefail
umask 077
site="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# what this job inherited from the place of its submission is not about this job
unset GAPFACTORY_DB GAPFACTORY_DATA GAPFACTORY_JOB_END GAPFACTORY_SCRATCH

# modules and the like: written by people, who use unset variables and commands that fail
set +eu
# shellcheck source=/dev/null
source "$site/environment.sh"
set -eu
site_id="" scheduler="" campaigns=() allowed=()
python="" workers=1 cores="" memory_gb="" categories="" idle_minutes=15 stop_before_s=90 scratch="" depot=""
# shellcheck source=/dev/null
source "$site/site.conf"

die() {
    echo "pilot.sh: $*" >&2
    exit 1
}

seconds() { # seconds LIMIT: [D-]HH:MM:SS, or HH:MM as LSF writes it
    local days=0 text="$1" hours minutes rest
    if [[ "$text" == *-* ]]; then
        days="${text%%-*}" text="${text#*-}"
    fi
    [[ "$days $text" =~ ^[0-9]+\ [0-9]+:[0-9]+(:[0-9]+)?$ ]] ||
        die "the time limit '$1' is not HH:MM:SS or HH:MM: correct 'walltime' in $site/my_qadapter.yaml"
    IFS=: read -r hours minutes rest <<<"$text"
    echo $((10#$days * 86400 + 10#$hours * 3600 + 10#$minutes * 60 + 10#${rest:-0}))
}

# recorded with every task that a worker takes: whoever can ask the scheduler can then tell whether this job still runs
export GAPFACTORY_SITE_ID="$site_id" GAPFACTORY_SCHEDULER="$scheduler"

# when the scheduler ends this job: its own word (newer SLURM), or the time limit that we asked for, whichever is first
now="$(date +%s)"
end=""
if [[ -n "${GAPFACTORY_WALLTIME:-}" ]]; then
    limit="$(seconds "$GAPFACTORY_WALLTIME")"
    end=$((now + limit))
fi
told="${SLURM_JOB_END_TIME:-}"
if [[ "$told" =~ ^[0-9]+$ ]] && ((told > now)) && [[ -z "$end" || "$told" -lt "$end" ]]; then
    end="$told"
fi
if [[ -n "$end" ]]; then
    export GAPFACTORY_JOB_END="$end"
fi

# launches may lie on a disk of the node that is emptied after the job; logs, and results that the database could not
# take yet, must outlive it and be delivered by the next pilot wherever it runs
job="${SLURM_JOB_ID:-${PBS_JOBID:-${LSB_JOBID:-${JOB_ID:-shell}}}}"
pilot="$(hostname -s)-${job//[^A-Za-z0-9]/_}-$$"
export GAPFACTORY_SCRATCH="${scratch:-$site/scratch}/gapfactory-$pilot"
mkdir -p "$GAPFACTORY_SCRATCH" "$site/spool" "$site/logs/$pilot"
ln -sfn "$site/spool" "$GAPFACTORY_SCRATCH/spool"
ln -sfn "$site/logs/$pilot" "$GAPFACTORY_SCRATCH/logs"

if (($# > 0)); then
    exec "$(dirname "$python")/rlaunch" -l "$site/my_launchpad.yaml" -w "$site/my_fworker.yaml" "$@"
fi

if [[ -n "$depot" ]]; then
    # no database is near: bundles come from a directory
    start=("$python" -m launchpad.cli push runner "$depot" --number "$workers" --idle-minutes "$idle_minutes"
        --stop-before "$stop_before_s")
    # without a disk of the node, launches stay where another runner can go on with them
    [[ -z "$scratch" ]] || start+=(--scratch "$GAPFACTORY_SCRATCH/launches")
else
    # by the environment, which only the owner can read; a command line can be read by everybody on the node
    GAPFACTORY_DB="$("$python" -m launchpad.cli site database "$site")"
    export GAPFACTORY_DB
    start=("$python" -m launchpad.cli worker start --number "$workers" --idle-minutes "$idle_minutes")
    # what tasks may use here, shared by the workers
    [[ -z "$cores" ]] || start+=(--cores "$cores")
    [[ -z "$memory_gb" ]] || start+=(--memory-gb "$memory_gb")
    for category in $categories; do
        start+=(--category "$category")
    done
    for campaign in ${campaigns[@]+"${campaigns[@]}"}; do
        start+=(--campaign "$campaign")
    done
    for task in ${allowed[@]+"${allowed[@]}"}; do
        start+=(--allow "$task")
    done
fi
if [[ -n "$end" ]]; then
    left=$((end - $(date +%s) - stop_before_s))
    ((left > 0)) || die "the job ends in $((end - now)) s, its workers would stop $stop_before_s s before: ask for more"
    # SIGTERM from the scheduler goes through to the workers as well
    start=(timeout --preserve-status --signal=TERM "$left" "${start[@]}")
fi
echo "pilot $pilot: $workers workers, logs in $site/logs/$pilot"
exec "${start[@]}"
