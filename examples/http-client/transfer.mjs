// Transfers units of the example token through a node's HTTP API and verifies the proof of the receipt, with
// nothing but Node's standard library, and gm.mjs for chains on the suite gm. All it relies on is described in
// /openapi.json of any node.
import { createPrivateKey, createPublicKey, randomBytes, sign } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { deepStrictEqual as same, throws } from 'node:assert'
import { sm2Signer } from './gm.mjs'
import { bytes, cat, decode, digest, encode, hex, need, suites, underRoot, underState, verifyClaim } from './verify.mjs'

const algorithms = [, 'ed25519', 'p256', 'sm2'] // by number
// signers make of a private key its public key, and what signs with it.
const signers = {
  ed25519(seed) {
    const key = createPrivateKey({ key: cat(bytes('0x302e020100300506032b657004220420'), seed), format: 'der', type: 'pkcs8' })
    return { publicKey: Buffer.from(createPublicKey(key).export({ format: 'jwk' }).x, 'base64url'), sign: id => sign(null, id, key) }
  },
  sm2(scalar) {
    const { publicKey, sign } = sm2Signer(scalar)
    return { publicKey: Buffer.from(publicKey), sign: id => Buffer.from(sign(id)) }
  },
}

function selfTest(folder) { // against the golden vectors of the source: state/ledger/testdata
  const [keys, transactions, trees, worlds, claims, recovery] = ['keys', 'transactions', 'trees', 'state', 'claims', 'recovery'].map(name => JSON.parse(readFileSync(`${folder}/${name}.json`)))
  const genesis = decode(bytes(claims.genesis)), name = genesis[2], suite = suites[name], chain = digest(suite, 'genesis', bytes(claims.genesis))
  for (const { encoding, body, id, leaf, fields: f } of transactions) {
    const to = [bytes(f.to.address), f.to.name, f.to.version]
    const made = [f.version, bytes(f.chain), f.group, bytes(f.sender), bytes(f.nonce), f.expiry, f.gas_limit, to, f.method, bytes(f.args)]
    const signatures = f.signatures.map(s => [s.algorithm, bytes(s.key), bytes(s.signature)])
    same([hex(encode(made)), hex(encode([...made, signatures]))], [body, encoding])
    same([hex(digest(suite, 'tx', bytes(body))), hex(digest(suite, 'signed-tx', bytes(encoding)))], [id, leaf])
    for (const s of f.signatures.filter(s => signers[algorithms[s.algorithm]])) {
      const signer = signers[algorithms[s.algorithm]](bytes(keys.find(k => k.public === s.key).private))
      same([hex(signer.publicKey), hex(signer.sign(bytes(id)))], [s.key, s.signature])
    }
  }
  for (const { leaves, root, proofs } of trees) leaves.forEach((leaf, i) => need(underRoot(suite, bytes(root), bytes(leaf), decode(bytes(proofs[i]))), 'a path'))
  for (const { root, entries } of worlds) for (const { key, value, present, proof } of entries) {
    const [k, v, paths] = [bytes(key), bytes(value), decode(bytes(proof))]
    need(underState(suite, bytes(root), [k, v, present, paths]), 'a state path')
    need(!underState(suite, bytes(root), [k, v, !present, paths]), 'a state path shows the contrary too')
  }
  const { holds } = suite, verdicts = new Map() // a signature in many claims is checked once, as one of SM2 takes long
  suite.holds = (...parts) => {
    const which = parts.map(hex).join()
    if (!verdicts.has(which)) verdicts.set(which, holds(...parts))
    return verdicts.get(which)
  }
  same(recovery.genesis, claims.genesis)
  for (const accepted of [[], [chain]]) throws(() => verifyClaim(bytes(recovery.claim), { chain, genesis, accepted }), new RegExp(recovery.accepted))
  const all = [...claims.claims, { what: 'recovery', encoding: recovery.claim, accepted: [bytes(recovery.accepted)] }]
  const found = {}
  for (const { what, encoding, accepted } of all) {
    const whole = bytes(encoding), said = raw => { const { voters, ...proven } = verifyClaim(raw, { chain, genesis, accepted }); return proven }
    const proven = said(whole), { hash } = proven
    same(verifyClaim(whole, { block: hash, suite: name }).height, proven.height)
    same(verifyClaim(whole, { block: hash, suite: name }).under, undefined)
    const bogus = decode(whole) // a later block whose history is another one
    if (bogus[8]) {
      bogus[8][0][5] = Buffer.alloc(32, 1)
      throws(() => verifyClaim(encode(bogus), { block: hash, suite: name }), /not in the history/)
    }
    if (decode(whole)[9]) verifyClaim(whole, { chain })
    // Where a byte is changed, the claim no longer holds, or it is about a neighbour in the state that is not there either.
    const places = [...whole.keys()].filter(i => i % Math.ceil(whole.length / (name === 'gm' ? 90 : 300)) === 0) // an SM2 signature takes long
    found[what] = places.filter(i => {
      try {
        const other = said(whole.map((b, j) => i === j ? b ^ 1 : b))
        need(proven.state && !proven.state[2] && !other.state[2] && !other.state[0].equals(proven.state[0]), `a changed byte ${i} of ${what} is not found`)
      } catch (err) { if (err.message.includes('a changed byte')) throw err; return true }
    }).length
  }
  const forgeries = Object.values(found).reduce((a, b) => a + b)
  console.log(JSON.stringify({ suite: name, transactions: transactions.length, trees: trees.length, worlds: worlds.length, claims: all.length, forgeries }))
}

async function transfer(base, keyFile, sender, token, to, amount, trusted, ...recoveries) {
  const ask = async (path, body) => {
    const answer = await fetch(base + path, body && { method: 'POST', headers: { 'content-type': 'application/cbor' }, body })
    const document = await answer.json()
    if (!answer.ok) throw Object.assign(new Error(`${document.detail} (${document.code})`), document)
    return document
  }
  const { chain, group, suite: suiteName, params } = await ask('/v1/chain'), suite = suites[suiteName]
  if (!suite) throw new Error(`the chain has the suite ${suiteName}, and this speaks ${Object.keys(suites).join(' and ')}`)
  const text = readFileSync(keyFile, 'utf8'), algorithm = /^Algorithm: (.*)$/m.exec(text)?.[1]
  if (!signers[algorithm]) throw new Error(`${keyFile} holds no open key of ${Object.keys(signers).join(' or ')}`)
  const signer = signers[algorithm](Buffer.from(text.replace(/^(-----|Algorithm:).*$/gm, ''), 'base64'))
  const addressOf = name => name.startsWith('0x') ? bytes(name) : digest(suite, 'address/account', Buffer.from(name)).subarray(0, 20)
  const expiry = Date.now() + 60_000
  const body = [1, bytes(trusted ?? chain), group, addressOf(sender), randomBytes(16), expiry, params.tx_gas,
    [bytes(token), '', ''], 'transfer', encode([addressOf(to), BigInt(amount)])]
  const id = digest(suite, 'tx', encode(body)), raw = encode([...body, [[algorithms.indexOf(algorithm), signer.publicKey, signer.sign(id)]]])
  let state
  while (!state) {
    try {
      state = await ask('/v1/transactions', raw)
    } catch (err) { // busy: the same again later, and not all at once
      const wait = Math.min(err.retry_after, 3600) * 1000 * (1 + Math.random() / 2)
      if (err.code !== 'busy' || !(wait > 0) || Date.now() + wait >= expiry) throw err
      await new Promise(resolve => setTimeout(resolve, wait))
    }
  }
  while (state.progress === 'pending') state = await ask(`/v1/transactions/${hex(id)}?wait=10000&proof=true`)
  if (state.progress === 'committed' && !state.proof) state = await ask(`/v1/transactions/${hex(id)}?proof=true`)
  if (state.progress !== 'committed') throw new Error(`the transaction is ${state.progress}`)

  const g = await ask('/v1/genesis'), key = k => [algorithms.indexOf(k.algorithm), bytes(k.key)], p = g.params
  const genesis = [g.version, g.name, g.suite, g.group, g.engine, g.trust_members, g.time_ms, g.members.map(m => [bytes(m.node), m.institution, key(m.key)]),
    [p.block_txs, p.block_bytes, p.block_gas, p.tx_gas, p.max_lifetime, p.window, p.clock_skew, p.rewrite, p.costs, p.memory_pages,
      p.deploy_roles, p.view_timeout, p.heartbeat_time, p.batch_delay],
    g.accounts.map(a => [a.name, a.institution, a.roles ?? [], a.keys.map(key)]), g.veto_window ?? null]
  const proven = verifyClaim(bytes(state.proof), { chain: bytes(trusted ?? chain), genesis, accepted: recoveries.map(bytes) })
  need(proven.tx?.equals(raw) && proven.receipt?.[1].equals(id), 'the claim is about another transaction')
  console.log(JSON.stringify({ id: hex(id), height: proven.height, status: proven.receipt[3], code: proven.receipt[4], gas: proven.receipt[6], voters: proven.voters }))
}

const [first, ...rest] = process.argv.slice(2)
try {
  if (first === '--self-test' && rest.length === 1) selfTest(rest[0])
  else if (rest.length >= 5) await transfer(first, ...rest)
  else throw new Error('usage: transfer.mjs API KEYFILE SENDER TOKEN TO AMOUNT [CHAIN [RECOVERY…]] | transfer.mjs --self-test state/ledger/testdata')
} catch (err) {
  console.error('transfer: ' + err.message)
  process.exit(1)
}
