#!/usr/bin/env bash
# One backup of the whole server by mongodump, checked, and the rotation of the older ones.
#
#   deploy/backup.sh                  make a backup; docs/how-to/operate.md says how to restore one
#   deploy/backup.sh loop SECONDS     make one now and then every so often, until SIGTERM (for containers)
#
#   BACKUP_CONFIG     file for 'mongodump --config' with the line 'uri: mongodb://...': the URI holds a password, which
#                     must not be seen among the processes. The user needs MongoDB's role 'backup'.
#   BACKUP_DIRECTORY  where archives go, best on another machine's disk
#   BACKUP_KEEP       how many archives are kept    (default: 14)
#
# An archive appears under its name only when mongodump has ended well and gzip finds it whole. Nothing is removed unless
# a new archive has been made, so a server that is away for weeks does not cost the last good backup.
set -euo pipefail
umask 077

say() { printf '%s backup: %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$*"; }

die() {
    say "$*" >&2
    exit 1
}

backup() {
    local name partial old kept
    name="gapfactory-$(date -u +%Y%m%dT%H%M%SZ).archive.gz"
    partial="$directory/.$name.partial"
    rm -f "$directory"/.gapfactory-*.partial
    # --oplog: one moment of all databases, although they change meanwhile (a replica set is needed for it)
    # every step is looked at: this function may be called where a failure does not end the script
    if ! mongodump --config="$config" --oplog --gzip --archive="$partial" --quiet ||
        [[ ! -s "$partial" ]] || ! gzip -t <"$partial"; then
        rm -f "$partial"
        say "mongodump failed or its archive is not whole; the backups that exist are kept" >&2
        return 1
    fi
    if ! { sync "$partial" && mv "$partial" "$directory/$name"; }; then
        rm -f "$partial"
        say "$directory/$name could not be written; the backups that exist are kept" >&2
        return 1
    fi
    say "$name written, $(stat -c %s "$directory/$name") bytes"
    # the names sort by time
    mapfile -t old < <(find "$directory" -maxdepth 1 -type f -name 'gapfactory-*.archive.gz' | sort)
    for ((kept = ${#old[@]}; kept > keep; kept--)); do
        rm -f "${old[${#old[@]} - kept]}"
        say "$(basename "${old[${#old[@]} - kept]}") removed: more than $keep are kept"
    done
}

directory="${BACKUP_DIRECTORY:?set BACKUP_DIRECTORY to where the archives go}"
config="${BACKUP_CONFIG:?set BACKUP_CONFIG to a file with the line uri: mongodb://...}"
keep="${BACKUP_KEEP:-14}"
[[ "$keep" =~ ^[1-9][0-9]*$ ]] || die "BACKUP_KEEP=$keep is no positive number"
[[ -r "$config" ]] || die "BACKUP_CONFIG=$config cannot be read"
[[ -d "$directory" && -w "$directory" ]] || die "BACKUP_DIRECTORY=$directory is no directory that can be written to"
command -v mongodump >/dev/null || die "mongodump is not installed; it is in MongoDB's Database Tools"

case "${1:-once}:$#" in
    once:0) backup ;;
    loop:2)
        [[ "$2" =~ ^[1-9][0-9]*$ ]] || die "'$2' is no number of seconds"
        trap 'exit 0' TERM INT
        while true; do
            backup || true # said above; the next one may succeed
            sleep "$2" &
            wait $!
        done
        ;;
    *) die "usage: $0 [loop SECONDS]" ;;
esac
