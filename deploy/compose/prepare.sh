#!/usr/bin/env bash
# Prepares the machine for deploy/compose/compose.yaml, once: secrets, certificates, directories and .env.
#
#   deploy/compose/prepare.sh HOST      HOST is the name by which every client and worker reaches this machine
#
# What is there is kept: run again, it makes only what is missing. Secrets are files below deploy/compose/secrets that
# only this user may read; none is ever printed. GAPFACTORY_COMPOSE names another directory than deploy/compose (tests).
set -euo pipefail
umask 077

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
place="${GAPFACTORY_COMPOSE:-$here}"
host="${1:-}"
[[ $# == 1 && "$host" =~ ^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$ ]] || {
    printf 'usage: %s HOST, the name by which clients reach this machine\n' "$0" >&2
    exit 2
}
if [[ "$host" == localhost || "$host" == 127.* ]]; then
    printf 'error: other machines cannot reach this one as %s; give the name that they use\n' "$host" >&2
    exit 1
fi

secrets="$place/secrets"
mkdir -p "$secrets" "$place/authority" "$place/data/mongo" "$place/data/archives" "$place/data/backups" "$place/data/scratch"

make() { # make NAME COMMAND...: the file NAME from the output of a command, whole or not at all
    local target="$secrets/$1"
    shift
    [[ ! -e "$target" ]] || return 0
    "$@" >"$target.new"
    mv "$target.new" "$target"
}

random() { openssl rand -hex 32; }

uri() { # uri USER: hexadecimal passwords need no escaping
    printf 'mongodb://%s:%s@%s:27017/admin?replicaSet=gapfactory&tls=true&tlsCAFile=/run/secrets/ca.pem' \
        "$1" "$(cat "$secrets/$1.password")" "$host"
}

make keyfile openssl rand -base64 756
make admin.password random
make backup.password random
make admin.uri uri admin
make backup.yaml printf 'uri: "%s"\n' "$(uri backup)"
# compose wants every secret's file to exist; 'gapfactory db users add' fills these
make maintenance.uri true
make workers.uri true
make prune.uri true
make dashboard.uri true
# signs the logins of the dashboard
make dashboard.key random
# whom to tell of what: docs/reference/notifications.md
make notices.yaml true
make notices.secret true

[[ -e "$place/authority/ca.pem" ]] || "$here/../certificates.sh" ca "$place/authority"
if [[ ! -e "$secrets/server.pem" ]]; then
    "$here/../certificates.sh" server "$place/authority" "$host"
    cp "$place/authority/$host.pem" "$secrets/server.pem"
fi
make ca.pem cat "$place/authority/ca.pem"

if [[ ! -e "$place/.env" ]]; then
    printf '%s\n' "GAPFACTORY_HOST=$host" "GAPFACTORY_USER=$(id -u):$(id -g)" >"$place/.env"
fi
printf 'ready: %s\n' "$place"
printf 'keep %s and a copy of %s away from this machine\n' "$place/authority/ca.key" "$secrets"
