// Encodes and decodes an order with the generated client; the node is this file.
import { deepStrictEqual as same, rejects, throws } from 'node:assert'
import { ContractError, Market, NodeError, addressOf, decodeEvent, ed25519, sm2 } from './market/market.mjs'

const [args, value] = process.argv.slice(2)
const order = {
  id: 2n ** 64n - 1n, owner: '0x0100000000000000000000000000000000000000', amount: 2n ** 128n - 1n, side: 'sell',
  status: { kind: 'closed', why: { text: 'late', error: -(2n ** 63n) }, at: 300n }, tags: ['a', 'ä€'],
  limits: new Map([['b', 1], ['aa', 65536], ['a', 24]]), note: null, proof: new Uint8Array(), most: 2n ** 64n,
  raw: Uint8Array.of(0, 255), low: -128, parts: [null, {}],
}
let asked, answer = { status: 'ok', code: 0, data: value }
globalThis.fetch = async (url, request) => {
  asked = { url, ...request && JSON.parse(request.body) }
  return { ok: !answer.detail, json: async () => answer }
}
const market = new Market('http://node/', '0x0300000000000000000000000000000000000000')

const found = await market.find(new Map([['0x0200000000000000000000000000000000000000', []], [order.owner, [order]]]), [1, 255])
same(asked, { url: 'http://node/v1/contracts/0x0300000000000000000000000000000000000000/call', method: 'find', args })
order.limits = new Map([['a', 24], ['b', 1], ['aa', 65536]]) // as CBOR sorts them
same(found, order)
answer.data = '0xf6'
same(await market.find(new Map(), []), null)
answer.data = '0x83' + '00' + '02' + '83018261780005'
same(await market.client(), [{ kind: 'open' }, { kind: 'cancelled' }, { kind: 'closed', why: { text: 'x', error: 0n }, at: 5n }])

answer = { status: 'aborted', code: 1001, data: '0x81182a' }
await rejects(market.ping(), e => e instanceof ContractError && e.status === 'aborted' && e.refusal.name === 'Refused' && e.refusal.fields.need === 42n)
answer = { status: 'trapped', code: 0, data: '0x' }
await rejects(market.ping(), e => e instanceof ContractError && e.refusal === null && /ping: trapped/.test(e.message))
answer = { code: 'not_found', detail: 'there is no such contract' }
await rejects(market.ping(), e => e instanceof NodeError && e.code === 'not_found')

for (const [name, wrong] of Object.entries({
  id: -1n, owner: '0x01', amount: 2n ** 128n, side: 'hold', status: { kind: 'lost' }, tags: 'a', limits: {}, note: 5, proof: 'x', most: 1.5, raw: [0], low: 128, parts: [5],
})) await rejects(market.find(new Map([[order.owner, [{ ...order, [name]: wrong }]]]), []), TypeError, name)
await rejects(market.cancel(1n), /needs a sender/)
throws(() => new Market('http://node', '0x00'), TypeError)

same(decodeEvent('Placed', '0x820154' + '01' + '00'.repeat(19)), { topic: 'Placed', fields: { id: 1n, by: order.owner } })
throws(() => decodeEvent('Other', '0x80'), /no event/)
same(await addressOf('alice'), await addressOf('alice'))
const signer = await ed25519(new Uint8Array(32).fill(7))
same([signer.algorithm, signer.publicKey.length, (await signer.sign(new Uint8Array(32))).length], [1, 32, 64])
const chinese = await sm2(new Uint8Array(32).fill(7))
same([chinese.algorithm, chinese.publicKey.length, (await chinese.sign(new Uint8Array(32))).length], [3, 33, 64])
await rejects(sm2(new Uint8Array(32)), /from 1 to the order/)
await rejects(ed25519('Algorithm: sm2\n'), /a key of sm2, not of ed25519/)
await rejects(sm2('Algorithm: ed25519\n'), /a key of ed25519, not of sm2/)
await rejects(sm2('age-encryption.org'), /no key file, or it is locked/)
await rejects(addressOf('alice', 'toString'), /knows std and gm/)
answer = { chain: '0x' + '00'.repeat(32), group: 'main', suite: 'gm', params: {} }
await rejects(market.as(order.owner, signer).cancel(1n), /^TypeError: cancel: the chain has the suite gm, .*sm2\(\)/)
answer.suite = 'std'
await rejects(market.as(order.owner, signer, chinese).cancel(1n), /^TypeError: cancel: the chain has the suite std, .*ed25519\(\)/)
answer.suite = 'new'
await rejects(market.as(order.owner, signer).cancel(1n), /the suite new: this client knows std and gm/)

// A busy node is asked again when it says, with the same transaction, unless that expires before.
const sent = [], told = globalThis.fetch
const later = globalThis.setTimeout, waits = []
globalThis.setTimeout = (f, milli) => { waits.push(milli); return later(f, 0) }
let document = {}
globalThis.fetch = async (url, request) => {
  if (url.endsWith('/v1/chain')) return { ok: true, json: async () => ({ chain: '0x' + '00'.repeat(32), group: 'main', suite: 'std', params: { tx_gas: '9' } }) }
  if (!request) return { ok: true, json: async () => ({ progress: 'committed', height: 7, receipt: { status: 'ok', code: 0, gas: '1', data: '0xf6', events: [] } }) }
  sent.push(Buffer.from(request.body).toString('hex'))
  const busy = sent.length < 3
  return { ok: !busy, json: async () => busy ? document : { progress: 'pending' } }
}
const trader = market.as(order.owner, signer)
document = { code: 'busy', detail: 'too much waits', retry_after: 2 }
same((await trader.cancel(1n)).height, 7)
same([sent.length, new Set(sent).size], [3, 1])
same(waits.map(w => w >= 2000 && w <= 3000), [true, true])
for (const refused of [{ code: 'busy', retry_after: 61 }, { code: 'busy', retry_after: 2e10 }, { code: 'busy' }, { code: 'uncertain', retry_after: 1 }, { code: 'denied' }]) {
  sent.length = 0
  document = { detail: 'no', ...refused }
  await rejects(trader.cancel(1n), e => e instanceof NodeError && e.code === refused.code && /^0x[0-9a-f]{64}$/.test(e.id))
  same(sent.length, 1)
}
Object.assign(globalThis, { fetch: told, setTimeout: later })

// A token is shown with every request, to a node with HTTPS only.
const shown = []
globalThis.fetch = async (url, request) => {
  shown.push(request?.headers?.authorization)
  return { ok: true, json: async () => ({ status: 'ok', code: 0, data: '0xf6' }) }
}
const secured = new Market('https://node/', order.owner, { token: 'fondaco_AAAA' })
await secured.find(new Map(), [])
await secured.as(order.owner).find(new Map(), [])
await secured._ask('/v1/chain')
await market.find(new Map(), [])
same(shown, ['Bearer fondaco_AAAA', 'Bearer fondaco_AAAA', 'Bearer fondaco_AAAA', undefined])
throws(() => new Market('http://node', order.owner, { token: 'fondaco_AAAA' }), /https/)
