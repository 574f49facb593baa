#!/usr/bin/env bash
# Checks a bundle without Daybook: with tar, openssl, and libraries of other people (tests/independent/). They are
# installed to the target directory, in the versions that are pinned there.
#
#   scripts/independent.sh --install         installs what is missing, and nothing else
#   scripts/independent.sh BUNDLE VKEY
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
here=$root/tests/independent
place=${CARGO_TARGET_DIR:-$root/target}/independent

# Once; again when other versions are asked for. The stamp is written last, so that half an installation is none.
install() {
    local wanted
    wanted=$(cat "$here/requirements.txt" "$here/package-lock.json")
    [ "$(cat "$place/installed" 2>/dev/null)" != "$wanted" ] || return 0
    rm -rf "$place/venv" "$place/node" "$place/installed"
    python3 -m venv "$place/venv"
    "$place/venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
    mkdir -p "$place/node"
    cp "$here/package.json" "$here/package-lock.json" "$place/node/"
    (cd "$place/node" && PATH=$place/venv/bin:$PATH npm ci --silent --no-audit --no-fund --ignore-scripts)
    printf '%s\n' "$wanted" >"$place/installed"
}

mkdir -p "$place"
# Several tests may be the first.
exec 9>"$place/lock"
flock 9
install
exec 9>&-
[ "$1" != --install ] || exit 0

bundle=$1 vkey=$2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/bundle"
tar -xzf "$bundle" -C "$folder/bundle"

# As README.txt in the bundle says.
key_id=$(cut -d+ -f2 <<<"$vkey")
cut -d+ -f3- <<<"$vkey" | base64 -d | tail -c 32 >"$folder/key.raw"
(printf '\060\052\060\005\006\003\053\145\160\003\041\000' && cat "$folder/key.raw") >"$folder/key.der"
for note in checkpoint manifest.sig; do
    sed '/^$/,$d' "$folder/bundle/$note" >"$folder/text"
    while read -r signature; do
        # With two keys there are two signatures: the one of this key.
        if [ "$(base64 -d <<<"$signature" | head -c 4 | od -An -tx1 | tr -d ' \n')" = "$key_id" ]; then
            base64 -d <<<"$signature" | tail -c 64 >"$folder/signature"
        fi
    done < <(sed -n 's/^— [^ ]* //p' "$folder/bundle/$note")
    openssl pkeyutl -verify -pubin -keyform DER -inkey "$folder/key.der" -rawin -in "$folder/text" \
        -sigfile "$folder/signature" >"$folder/said" || { cat "$folder/said" >&2; exit 1; }
    rm "$folder/signature"
done

"$place/venv/bin/python" "$here/verify.py" "$folder/bundle" "$vkey"
DAYBOOK_NODE_MODULES=$place/node "$place/venv/bin/node" "$here/verify.mjs" "$folder/bundle"
