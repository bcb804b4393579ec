// What the compiler of TypeScript accepts and refuses of the generated types.
import { ContractError, Market, addressOf, ed25519, sm2, sm2Verify, sm3, type ContractEvent, type Order } from './market/market.mjs'

export async function trade(order: Order, seed: Uint8Array): Promise<bigint> {
  const market = new Market('http://127.0.0.1:9541', order.owner).as(order.owner, await ed25519(seed))
  try {
    const { result, events } = await market.place(order, 1, true)
    events.forEach(tell)
    // @ts-expect-error: ids are bigint
    await market.cancel(1)
    // @ts-expect-error: there is no such variant
    order.side = 'hold'
    if (result.status.kind === 'closed') return result.status.at
    return (await market.find(new Map(), [1]))?.amount ?? 0n
  } catch (e) {
    if (e instanceof ContractError && e.refusal?.name === 'Refused') return e.refusal.fields.need ?? 0n
    throw e
  }
}

function tell(event: ContractEvent): string {
  // @ts-expect-error: not every event has an id
  void event.fields.id
  return event.topic === 'Placed' ? event.fields.by : event.topic
}

export async function onGM(scalar: Uint8Array): Promise<boolean> {
  const signer = await sm2(scalar), message = sm3(scalar)
  // @ts-expect-error: there is no such suite
  await addressOf('alice', 'sm')
  return signer.algorithm === 3 && sm2Verify(signer.publicKey, message, await signer.sign(message))
}
