#!/bin/bash
# Makes the cluster at the first start, as the official image does it: the superuser's password comes
# from POSTGRES_PASSWORD_FILE, /docker-entrypoint-initdb.d/*.sql is run before anybody can connect.
set -euo pipefail

# initdb wants to know its user's name, which is no account of this image where compose chose the id.
if ! getent passwd "$(id -u)" > /dev/null; then
    known=$(mktemp -d)
    printf 'postgres:x:%s:%s:PostgreSQL:/:/bin/false\n' "$(id -u)" "$(id -g)" > "$known/passwd"
    printf 'postgres:x:%s:\n' "$(id -g)" > "$known/group"
    export NSS_WRAPPER_PASSWD=$known/passwd NSS_WRAPPER_GROUP=$known/group
    export LD_PRELOAD=libnss_wrapper.so
fi

# From here on `postgres -c ...` is what was asked for; another command is simply run.
if [ "${1:-}" = postgres ] && [ ! -s "$PGDATA/PG_VERSION" ]; then
    : "${POSTGRES_PASSWORD_FILE:?names the file with the superuser\'s password and is not set}"
    mkdir -p "$PGDATA"
    chmod 700 "$PGDATA"
    # shellcheck disable=SC2086 # several options in one variable, as with the official image
    initdb --pgdata "$PGDATA" --username postgres --pwfile "$POSTGRES_PASSWORD_FILE" \
        ${POSTGRES_INITDB_ARGS:-} > /dev/null
    printf '\nhost all all all scram-sha-256\n' >> "$PGDATA/pg_hba.conf"
    pg_ctl --pgdata "$PGDATA" --wait --silent --options "$(printf '%q ' "${@:2}" -c listen_addresses=)" start
    PGPASSWORD=$(< "$POSTGRES_PASSWORD_FILE")
    export PGPASSWORD
    for file in /docker-entrypoint-initdb.d/*.sql; do
        [ -e "$file" ] || continue
        psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --host /var/run/postgresql \
            --username postgres --dbname postgres --file "$file"
    done
    unset PGPASSWORD
    pg_ctl --pgdata "$PGDATA" --mode fast --wait --silent stop
fi
exec "$@"
