"""Checks an unpacked bundle with other people's code: pymerkle, cryptography, rfc8785. `verify.py FOLDER VKEY`.

Nothing here is Daybook's, and nothing here asks Daybook. Prints what it checked; ends with an error otherwise.
"""

import base64
import csv
import hashlib
import json
import pathlib
import re
import sys

import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pymerkle import InmemoryTree
from pymerkle.core import _inclusion_path_layout
from pymerkle.hasher import MerkleHasher
from pymerkle.proof import InclusionProof, verify_inclusion

WIDTH = 256
hasher = MerkleHasher("sha256")


def check(holds, what):
    if not holds:
        sys.exit(f"verify.py: {what}")


def canonical(data, what):
    value = json.loads(data)
    check(rfc8785.dumps(value) == data, f"{what} is not canonical")
    return value


def signed(note, vkey):
    """The text of a note that this key has signed."""
    name, key_id, encoded = vkey.split("+", 2)
    kind, public = base64.b64decode(encoded)[:1], base64.b64decode(encoded)[1:]
    check(kind == b"\x01" and len(public) == 32, "the verifier key is not one of Ed25519")
    digest = hashlib.sha256(name.encode() + b"\n" + kind + public).digest()
    check(digest[:4].hex() == key_id, "the verifier key's hash is not its own")
    text, _, signatures = note.partition("\n\n")
    text += "\n"
    for line in signatures.splitlines():
        dash, signer, encoded = line.split(" ")
        signature = base64.b64decode(encoded)
        if dash == "\u2014" and signer == name and signature[:4].hex() == key_id:
            Ed25519PublicKey.from_public_bytes(public).verify(signature[4:], text.encode())
            return text
    sys.exit(f"verify.py: {name} has not signed this note")


def included(leaf_hash, index, size, root, path):
    rule, _ = _inclusion_path_layout(index + 1, size)
    proof = InclusionProof("sha256", True, size, index + 1, rule, [leaf_hash, *map(bytes.fromhex, path)])
    verify_inclusion(leaf_hash, root, proof, index=index + 1, size=size)


def perfect(hashes):
    while len(hashes) > 1:
        hashes = [hasher.hash_pair(a, b) for a, b in zip(hashes[::2], hashes[1::2])]
    return hashes[0]


def numbered(path):
    """The number in a tile's path, and its width."""
    number, _, width = path.partition(".p/")
    return int("".join(re.findall(r"\d{3}", number))), int(width or WIDTH)


folder, vkey = pathlib.Path(sys.argv[1]), sys.argv[2]
read = lambda path: (folder / path).read_bytes()
lines = lambda pattern: [json.loads(line) for path in sorted(folder.glob(pattern)) for line in path.read_bytes().splitlines()]

# The checkpoint and the manifest, each with its signature; each file by the manifest.
origin, size, root, *_ = signed(read("checkpoint").decode(), vkey).splitlines()
size, root = int(size), base64.b64decode(root)
manifest = canonical(read("manifest.json"), "the manifest")
statement = signed(read("manifest.sig").decode(), vkey).splitlines()
check(statement[0] == origin == manifest["origin"], "the manifest is of another origin")
check(statement[1].split()[-1] == hashlib.sha256(read("manifest.json")).hexdigest(), "another manifest was signed")
listed = {file["path"]: file for file in manifest["files"]}
there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
check(there == set(listed) | {"manifest.json", "manifest.sig"}, "the files are not those of the manifest")
for path, file in listed.items():
    data = read(path)
    check(hashlib.sha256(data).hexdigest() == file["sha256"] and len(data) == int(file["bytes"]), f"{path} was changed")
check(manifest["size"] == str(size) and manifest["root"] == root.hex(), "the manifest is of another tree")

# The tiles, up to the root.
tiles = {}
for path in listed:
    if match := re.fullmatch(r"tile/(\d)/(.*)", path):
        number, width = numbered(match[2])
        data = read(path)
        check(len(data) == 32 * width, f"{path} is not as wide as it says")
        tiles[int(match[1]), number] = [data[at : at + 32] for at in range(0, len(data), 32)]
edge = []
for level in range(8):
    below = size >> (8 * level)
    if below % WIDTH and (level, below // WIDTH) in tiles:
        hashes = tiles[level, below // WIDTH]
        check(len(hashes) == below % WIDTH, "a tile of the edge is not as wide as the tree makes it")
        while hashes:
            # The largest perfect subtrees first.
            width = 1 << (len(hashes).bit_length() - 1)
            edge.append((level, width, perfect(hashes[:width])))
            hashes = hashes[width:]
edge.sort(key=lambda part: (part[0], part[1]))
check(hasher.hash_fold([digest for _, _, digest in edge]) == root, "the tiles do not give the root")
for (level, number), hashes in tiles.items():
    if len(hashes) == WIDTH:
        check(tiles[level + 1, number // WIDTH][number % WIDTH] == perfect(hashes), "a tile is not the one of the tree")

# The leaves.
leaves = {}
entries = {numbered(path[13:]): path for path in listed if path.startswith("tile/entries/")}
for (number, width), path in sorted(entries.items()):
    data, at, index = read(path), 0, number * WIDTH
    while at < len(data):
        length = int.from_bytes(data[at : at + 2], "big")
        leaf, at = data[at + 2 : at + 2 + length], at + 2 + length
        if leaf:
            check(hasher.hash_buff(leaf) == tiles[0, number][index % WIDTH], f"the leaf at {index} was changed")
            leaves[index] = leaf
        index += 1
    check(at == len(data) and index == number * WIDTH + width, f"{path} is not as wide as it says")
first, last = int(manifest["from"]), int(manifest["to"])
check(sorted(leaves) == list(range(first - 1, last)), "an event is missing")
events, sequences, before = {}, {}, ""
for index, leaf in sorted(leaves.items()):
    check(leaf[:1] == b"\x01", "a leaf is of another version")
    event = canonical(leaf[1:], f"the leaf at {index}")
    check(event["position"] == str(index + 1), "a leaf is of another position")
    check(event["tenant"] == manifest["log_id"], "a leaf is of another log")
    check(before <= event["recorded_at"], "a leaf was dated back")
    stream, sequence = (event["aggregate_type"], event["aggregate_id"]), int(event["sequence"])
    check(sequences.get(stream, sequence - 1) == sequence - 1, "a stream has a gap")
    events[index + 1], sequences[stream], before = event, sequence, event["recorded_at"]
if (first, last) == (1, size):
    tree = InmemoryTree(algorithm="sha256")
    tree.append_entries([leaf for _, leaf in sorted(leaves.items())])
    check(tree.get_root() == root, "the leaves do not give the root")

# Audit paths: of the ends, of what was pruned and erased, of the head in the log of heads.
for end in ["first", "last"]:
    proof = canonical(read(f"proof/{end}.json"), "a proof")
    included(bytes.fromhex(proof["leaf_hash"]), int(proof["position"]) - 1, size, root, proof["proof"])
    check(hasher.hash_buff(leaves[int(proof["position"]) - 1]).hex() == proof["leaf_hash"], "a proof of another leaf")
for record in lines("records/*.ndjson"):
    leaf = base64.b64decode(record["leaf"])
    included(hasher.hash_buff(leaf), int(record["position"]) - 1, size, root, record["proof"])
    check(canonical(leaf[1:], "a record")["position"] == record["position"], "a record of another position")
if manifest["head_log"]:
    keys = canonical(read("keys.json"), "the keys")["head_log"]
    note = read("head-log/checkpoint").decode()
    live = [key["vkey"] for key in keys["keys"] if key["live"]]
    text = signed(note, live[-1]).splitlines()
    check(text[0] == keys["origin"], "the log of heads is another")
    proof = canonical(read("head-log/proof.json"), "the head's proof")
    entry, head = canonical(proof["entry"].encode(), "the entry"), canonical(proof["head"].encode(), "the head")
    included(hasher.hash_buff(proof["entry"].encode()), int(proof["entry_index"]), int(text[1]), base64.b64decode(text[2]), proof["entry_proof"])
    included(hasher.hash_buff(proof["head"].encode()), int(proof["head_index"]), int(proof["head_count"]), bytes.fromhex(entry["heads_root"]), proof["head_proof"])
    check("alarms" not in head, "the log of heads says that something is wrong with this log")
    check(head["origin"] == origin and int(head["size"]) <= size, "the head is of another log, or newer")
    if (first, last) == (1, size):
        check(tree.get_root(int(head["size"])).hex() == head["root"], "the log was rewritten since the log of heads named it")

# Personal values, and the rows.
disclosed = 0
for line in lines("disclosed/*.ndjson"):
    event = events[int(line["position"])]
    check(event["id"] == line["event_id"], "a value of another event")
    parts = [b"daybook personal value v1", bytes.fromhex(line["event_id"].replace("-", "")), line["field"].encode(), bytes.fromhex(line["salt"]), rfc8785.dumps(line["value"])]
    digest = hashlib.sha256(b"".join(len(part).to_bytes(8, "big") + part for part in parts)).hexdigest()
    check(event["commitments"][line["field"]] == digest, f"`{line['field']}` is not what the leaf commits to")
    disclosed += 1
check(str(disclosed) == manifest["disclosed"], "another number of values is disclosed")


def as_row(position, row, payload, inert):
    event = events[position]
    # In CSV apostrophes stand where a spreadsheet might see the beginning of a formula.
    plain = (lambda text: text.replace("'", "")) if inert else (lambda text: text)
    for name in ["actor", "aggregate_id", "recorded_at", "reason", "ip"]:
        check(plain(row[name] or "") == plain(event.get(name, "")), f"`{name}` of {position} was changed")
    check(row["leaf_hash"] == hasher.hash_buff(leaves[position - 1]).hex(), f"`leaf_hash` of {position} was changed")
    check(payload == event["payload"], f"`payload` of {position} was changed")


rows = lines("events/*.ndjson")
check([row["position"] for row in rows] == sorted(events), "the JSON lines are not those of the events")
for row in rows:
    as_row(row["position"], row, row["payload"], False)
csv.field_size_limit(1 << 24)
rows = []
for path in sorted(folder.glob("events/*.csv")):
    with open(path, newline="", encoding="utf-8") as file:
        rows.extend(csv.DictReader(file))
check([int(row["position"]) for row in rows] == sorted(events), "the CSV rows are not those of the events")
for row in rows:
    as_row(int(row["position"]), row, json.loads(row["payload"]), True)
print(f"verify.py: {len(events)} events of {origin}, {disclosed} personal values")
