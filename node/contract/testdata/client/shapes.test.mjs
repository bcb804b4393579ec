// Calls the contract shapes on a node with the generated client: shapes.test.mjs CONTRACT KEYFILE ACCOUNT SUITE NAME, node in FONDACO_API.
import { deepStrictEqual as same, rejects } from 'node:assert'
import { readFileSync } from 'node:fs'
import { ContractError, Shapes, addressOf, ed25519, sm2 } from './shapes/shapes.mjs'

const [address, keyFile, account, suite, name] = process.argv.slice(2)
const nobody = new Shapes(process.env.FONDACO_API, address)
const sender = await addressOf(account, suite)
const contract = nobody.as(sender, await { std: ed25519, gm: sm2 }[suite](readFileSync(keyFile, 'utf8')))
const deal = {
  name: 'XS2', colour: 'Green', legs: [{ pay: true, rate: -250, notes: ['a', ''] }], agent: sender, digest: new Uint8Array(32),
  short: Uint8Array.of(1, 2, 3, 4), blob: new Uint8Array(), size: 2n ** 100n, low: -(2n ** 63n), cash: [[1, 65535], []],
}
same(await nobody.echo(deal), deal)
const before = await contract.count()
const { id, result, events, height } = await contract.store(deal, ['Red'])
same(result, deal)
same(events, [{ topic: 'Stored', fields: { name: 'XS2', deal } }])
const stop = new AbortController()
for await (const event of contract.events({ from: height, signal: stop.signal })) {
  same([event.tx, event.topic, event.fields], [id, 'Stored', { name: 'XS2', deal }])
  break
}
stop.abort()
same(await contract.count(), before + 1n)
same((await contract.who()).caller, sender)
const big = { ...deal, legs: Array(3).fill(deal.legs[0]) }
await rejects(contract.store(big, []), e => e instanceof ContractError && e.refusal.name === 'TooBig' && e.refusal.fields.deal.legs.length === 3)
await rejects(contract.panic([]), e => e instanceof ContractError && e.status === 'aborted' && e.refusal === null)
await rejects(contract.restricted(), e => e instanceof ContractError && e.status === 'denied')
const named = new Shapes(process.env.FONDACO_API, name).as(sender, ...contract.signers)
same((await named.who()).self, address)
const stored = await named.store({ ...deal, name: 'XS3' }, ['Red'])
same(stored.events.map(e => e.fields.name), ['XS3'])
for await (const event of named.events({ from: stored.height, signal: AbortSignal.timeout(60_000) })) {
  same(event.fields.name, 'XS3')
  break
}
