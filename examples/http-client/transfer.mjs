// Transfers units of the example token through a node's HTTP API and verifies the proof of the receipt, with
// nothing but Node's standard library. All it relies on is described in /openapi.json of any node.
import { createHash, createPrivateKey, createPublicKey, randomBytes, sign, verify } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { deepStrictEqual as same } from 'node:assert'

const cat = (...parts) => Buffer.concat(parts)
const hex = bytes => '0x' + bytes.toString('hex')
const bytes = text => Buffer.from(text.slice(2), 'hex')
const need = (holds, what) => { if (!holds) throw new Error('not proven: ' + what) }

// CBOR in the core deterministic form of RFC 8949 §4.2.1.
function head(major, value) {
  let n = BigInt(value)
  const [code, size] = n < 24n ? [Number(n), 0] : n < 1n << 8n ? [24, 1] : n < 1n << 16n ? [25, 2] : n < 1n << 32n ? [26, 4] : [27, 8]
  const out = Buffer.alloc(1 + size, major << 5 | code)
  for (let i = size; i > 0; i--, n >>= 8n) out[i] = Number(n & 255n)
  return out
}
function encode(v) {
  if (v === null) return Buffer.from([0xf6])
  if (typeof v === 'boolean') return Buffer.from([v ? 0xf5 : 0xf4])
  if (typeof v === 'string') return cat(head(3, Buffer.byteLength(v)), Buffer.from(v))
  if (Buffer.isBuffer(v)) return cat(head(2, v.length), v)
  if (Array.isArray(v)) return cat(head(4, v.length), ...v.map(encode))
  if (v < 1n << 64n) return head(0, v)
  const digits = v.toString(16)
  return cat(head(6, 2), encode(Buffer.from(digits.padStart(digits.length + digits.length % 2, '0'), 'hex')))
}
function decode(raw) {
  let at = 0
  const item = () => {
    const major = raw[at] >> 5, code = raw[at++] & 31
    if (major === 7) return [false, true, null][code - 20]
    const size = code < 24 ? 0 : 1 << code - 24
    const n = size ? Number(BigInt(hex(raw.subarray(at, at += size)))) : code
    if (major === 2) return raw.subarray(at, at += n)
    if (major === 3) return raw.subarray(at, at += n).toString()
    return major === 4 ? Array.from({ length: n }, item) : n
  }
  const value = item()
  same(encode(value), raw, 'not canonical CBOR')
  return value
}

const H = (...parts) => createHash('sha256').update(cat(...parts)).digest()
const digest = (thing, ...parts) => H(Buffer.from(`fondaco/${thing}/1\0`), ...parts)
const signerOf = seed => createPrivateKey({ key: cat(bytes('0x302e020100300506032b657004220420'), seed), format: 'der', type: 'pkcs8' })
const publicOf = signer => Buffer.from(createPublicKey(signer).export({ format: 'jwk' }).x, 'base64url')
const holds = (key, message, signature) => verify(null, message, createPublicKey(
  { key: { kty: 'OKP', crv: 'Ed25519', x: key.toString('base64url') }, format: 'jwk' }), signature)

// The tree of RFC 6962 §2.1; paths are checked as in RFC 9162 §2.1.3.2.
function underRoot(root, leaf, [index, size, siblings]) {
  let n = index, last = size - 1, h = H(Buffer.from([0]), leaf)
  for (const sibling of siblings) {
    if (last === 0) return false
    if (n % 2 || n === last) {
      h = H(Buffer.from([1]), sibling, h)
      for (; n % 2 === 0 && n; n >>= 1) last >>= 1
    } else h = H(Buffer.from([1]), h, sibling)
    n >>= 1
    last >>= 1
  }
  return index < size && last === 0 && h.equals(root)
}

// Checks that enough members of an epoch signed that a block is final.
function verifyFinal(header, [statement, signers, signatures], [number, members], chain, group, engine) {
  const order = header[0], [kind, epoch, , height, orderHash, blockHash] = statement
  need(order[1].equals(chain) && order[2] === group && order[3] === number, 'the block is of another chain, group or epoch')
  need(kind === (engine === 'raft' ? 6 : 3) && epoch === order[3] && height === order[4], 'the certificate makes no block final, or another')
  need(orderHash.equals(digest('order', encode(order))) && blockHash.equals(digest('block', encode(header))), 'the certificate is for another block')
  const signed = digest('bft', chain, Buffer.from([group.length]), Buffer.from(group), encode(statement))
  const voters = members.filter((_, i) => signers[i >> 3] >> i % 8 & 1)
  need(voters.length === signatures.length && voters.every(([, , [, key]], i) => holds(key, signed, signatures[i])), 'a signature does not hold')
  const n = members.length, faulty = Math.floor((n - 1) / 3)
  need(voters.length >= Math.floor((engine === 'raft' ? n : n + faulty) / 2) + 1, `${voters.length} of ${n} members signed`)
  return voters.length
}

// Checks header and certificate of a claim, and the transaction and the receipt if it has them. Returns these.
function verifyClaim(raw, genesis, chain) {
  const [version, header, certificate, tx, receipt, , links] = decode(raw), order = header[0]
  const [, , , group, engine, , , founders] = genesis
  need(version === 1 && order[0] === 1, 'the claim is of another version')
  need(digest('genesis', encode(genesis)).equals(chain), 'the genesis is that of another chain')
  let now = [0, founders]
  for (const [last, proof, next] of links) { // each epoch's members say who the next one's are
    verifyFinal(last, proof, now, chain, group, engine)
    need(last[0][12] && next[0] === now[0] + 1 && last[7].equals(digest('epoch', encode(next))), 'a block does not begin the next epoch')
    now = next
  }
  const voters = verifyFinal(header, certificate, now, chain, group, engine)
  if (tx) need(tx[1][1] === order[9] && underRoot(order[8], digest('signed-tx', tx[0]), tx[1]), 'the block does not hold the transaction')
  if (receipt) need(receipt[1][1] === order[9] && receipt[1][0] === receipt[0][2] &&
    underRoot(header[3], digest('receipt', encode(receipt[0])), receipt[1]), 'the block does not hold the receipt')
  return { height: order[4], tx: tx?.[0], receipt: receipt?.[0], voters }
}

function selfTest(folder) { // against the golden vectors of the source: state/ledger/testdata
  const [keys, transactions, trees, claims] = ['keys', 'transactions', 'trees', 'claims'].map(name => JSON.parse(readFileSync(`${folder}/${name}.json`)))
  for (const { encoding, body, id, leaf, fields: f } of transactions) {
    const to = [bytes(f.to.address), f.to.name, f.to.version]
    const made = [f.version, bytes(f.chain), f.group, bytes(f.sender), bytes(f.nonce), f.expiry, f.gas_limit, to, f.method, bytes(f.args)]
    const signatures = f.signatures.map(s => [s.algorithm, bytes(s.key), bytes(s.signature)])
    same([hex(encode(made)), hex(encode([...made, signatures]))], [body, encoding])
    same([hex(digest('tx', bytes(body))), hex(digest('signed-tx', bytes(encoding)))], [id, leaf])
    for (const s of f.signatures.filter(s => s.algorithm === 1)) {
      const seed = bytes(keys.find(k => k.public === s.key).private)
      same([hex(publicOf(signerOf(seed))), hex(sign(null, bytes(id), signerOf(seed)))], [s.key, s.signature])
    }
  }
  for (const { leaves, root, proofs } of trees) leaves.forEach((leaf, i) => need(underRoot(bytes(root), bytes(leaf), decode(bytes(proofs[i]))), 'a path'))
  const check = raw => verifyClaim(raw, decode(bytes(claims.genesis)), digest('genesis', bytes(claims.genesis)))
  for (const c of claims.claims) check(bytes(c.encoding))
  const forgeries = (what, step) => { // every step-th byte is changed
    const whole = bytes(claims.claims.find(c => c.what === what).encoding), places = [...whole.keys()].filter(i => i % step === 0)
    const found = places.filter(i => {
      try { check(whole.map((b, j) => i === j ? b ^ 1 : b)) } catch { return true }
    })
    same(found.length, places.length, 'a changed byte is not found')
    return found
  }
  const found = [...forgeries('transaction and receipt', 1), ...forgeries('header of epoch 2', 5)]
  console.log(JSON.stringify({ transactions: transactions.length, trees: trees.length, claims: claims.claims.length, forgeries: found.length }))
}

async function transfer(base, keyFile, sender, token, to, amount, trusted) {
  const ask = async (path, body) => {
    const answer = await fetch(base + path, body && { method: 'POST', headers: { 'content-type': 'application/cbor' }, body })
    const document = await answer.json()
    if (!answer.ok) throw new Error(`${document.detail} (${document.code})`)
    return document
  }
  const seed = Buffer.from(readFileSync(keyFile, 'utf8').replace(/^(-----|Algorithm:).*$/gm, ''), 'base64')
  const addressOf = name => name.startsWith('0x') ? bytes(name) : digest('address/account', Buffer.from(name)).subarray(0, 20)
  const { chain, group, params } = await ask('/v1/chain')
  const body = [1, bytes(trusted ?? chain), group, addressOf(sender), randomBytes(16), Date.now() + 60_000, params.tx_gas,
    [bytes(token), '', ''], 'transfer', encode([addressOf(to), BigInt(amount)])]
  const id = digest('tx', encode(body)), signer = signerOf(seed)
  const raw = encode([...body, [[1, publicOf(signer), sign(null, id, signer)]]])
  let state = await ask('/v1/transactions', raw)
  while (state.progress === 'pending') state = await ask(`/v1/transactions/${hex(id)}?wait=10000&proof=true`)
  if (state.progress === 'committed' && !state.proof) state = await ask(`/v1/transactions/${hex(id)}?proof=true`)
  if (state.progress !== 'committed') throw new Error(`the transaction is ${state.progress}`)

  const g = await ask('/v1/genesis'), key = k => [['ed25519', 'p256', 'sm2'].indexOf(k.algorithm) + 1, bytes(k.key)], p = g.params
  const genesis = [g.version, g.name, g.suite, g.group, g.engine, g.trust_members, g.time_ms, g.members.map(m => [bytes(m.node), m.institution, key(m.key)]),
    [p.block_txs, p.block_bytes, p.block_gas, p.tx_gas, p.max_lifetime, p.window, p.clock_skew, p.rewrite, p.costs, p.memory_pages,
      p.deploy_roles, p.view_timeout, p.heartbeat_time, p.batch_delay],
    g.accounts.map(a => [a.name, a.institution, a.roles ?? [], a.keys.map(key)])]
  const proven = verifyClaim(bytes(state.proof), genesis, bytes(trusted ?? chain))
  need(proven.tx?.equals(raw) && proven.receipt?.[1].equals(id), 'the claim is about another transaction')
  console.log(JSON.stringify({ id: hex(id), height: proven.height, status: proven.receipt[3], code: proven.receipt[4], gas: proven.receipt[6], voters: proven.voters }))
}

const [first, ...rest] = process.argv.slice(2)
try {
  if (first === '--self-test' && rest.length === 1) selfTest(rest[0])
  else if (rest.length === 5 || rest.length === 6) await transfer(first, ...rest)
  else throw new Error('usage: transfer.mjs API KEYFILE SENDER TOKEN TO AMOUNT [CHAIN] | transfer.mjs --self-test state/ledger/testdata')
} catch (err) {
  console.error('transfer: ' + err.message)
  process.exit(1)
}
