#!/usr/bin/env bash
# Checks every `query!` against the migrations, in a private PostgreSQL made for the purpose, and renews .sqlx.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD

bin=${DAYBOOK_PG_BIN:-$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -1)}
[ -x "$bin/initdb" ] || bin=$(dirname "$(command -v initdb)")
directory=$(mktemp -d /tmp/daybook-sqlx-XXXXXX)

# PostgreSQL refuses to run as root.
as_postgres=()
if [ "$(id -u)" -eq 0 ]; then
    chown postgres: "$directory"
    as_postgres=(setpriv --reuid=postgres --regid=postgres --clear-groups)
fi
cleanup() {
    (cd / && "${as_postgres[@]}" "$bin/pg_ctl" stop -D "$directory/pg" -m immediate >/dev/null 2>&1) || true
    rm -rf "$directory"
}
trap cleanup EXIT

(
    cd /
    "${as_postgres[@]}" "$bin/initdb" -D "$directory/pg" -U postgres -A trust -E UTF8 --locale=C.UTF-8 -N >/dev/null
    "${as_postgres[@]}" "$bin/pg_ctl" start -w -D "$directory/pg" -l "$directory/log" \
        -o "-c fsync=off -c listen_addresses='' -k $directory" >/dev/null
)
psql=("$bin/psql" -X -q -v ON_ERROR_STOP=1 -h "$directory" -U postgres -d postgres)

# A query names its tables without a schema, and finds them in the tenant's or the platform's. Both are made
# as in production: the log's tables first.
migrate() {
    local schema=$1 kind=$2 file
    # The schema's role: migrations name it.
    "${psql[@]}" -c "CREATE SCHEMA $schema" -c "CREATE ROLE $schema"
    for file in migrations/log/*.sql migrations/"$kind"/*.sql; do
        PGOPTIONS="-c search_path=$schema -c client_min_messages=warning" "${psql[@]}" -1 -f "$file"
    done
}
migrate daybook_dev tenant
migrate daybook_platform platform

prepared=$(mktemp -d "$directory.queries-XXXXXX")
# Checked queries live in the read models' crate only. The macros run when it is compiled anew.
url="postgres://postgres@${directory//\//%2F}/postgres?options=-c%20search_path%3Ddaybook_dev,daybook_platform"
touch projections/src/lib.rs
SQLX_OFFLINE=false SQLX_OFFLINE_DIR=$prepared DATABASE_URL=$url cargo check -q -p daybook-projections --all-targets
[ -n "$(ls -A "$prepared")" ] || { echo "sqlx-prepare: no query was seen" >&2; exit 1; }
rm -rf "$root/.sqlx"
mkdir "$root/.sqlx"
mv "$prepared"/*.json "$root/.sqlx/"
rmdir "$prepared"
echo "sqlx-prepare: $(ls "$root/.sqlx" | wc -l) queries"
