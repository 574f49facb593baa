// Checks an unpacked bundle with other people's code: @transmute/rfc9162 and canonicalize. `verify.mjs FOLDER`.
//
// Nothing here is Daybook's, and nothing here asks Daybook. Prints what it checked; ends with an error otherwise.

import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'
import { join } from 'node:path'

// What is installed is beside neither the sources nor the bundle.
const modules = createRequire(join(process.env.DAYBOOK_NODE_MODULES, 'package.json'))
const { RFC9162 } = modules('@transmute/rfc9162')
const { default: canonicalize } = await import(
  pathToFileURL(join(process.env.DAYBOOK_NODE_MODULES, 'node_modules/canonicalize/lib/canonicalize.js'))
)

const folder = process.argv[2]
const read = (path) => readFileSync(join(folder, path))
const bytes = (hex) => new Uint8Array(Buffer.from(hex, 'hex'))
const check = (holds, what) => {
  if (!holds) {
    console.error(`verify.mjs: ${what}`)
    process.exit(1)
  }
}
const canonical = (data, what) => {
  const text = new TextDecoder('utf-8', { fatal: true }).decode(data)
  const value = JSON.parse(text)
  check(canonicalize(value) === text, `${what} is not canonical`)
  return value
}
const included = async (leaf, index, size, root, path, what) => {
  const proof = { log_id: '', tree_size: size, leaf_index: index, inclusion_path: path.map(bytes) }
  check(await RFC9162.verifyInclusionProof(root, await RFC9162.leaf(new Uint8Array(leaf)), proof), `${what} is not in its tree`)
}

const head = (path) => {
  const [origin, size, root] = read(path).toString().split('\n')
  return { origin, size: Number(size), root: new Uint8Array(Buffer.from(root, 'base64')) }
}
const { size, root, origin } = head('checkpoint')
const manifest = canonical(read('manifest.json'), 'the manifest')

const leaves = []
for (const { path } of manifest.files.filter(({ path }) => path.startsWith('tile/entries/'))) {
  const data = read(path)
  for (let at = 0; at < data.length; ) {
    const end = at + 2 + data.readUInt16BE(at)
    if (end > at + 2) leaves.push(new Uint8Array(data.subarray(at + 2, end)))
    at = end
  }
}
const from = Number(manifest.from)
leaves.forEach((leaf, at) => {
  check(canonical(leaf.subarray(1), `leaf ${at}`).position === String(from + at), 'a leaf is of another position')
})
check(leaves.length === Number(manifest.to) - from + 1, 'an event is missing')
if (leaves.length === size) check(await RFC9162.verifyTree(root, leaves), 'the leaves do not give the root')

for (const [end, leaf] of [['first', leaves[0]], ['last', leaves.at(-1)]]) {
  const proof = canonical(read(`proof/${end}.json`), 'a proof')
  await included(leaf, Number(proof.position) - 1, size, root, proof.proof, `the ${end} leaf`)
}
for (const { path } of manifest.files.filter(({ path }) => path.startsWith('records/'))) {
  for (const line of read(path).toString().split('\n').filter(Boolean)) {
    const record = JSON.parse(line)
    const leaf = Buffer.from(record.leaf, 'base64')
    await included(leaf, Number(record.position) - 1, size, root, record.proof, 'a record')
  }
}
if (manifest.head_log) {
  const heads = head('head-log/checkpoint')
  const proof = canonical(read('head-log/proof.json'), "the head's proof")
  const entry = canonical(Buffer.from(proof.entry), 'the entry')
  const named = canonical(Buffer.from(proof.head), 'the head')
  check(named.origin === origin, 'the head is of another log')
  check(!named.alarms, 'the log of heads says that something is wrong with this log')
  await included(Buffer.from(proof.entry), Number(proof.entry_index), heads.size, heads.root, proof.entry_proof, 'the entry')
  await included(Buffer.from(proof.head), Number(proof.head_index), Number(proof.head_count), bytes(entry.heads_root), proof.head_proof, 'the head')
  const before = Number(named.size)
  if (before < size) {
    // RFC 9162, 2.1.4.2, step 2, which the library leaves to its caller.
    const path = proof.consistency.map(bytes)
    if (Number.isInteger(Math.log2(before))) path.unshift(bytes(named.root))
    const shown = { log_id: '', tree_size_1: before, tree_size_2: size, consistency_path: path }
    check(await RFC9162.verifyConsistencyProof(bytes(named.root), root, shown), 'the log was rewritten since the log of heads named it')
  } else {
    check(named.root === Buffer.from(root).toString('hex'), 'the head is not the one of the checkpoint')
  }
}
console.log(`verify.mjs: ${leaves.length} events of ${origin}`)
