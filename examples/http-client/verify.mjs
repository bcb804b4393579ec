// Verifies proofs of a chain with nothing but Node's standard library and, for chains on the suite gm, the file gm.mjs: that
// a block holds a transaction, gave it a receipt with an event, left a value or none in the state, or is in the history of
// a later one. All it relies on is described in /openapi.json of any node; no node is asked.
import { createHash, createPublicKey, verify } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { deepStrictEqual as same } from 'node:assert'
import { fileURLToPath } from 'node:url'
import { sm2Verify, sm3 } from './gm.mjs'

export const cat = (...parts) => Buffer.concat(parts)
export const hex = bytes => '0x' + bytes.toString('hex')
export const bytes = text => Buffer.from(text.slice(2), 'hex')
export const need = (holds, what) => { if (!holds) throw new Error('not proven: ' + what) }

// CBOR in the core deterministic form of RFC 8949 §4.2.1.
function head(major, value) {
  let n = BigInt(value)
  const [code, size] = n < 24n ? [Number(n), 0] : n < 1n << 8n ? [24, 1] : n < 1n << 16n ? [25, 2] : n < 1n << 32n ? [26, 4] : [27, 8]
  const out = Buffer.alloc(1 + size, major << 5 | code)
  for (let i = size; i > 0; i--, n >>= 8n) out[i] = Number(n & 255n)
  return out
}
export function encode(v) {
  if (v === null) return Buffer.from([0xf6])
  if (typeof v === 'boolean') return Buffer.from([v ? 0xf5 : 0xf4])
  if (typeof v === 'string') return cat(head(3, Buffer.byteLength(v)), Buffer.from(v))
  if (Buffer.isBuffer(v)) return cat(head(2, v.length), v)
  if (Array.isArray(v)) return cat(head(4, v.length), ...v.map(encode))
  if (v < 1n << 64n) return head(0, v)
  const digits = v.toString(16)
  return cat(head(6, 2), encode(Buffer.from(digits.padStart(digits.length + digits.length % 2, '0'), 'hex')))
}
export function decode(raw) {
  let at = 0
  const item = depth => {
    const major = raw[at] >> 5, code = raw[at++] & 31, size = code < 24 ? 0 : 1 << code - 24
    need(depth < 32 && at + size <= raw.length && code < 28, 'the CBOR is cut off, or nested too deep')
    if (major === 7) return [false, true, null][code - 20]
    const n = size ? Number(BigInt(hex(raw.subarray(at, at += size)))) : code
    if (major === 0) return n
    need(major >= 2 && major <= 4 && n <= raw.length - at, 'there is less CBOR than it says')
    if (major === 2) return raw.subarray(at, at += n)
    if (major === 3) return raw.subarray(at, at += n).toString()
    return Array.from({ length: n }, () => item(depth + 1))
  }
  const value = item(0)
  same(hex(encode(value)), hex(raw), 'not canonical CBOR')
  return value
}

// A suite hashes, and says whether a member's signature over a message holds. A chain's genesis names its suite.
export const suites = {
  std: {
    hash: (...parts) => createHash('sha256').update(cat(...parts)).digest(),
    holds: (key, message, signature) => verify(null, message, createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x: key.toString('base64url') }, format: 'jwk' }), signature),
  },
  gm: { hash: (...parts) => Buffer.from(sm3(cat(...parts))), holds: sm2Verify },
}
export const digest = ({ hash }, thing, ...parts) => hash(Buffer.from(`fondaco/${thing}/1\0`), ...parts)

// The tree of RFC 6962 §2.1; paths are checked as in RFC 9162 §2.1.3.2.
export function underRoot({ hash }, root, leaf, [index, size, siblings]) {
  let n = index, last = size - 1, h = hash(Buffer.from([0]), leaf)
  for (const sibling of siblings) {
    if (last === 0) return false
    if (n % 2 || n === last) {
      h = hash(Buffer.from([1]), sibling, h)
      for (; n % 2 === 0 && n; n >>= 1) last >>= 1
    } else h = hash(Buffer.from([1]), h, sibling)
    n >>= 1
    last >>= 1
  }
  return index < size && last === 0 && h.equals(root)
}

// Checks that enough members of an epoch signed that a block is final, or, when survivors of a disaster did (kind 7),
// that an honest one must be among them.
function verifyFinal(suite, header, [statement, signers, signatures], [number, members], chain, group, engine) {
  const order = header[0], [kind, epoch, , height, orderHash, blockHash] = statement
  need(order[1].equals(chain) && order[2] === group && order[3] === number, 'the block is of another chain, group or epoch')
  need((kind === 7 || kind === (engine === 'raft' ? 6 : 3)) && epoch === order[3] && height === order[4], 'the certificate makes no block final, or another')
  need(orderHash.equals(digest(suite, 'order', encode(order))) && blockHash.equals(digest(suite, 'block', encode(header))), 'the certificate is for another block')
  const signed = digest(suite, 'bft', chain, Buffer.from([group.length]), Buffer.from(group), encode(statement))
  const voters = members.filter((_, i) => signers[i >> 3] >> i % 8 & 1)
  need(voters.length === signatures.length && voters.every(([, , [, key]], i) => suite.holds(key, signed, signatures[i])), 'a signature does not hold')
  const n = members.length, faulty = Math.floor((n - 1) / 3)
  need(voters.length >= (kind === 7 ? faulty : Math.floor((engine === 'raft' ? n : n + faulty) / 2)) + 1, `${voters.length} of ${n} members signed`)
  return voters.length
}

// The leaf of a key, or its absence, under a state root.
export function underState({ hash: H }, root, [key, value, present, [leaves, entries, siblings]]) {
  const path = H(Buffer.from([0, Math.min(key.length, 20)]), key), bit = (p, depth) => p[depth >> 3] >> 7 - depth % 8 & 1
  const leaf = (p, v) => H(Buffer.from([1]), p, v), depth = siblings.length
  if (depth > 256 || leaves.length > 16 || entries.length > 16) return false
  let bucket = leaves
  if (present) {
    const own = leaf(path, H(Buffer.from([2]), value))
    if (entries.length || !leaves.some(l => l.equals(own))) return false
  } else {
    if (leaves.length || value.length) return false
    const near = p => { for (let i = 0; i < depth; i++) if (bit(p, i) !== bit(path, i)) return false; return true }
    if (entries.some(([p], i) => p.equals(path) || !near(p) || i && Buffer.compare(entries[i - 1][0], p) >= 0)) return false
    bucket = entries.map(([p, v]) => leaf(p, v))
  }
  let h = bucket.length ? H(Buffer.from([3, bucket.length]), ...bucket) : Buffer.alloc(32)
  siblings.forEach((sibling, i) => { h = H(Buffer.from([4]), ...bit(path, depth - 1 - i) ? [sibling, h] : [h, sibling]) })
  return h.equals(root)
}

// Checks a claim with nothing trusted but { chain: its id }, with the genesis if the claim does not hold it, or
// { block: a hash } of a chain on a suite, std or gm. With chain, accepted are the hashes of the blocks with which the institutions agreed to go on after a
// disaster: no quorum signed those, so the chain's id alone does not lead over them. Returns what is proven.
export function verifyClaim(raw, { chain, genesis, block, suite: name = 'std', accepted = [] }) {
  const [version, header, certificate, tx, receipt, state, links, event, history, own] = decode(raw), order = header[0]
  need(block || own || genesis, 'there is no genesis')
  const suite = suites[block ? name : (own ?? genesis)[2]]
  need(suite, 'the suite is neither std nor gm')
  const certified = history ? history[0] : header, hash = digest(suite, 'block', encode(header)), ends = history ? digest(suite, 'block', encode(certified)) : hash
  need(version === 1 && order[0] === 1 && certified[0][0] === 1, 'the claim is of another version')
  let voters
  if (block) need(hash.equals(block) || ends.equals(block), 'it leads to another block than the one trusted')
  else {
    for (const g of [own, genesis]) need(!g || digest(suite, 'genesis', encode(g)).equals(chain), 'the genesis is that of another chain')
    const [, , , group, engine, , , founders] = own ?? genesis
    let now = [0, founders], open // a recovery that was not accepted, unless an accepted one follows: it is final as its ancestor
    const final = (header, certificate) => {
      const recovery = certificate[0][0] === 7, hash = digest(suite, 'block', encode(header))
      need(recovery || !open, open)
      open = recovery && !accepted.some(h => h.equals(hash)) &&
        `survivors of a disaster go on with block ${hex(hash)}; if the institutions agreed on that one, name it as the recovery that you accept`
      return verifyFinal(suite, header, certificate, now, chain, group, engine)
    }
    for (const [last, proof, next] of links) { // each epoch's members say who the next one's are
      final(last, proof)
      need(last[0][12] && next[0] === now[0] + 1 && last[7].equals(digest(suite, 'epoch', encode(next))), 'a block does not begin the next epoch')
      now = next
    }
    voters = final(certified, certificate)
    need(!open, open)
  }
  if (history) {
    need(order[1].equals(certified[0][1]) && order[2] === certified[0][2], 'the later block is of another chain or group')
    need(history[1][0] === order[4] && history[1][1] === certified[0][4] && underRoot(suite, certified[5], hash, history[1]), 'the block is not in the history of the later one')
  }
  if (tx) need(tx[1][1] === order[9] && underRoot(suite, order[8], digest(suite, 'signed-tx', tx[0]), tx[1]), 'the block does not hold the transaction')
  if (receipt) need(receipt[1][1] === order[9] && receipt[1][0] === receipt[0][2] &&
    underRoot(suite, header[3], digest(suite, 'receipt', encode(receipt[0])), receipt[1]), 'the block does not hold the receipt')
  if (tx && receipt) need(tx[1][0] === receipt[1][0], 'the receipt is that of another transaction')
  if (event !== null) need(receipt && event < receipt[0][8].length, 'there is no such event')
  if (state) need(underState(suite, header[2], state), 'the state does not hold the value, or is not without it')
  // Whoever trusts the block itself learns nothing of a later one: anybody can write a header with it in the history.
  return { height: order[4], hash, under: history && !block?.equals(hash) ? certified[0][4] : undefined, tx: tx?.[0], receipt: receipt?.[0],
    event: event === null ? undefined : receipt[0][8][event], state, voters }
}

// The command: what a proof in a file proves, for who trusts a chain's id, if the proof holds the genesis, and its recoveries, or a block.
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [file, by, id, ...more] = process.argv.slice(2), recoveries = []
  let suite, wrong = !['--chain', '--block'].includes(by)
  for (let i = 0; i < more.length; i += 2) {
    if (more[i] === '--recovery' && by === '--chain') recoveries.push(more[i + 1])
    else if (more[i] === '--suite' && by === '--block' && suites[more[i + 1]]) suite = more[i + 1]
    else wrong = true
  }
  try {
    if (wrong || [id, ...recoveries].some(h => !/^0x[0-9a-f]{64}$/.test(h))) {
      throw new Error('usage: verify.mjs FILE --chain ID [--recovery HASH]… | verify.mjs FILE --block HASH [--suite std|gm]')
    }
    const trusted = by === '--chain' ? { chain: bytes(id), accepted: recoveries.map(bytes) } : { block: bytes(id), suite }
    const { receipt, event, state, ...rest } = verifyClaim(readFileSync(file), trusted)
    const proven = {
      ...rest, receipt: receipt && { tx: receipt[1], status: receipt[3], code: receipt[4] },
      event: event && { contract: event[0], topic: event[1], data: event[2] }, state: state && { key: state[0], value: state[1], present: state[2] },
    }
    console.log(JSON.stringify(proven, function (name) { return Buffer.isBuffer(this[name]) ? hex(this[name]) : this[name] }))
  } catch (err) {
    console.error('verify: ' + err.message)
    process.exit(1)
  }
}
