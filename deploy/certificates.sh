#!/usr/bin/env bash
# Certificates for the database: an authority of one's own, servers' and clients' certificates signed by it.
#
#   deploy/certificates.sh ca DIR                     DIR/ca.pem (hand it to every client) and DIR/ca.key (keep it apart)
#   deploy/certificates.sh server DIR NAME [HOST...]  DIR/NAME.pem: key and certificate of a mongod, valid for NAME,
#                                                     localhost, 127.0.0.1 and every HOST (names or addresses)
#   deploy/certificates.sh client DIR NAME            DIR/NAME.pem: for a client that logs in by X.509; prints its subject
#   deploy/certificates.sh show DIR                   who each certificate is for, and how many days are left
#
# server and client make a new certificate each time, which replaces the old file in one step: that is also how one is
# renewed. ca never replaces an authority. Needs openssl 1.1.1 or newer.
#
#   GAPFACTORY_CA_DAYS   how long an authority is valid   (default: 3650)
#   GAPFACTORY_CERT_DAYS how long a certificate is valid  (default: 397)
set -euo pipefail
umask 077

die() {
    printf 'error: %s\n' "$@" >&2
    exit 1
}

usage() {
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2
    exit 2
}

name_ok() { # a name becomes a file, a part of a subject and of a list of names: nothing else may be in it
    [[ "$1" =~ ^[A-Za-z0-9]([A-Za-z0-9.:_-]*[A-Za-z0-9])?$ ]] || die "'$1' is no usable host or client name"
}

new_key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"; }

make_ca() {
    local directory="$1"
    [[ ! -e "$directory/ca.key" && ! -e "$directory/ca.pem" ]] ||
        die "$directory holds an authority already; all its certificates would be worthless with another one." \
            "Make the new one in a new directory; docs/how-to/operate.md says how to change over."
    mkdir -p "$directory"
    new_key "$directory/ca.key"
    openssl req -x509 -new -sha256 -key "$directory/ca.key" -days "${GAPFACTORY_CA_DAYS:-3650}" \
        -subj "/O=gapfactory/OU=authority/CN=gapfactory authority" \
        -addext "basicConstraints=critical,CA:TRUE,pathlen:0" -addext "keyUsage=critical,keyCertSign,cRLSign" \
        -out "$directory/ca.pem"
    chmod 644 "$directory/ca.pem"
}

sign() { # sign DIRECTORY NAME UNIT USAGE ALTERNATIVE-NAMES: NAME.pem holds the key, then the certificate
    local directory="$1" name="$2" unit="$3" usage="$4" alternatives="$5" work
    [[ -r "$directory/ca.key" && -r "$directory/ca.pem" ]] ||
        die "$directory holds no authority; make one: $0 ca $directory"
    work="$(mktemp -d "$directory/.new.XXXXXX")"
    # shellcheck disable=SC2064  # the directory of now
    trap "rm -rf '$work'" EXIT
    new_key "$work/key"
    openssl req -new -sha256 -key "$work/key" -subj "/O=gapfactory/OU=$unit/CN=$name" -out "$work/request"
    {
        printf 'basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n'
        printf 'extendedKeyUsage=%s\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n' "$usage"
        [[ -z "$alternatives" ]] || printf 'subjectAltName=%s\n' "$alternatives"
    } >"$work/extensions"
    openssl x509 -req -sha256 -in "$work/request" -CA "$directory/ca.pem" -CAkey "$directory/ca.key" \
        -set_serial "0x$(openssl rand -hex 16)" -days "${GAPFACTORY_CERT_DAYS:-397}" \
        -extfile "$work/extensions" -out "$work/certificate" 2>/dev/null || die "openssl could not sign for $name"
    openssl verify -CAfile "$directory/ca.pem" "$work/certificate" >/dev/null || die "the new certificate is not valid"
    cat "$work/key" "$work/certificate" >"$work/both"
    mv "$work/both" "$directory/$name.pem"
}

make_server() {
    local directory="$1" name="$2" host alternatives="" seen=" "
    shift 2
    for host in "$name" localhost 127.0.0.1 "$@"; do
        name_ok "$host"
        [[ "$seen" != *" $host "* ]] || continue
        seen+="$host "
        if [[ "$host" =~ ^[0-9.]+$ || "$host" == *:* ]]; then
            alternatives+="${alternatives:+,}IP:$host"
        else
            alternatives+="${alternatives:+,}DNS:$host"
        fi
    done
    # a member of a replica set is a server to clients and a client of the other members
    sign "$directory" "$name" servers "serverAuth,clientAuth" "$alternatives"
}

make_client() {
    name_ok "$2"
    # another OU than the servers': MongoDB takes a client whose O, OU and DC are a member's for a member
    sign "$1" "$2" clients "clientAuth" ""
    openssl x509 -in "$1/$2.pem" -noout -subject -nameopt RFC2253 | sed 's/^subject= *//'
}

show() {
    local file end
    for file in "$1"/*.pem; do
        [[ -f "$file" ]] || die "$1 holds no certificates"
        end="$(openssl x509 -in "$file" -noout -enddate | cut -d= -f2)"
        printf '%s: %s, %d days left\n' "$(basename "$file")" \
            "$(openssl x509 -in "$file" -noout -subject -nameopt RFC2253 | sed 's/^subject= *//')" \
            $((($(date -d "$end" +%s) - $(date +%s)) / 86400))
    done
}

command -v openssl >/dev/null || die "openssl is not installed"
case "${1:-}:$#" in
    ca:2) make_ca "$2" ;;
    server:[3-9] | server:[1-9][0-9]) make_server "${@:2}" ;;
    client:3) make_client "$2" "$3" ;;
    show:2) show "$2" ;;
    *) usage ;;
esac
