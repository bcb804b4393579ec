// CBOR in the core deterministic form of RFC 8949 §4.2.1.
const join = parts => {
  const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0))
  let at = 0
  for (const p of parts) { out.set(p, at); at += p.length }
  return out
}
const toHex = bytes => '0x' + Array.from(bytes, b => b.toString(16).padStart(2, '0')).join('')
const fromHex = (text, size) => {
  if (typeof text !== 'string' || !/^0x([0-9a-fA-F]{2})*$/.test(text)) throw new TypeError(`${text}: want 0x and hexadecimal digits`)
  const bytes = Uint8Array.from(text.slice(2).match(/../g) ?? [], pair => parseInt(pair, 16))
  if (size !== undefined && bytes.length !== size) throw new TypeError(`${text}: want ${size} bytes`)
  return bytes
}
const utf8 = text => new TextEncoder().encode(text)
function head(major, value) {
  let n = BigInt(value)
  const [code, size] = n < 24n ? [Number(n), 0] : n < 1n << 8n ? [24, 1] : n < 1n << 16n ? [25, 2] : n < 1n << 32n ? [26, 4] : [27, 8]
  const out = new Uint8Array(1 + size).fill(major << 5 | code)
  for (let i = size; i > 0; i--, n >>= 8n) out[i] = Number(n & 255n)
  return out
}
const array = items => join([head(4, items.length), ...items])
const byteString = bytes => join([head(2, bytes.length), bytes])
const textString = text => { const bytes = utf8(text); return join([head(3, bytes.length), bytes]) }
function integer(n) {
  if (n < 0n) return head(1, -1n - n)
  if (n < 1n << 64n) return head(0, n)
  const digits = n.toString(16)
  return join([head(6, 2), byteString(fromHex('0x' + digits.padStart(digits.length + digits.length % 2, '0')))])
}

// The schema's types. list<T> is split into a head and its arguments.
function split(type) {
  const open = type.indexOf('<')
  if (open < 0) return [type, []]
  const inner = type.slice(open + 1, -1), args = []
  let depth = 0, start = 0
  for (let i = 0; i < inner.length; i++) {
    if (inner[i] === '<') depth++
    if (inner[i] === '>') depth--
    if (inner[i] === ',' && depth === 0) { args.push(inner.slice(start, i)); start = i + 1 }
  }
  return [type.slice(0, open), [...args, inner.slice(start)]]
}
const range = type => {
  const bits = BigInt(type.slice(1))
  return type[0] === 'u' ? [0n, (1n << bits) - 1n] : [-(1n << bits - 1n), (1n << bits - 1n) - 1n]
}
const isInteger = type => /^[ui](8|16|32|64|128)$/.test(type)
const before = (a, b) => { // bytewise order of map keys
  for (let i = 0; i < Math.min(a.length, b.length); i++) if (a[i] !== b[i]) return a[i] - b[i]
  return a.length - b.length
}
const fieldsOf = (fields, value) => fields.map(([name, type]) => encode(type, value?.[name], name))

function encode(type, value, what = type) {
  const [name, args] = split(type)
  const wrong = () => new TypeError(`${what}: ${String(value)} does not fit ${type}`)
  if (isInteger(name)) {
    if (typeof value !== 'bigint' && !Number.isSafeInteger(value)) throw wrong()
    const n = BigInt(value), [least, most] = range(name)
    if (n < least || n > most) throw wrong()
    return integer(n)
  }
  switch (name) {
    case 'bool': if (typeof value !== 'boolean') throw wrong(); return Uint8Array.of(value ? 0xf5 : 0xf4)
    case 'str': if (typeof value !== 'string' || value.isWellFormed?.() === false) throw wrong(); return textString(value)
    case 'bytes': if (!(value instanceof Uint8Array)) throw wrong(); return byteString(value)
    case 'addr': return byteString(fromHex(value, 20))
    case 'list': if (!Array.isArray(value)) throw wrong(); return array(value.map((v, i) => encode(args[0], v, `${what}[${i}]`)))
    case 'opt': return value === null || value === undefined ? Uint8Array.of(0xf6) : encode(args[0], value, what)
    case 'map': {
      if (!(value instanceof Map)) throw wrong()
      const entries = [...value].map(([k, v]) => [encode(args[0], k, what), encode(args[1], v, what)]).sort((a, b) => before(a[0], b[0]))
      return join([head(5, entries.length), ...entries.flat()])
    }
  }
  const def = types[name]
  if (def.fields) {
    if (typeof value !== 'object' || value === null) throw wrong()
    return array(fieldsOf(def.fields, value))
  }
  const kind = def.plain ? value : value?.kind, number = def.variants.findIndex(([variant]) => variant === kind)
  if (number < 0) throw wrong()
  const fields = def.variants[number][1]
  return fields.length ? array([head(0, number), ...fieldsOf(fields, value)]) : head(0, number)
}

class Reader {
  constructor(bytes) { this.bytes = bytes; this.at = 0 }
  take(n) {
    if (this.at + n > this.bytes.length) throw new Error('the node sent a value that ends early')
    return this.bytes.subarray(this.at, this.at += n)
  }
  head(...majors) {
    const [first] = this.take(1), major = first >> 5, code = first & 31
    if (!majors.includes(major) || code > 27) throw new Error('the node sent a value of another type: generate the client again')
    let n = BigInt(code)
    if (code >= 24) n = BigInt(toHex(this.take(1 << code - 24)))
    return [major, n]
  }
  peek() { return this.bytes[this.at] }
  integer() {
    const [major, n] = this.head(0, 1, 6)
    if (major === 6) return BigInt(toHex(this.take(Number(this.head(2)[1]))))
    return major === 1 ? -1n - n : n
  }
  fields(fields) {
    return Object.fromEntries(fields.map(([name, type]) => [name, this.value(type)]))
  }
  value(type) {
    const [name, args] = split(type)
    if (isInteger(name)) {
      const n = this.integer()
      return Number(name.slice(1)) > 32 ? n : Number(n)
    }
    switch (name) {
      case 'bool': return this.take(1)[0] === 0xf5
      case 'str': return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(this.take(Number(this.head(3)[1])))
      case 'bytes': return this.take(Number(this.head(2)[1])).slice()
      case 'addr': return toHex(this.take(Number(this.head(2)[1])))
      case 'list': return Array.from({ length: Number(this.head(4)[1]) }, () => this.value(args[0]))
      case 'opt': if (this.peek() !== 0xf6) return this.value(args[0]); this.take(1); return null
      case 'map': return new Map(Array.from({ length: Number(this.head(5)[1]) }, () => [this.value(args[0]), this.value(args[1])]))
    }
    const def = types[name]
    if (def.fields) { this.head(4); return this.fields(def.fields) }
    if (this.peek() >> 5 === 4) this.head(4)
    const [kind, fields] = def.variants[Number(this.head(0)[1])]
    return def.plain ? kind : { kind, ...this.fields(fields) }
  }
}
const decode = (type, bytes) => new Reader(bytes).value(type)
function decodeFields(fields, bytes) {
  if (fields.length === 0) return {}
  const r = new Reader(bytes)
  r.head(4)
  return r.fields(fields)
}

// What hashes under a chain's suite, and the algorithms of its keys.
const suites = {
  std: { hash: async message => new Uint8Array(await crypto.subtle.digest('SHA-256', message)), algorithms: [1, 2], use: 'ed25519()' },
  gm: { hash: async message => sm3(message), algorithms: [3], use: 'sm2()' },
}
function suiteOf(name) {
  if (!Object.hasOwn(suites, name)) throw new TypeError(`the suite ${name}: this client knows std and gm; generate it again with a newer release`)
  return suites[name]
}
const digest = (suite, thing, ...parts) => suite.hash(join([utf8(`fondaco/${thing}/1\0`), ...parts]))

export async function addressOf(name, suite = 'std') {
  return toHex((await digest(suiteOf(suite), 'address/account', utf8(name))).slice(0, 20))
}

// secret returns the 32 bytes of a private key, or of the text of a key file without a passphrase.
function secret(key, algorithm) {
  if (typeof key === 'string') {
    const found = /^Algorithm: (.*)$/m.exec(key)?.[1]
    if (found !== algorithm) throw new TypeError(found ? `the key file holds a key of ${found}, not of ${algorithm}` : 'this is no key file, or it is locked with a passphrase')
    key = Uint8Array.from(atob(key.replace(/^(-----|Algorithm:).*$/gm, '').replace(/\s/g, '')), c => c.charCodeAt(0))
  }
  if (key.length !== 32) throw new TypeError(`a private key of ${algorithm} has 32 bytes`)
  return key
}

export async function ed25519(seed) {
  const pkcs8 = join([fromHex('0x302e020100300506032b657004220420'), secret(seed, 'ed25519')])
  const key = await crypto.subtle.importKey('pkcs8', pkcs8, 'Ed25519', true, ['sign'])
  const { x } = await crypto.subtle.exportKey('jwk', key)
  const publicKey = Uint8Array.from(atob(x.replace(/-/g, '+').replace(/_/g, '/')), c => c.charCodeAt(0))
  return { algorithm: 1, publicKey, sign: async bytes => new Uint8Array(await crypto.subtle.sign('Ed25519', key, bytes)) }
}

export async function sm2(scalar) {
  const { publicKey, sign } = sm2Signer(secret(scalar, 'sm2'))
  return { algorithm: 3, publicKey, sign: async id => sign(id) }
}

export class ContractError extends Error {
  constructor(method, status, code, refusal, data, reason) {
    super(`${method}: ${status}, code ${code}${refusal ? ' ' + refusal.name : reason ? ' ' + reason : ''}`)
    Object.assign(this, { name: 'ContractError', method, status, code, refusal, data })
  }
}

export class NodeError extends Error {
  constructor(document) {
    super(`${document.detail} (${document.code})`)
    this.name = 'NodeError'
    this.code = document.code
    this.retryAfter = document.retry_after ?? null
  }
}

function outcome(method, receipt) {
  const data = fromHex(receipt.data)
  if (receipt.status === 'ok') return methods[method].result ? decode(methods[method].result, data) : undefined
  let refusal = null
  if (receipt.status === 'aborted' && errors[receipt.code]) {
    const [name, fields] = errors[receipt.code]
    refusal = { name, fields: decodeFields(fields, data) }
  }
  throw new ContractError(method, receipt.status, receipt.code, refusal, data, receipt.error)
}

export function decodeEvent(topic, data) {
  if (!events[topic]) throw new Error(`the contract has no event ${topic}: generate the client again`)
  return { topic, fields: decodeFields(events[topic], typeof data === 'string' ? fromHex(data) : data) }
}

// targetOf returns what a transaction names as its target: an address, or a name, such as token or token@2.
function targetOf(text) {
  if (/^0x/i.test(text)) return [byteString(fromHex(text, 20)), textString(''), textString('')]
  const [, name, , version = ''] = /^([a-z][a-z0-9.-]*)(@([a-z0-9.-]+))?$/.exec(text) ?? []
  if (!name) throw new TypeError(`the contract ${text}: want 0x and 40 hexadecimal digits, or a name such as token or token@2`)
  return [byteString(new Uint8Array(20)), textString(name), textString(version)]
}

class Contract {
  constructor(api, address, { sender = null, signers = [], gas = 10_000_000, lifetime = 60_000, token = null } = {}) {
    targetOf(address)
    if (token && !/^https:/.test(api)) throw new TypeError('a token is for a node whose address begins with https://')
    Object.assign(this, { api: api.replace(/\/$/, ''), address, sender, signers, gas, lifetime, token })
  }

  as(sender, ...signers) {
    return new this.constructor(this.api, this.address, { ...this, sender, signers })
  }

  _fetch(path, init) {
    if (this.token) init = { ...init, redirect: 'error', headers: { ...init?.headers, authorization: `Bearer ${this.token}` } }
    return fetch(this.api + path, init)
  }

  async _ask(path, type, body) {
    const answer = await this._fetch(path, body && { method: 'POST', headers: { 'content-type': type }, body })
    const document = await answer.json()
    if (!answer.ok) throw new NodeError(document)
    return document
  }

  _args(method, values) {
    const { args } = methods[method]
    return array(args.map(([name, type], i) => encode(type, values[i], name)))
  }

  async _view(method, values) {
    const body = JSON.stringify({ method, args: toHex(this._args(method, values)), from: this.sender ?? undefined })
    return outcome(method, await this._ask(`/v1/contracts/${this.address}/call`, 'application/json', body))
  }

  async _send(method, values) {
    if (!this.sender || this.signers.length === 0) throw new Error(`${method}: a transaction needs a sender and its signers: use as()`)
    const { chain, group, suite: name, params } = await this._ask('/v1/chain'), suite = suiteOf(name)
    if (!this.signers.every(s => suite.algorithms.includes(s.algorithm))) throw new TypeError(`${method}: the chain has the suite ${name}, whose signers ${suite.use} makes`)
    const expiry = Date.now() + this.lifetime
    const body = [
      head(0, 1), byteString(fromHex(chain, 32)), textString(group), byteString(fromHex(this.sender, 20)),
      byteString(crypto.getRandomValues(new Uint8Array(16))), integer(BigInt(expiry)),
      integer(BigInt(Math.min(this.gas, Number(params.tx_gas)))),
      array(targetOf(this.address)), textString(method), byteString(this._args(method, values)),
    ]
    const id = await digest(suite, 'tx', array(body))
    const signatures = await Promise.all(this.signers.map(async s => array([head(0, s.algorithm), byteString(s.publicKey), byteString(await s.sign(id))])))
    const raw = array([...body, array(signatures)])
    const path = `/v1/transactions/${toHex(id)}?wait=10000`
    let tx
    try {
      await this._submit(raw, expiry)
      tx = await this._ask(path)
      while (tx.progress === 'pending') tx = await this._ask(path)
    } catch (err) {
      throw Object.assign(err, { id: toHex(id) })
    }
    if (tx.progress !== 'committed') throw new Error(`${method}: the transaction ${toHex(id)} is ${tx.progress}: it has no effect`)
    const result = outcome(method, tx.receipt)
    const self = /^0x/i.test(this.address) ? this.address.toLowerCase() : tx.receipt.served
    const own = tx.receipt.events.filter(e => e.contract === self)
    return { id: toHex(id), height: tx.height, gas: BigInt(tx.receipt.gas), result, events: own.map(e => decodeEvent(e.topic, e.data)) }
  }

  // _submit sends a signed transaction, again while the node is busy and it does not expire before.
  async _submit(raw, expiry) {
    for (;;) {
      try {
        return await this._ask('/v1/transactions', 'application/cbor', raw)
      } catch (err) {
        const wait = Math.min(err.retryAfter, 3600) * 1000 * (1 + Math.random() / 2) // so that not all come back at once
        if (err.code !== 'busy' || !(wait > 0) || Date.now() + wait >= expiry) throw err
        await new Promise(resolve => setTimeout(resolve, wait))
      }
    }
  }

  async * events({ from, signal } = {}) {
    const query = new URLSearchParams({ contract: this.address, ...from !== undefined && { from: String(from) } })
    const answer = await this._fetch(`/v1/events?${query}`, { signal })
    if (!answer.ok) throw new NodeError(await answer.json())
    let text = ''
    for await (const chunk of answer.body.pipeThrough(new TextDecoderStream())) {
      const lines = (text + chunk).split('\n')
      text = lines.pop()
      for (const line of lines.filter(line => line.startsWith('data:'))) {
        const event = JSON.parse(line.slice(5))
        yield { ...decodeEvent(event.topic, event.data), height: event.height, tx: event.tx }
      }
    }
  }
}
