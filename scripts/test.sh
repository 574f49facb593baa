#!/usr/bin/env bash
# Everything that must hold before a change is taken, cheapest first. Needs Rust and what setup.sh installs.
set -euo pipefail
cd "$(dirname "$0")/.."

# Queries are checked against the committed .sqlx, so no database is needed to build.
export SQLX_OFFLINE=true

stage() {
    printf '\n==> [%s/6] %s\n' "$1" "$2"
}

stage 1 "setup"
scripts/setup.sh
# What tests check bundles with, so that no test has to wait for a download.
scripts/independent.sh --install

stage 2 "formatting"
cargo fmt --all --check

stage 3 "the domain does no IO"
# Crates that would let a decision reach a database, the network or the event loop.
forbidden='^(sqlx.*|postgres.*|tokio-postgres|axum.*|hyper.*|reqwest|tower.*|http|mio|socket2|rustls|native-tls|openssl|rand|daybook|daybook-projections) '
# Not piped into grep at once: a failing cargo must not pass for a clean tree.
tree=$(cargo tree --locked -p daybook-domain -e normal --prefix none --format '{p}')
if found=$(grep -E "$forbidden" <<<"$tree" | sort -u); then
    printf 'daybook-domain must not depend on:\n%s\n' "$found" >&2
    exit 1
fi
features=$(cargo tree --locked -p daybook-domain -e normal --prefix none --format '{p} features={f}')
if found=$(grep -E '^tokio v.* features=(.*,)?(full|net|fs|process|signal)(,|$)' <<<"$features" | sort -u); then
    printf 'daybook-domain must not enable IO in tokio:\n%s\n' "$found" >&2
    exit 1
fi

# With every feature, once: what is built without them is the same code less its parts, and stage 6 builds it.
stage 4 "lints"
cargo clippy --locked --workspace --all-targets --all-features -- -D warnings

# Many tests wait, for a time to pass or a process to end: more of them than there are cores, where cores are few.
stage 5 "tests"
cores=$(nproc)
RUST_TEST_THREADS=${RUST_TEST_THREADS:-$((cores < 4 ? 4 : cores))} \
    cargo test --locked --workspace --all-features

stage 6 "the API against its own description"
scripts/schemathesis.sh
