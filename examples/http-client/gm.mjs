// SM3 (GM/T 0004), and SM2 signatures (GM/T 0003.2 on the curve of GM/T 0003.5, with the default user id of GM/T 0009 §10), which
// neither Web Crypto nor Node.js offers. Numbers are BigInt, whose operations take more or less time with their values: who can measure
// how long signatures take, or shares the machine, may learn the private key. Keep keys of value in a signer (node/signer/README.md).
const rotated = (x, n) => x << n | x >>> 32 - n
const joined = parts => Uint8Array.from(parts.flatMap(p => [...p]))

/** Returns the 32 bytes of the hash of a Uint8Array. */
export function sm3(message) {
  const padded = new Uint8Array(Math.ceil((message.length + 9) / 64) * 64), view = new DataView(padded.buffer), w = new Int32Array(68)
  padded.set(message)
  padded[message.length] = 0x80
  view.setBigUint64(padded.length - 8, 8n * BigInt(message.length))
  const state = Int32Array.of(0x7380166f, 0x4914b2b9, 0x172442d7, 0xda8a0600, 0xa96f30bc, 0x163138aa, 0xe38dee4d, 0xb0fb0e4e)
  for (let at = 0; at < padded.length; at += 64) {
    for (let j = 0; j < 16; j++) w[j] = view.getInt32(at + 4 * j)
    for (let j = 16; j < 68; j++) {
      const x = w[j - 16] ^ w[j - 9] ^ rotated(w[j - 3], 15)
      w[j] = x ^ rotated(x, 15) ^ rotated(x, 23) ^ rotated(w[j - 13], 7) ^ w[j - 6]
    }
    let [a, b, c, d, e, f, g, h] = state
    for (let j = 0; j < 64; j++) {
      const first = j < 16, turned = rotated(a, 12), s = rotated(turned + e + rotated(first ? 0x79cc4519 : 0x7a879d8a, j % 32) | 0, 7)
      const t = (first ? a ^ b ^ c : a & b | a & c | b & c) + d + (s ^ turned) + (w[j] ^ w[j + 4]) | 0
      const u = (first ? e ^ f ^ g : e & f | ~e & g) + h + s + w[j] | 0
      d = c; c = rotated(b, 9); b = a; a = t
      h = g; g = rotated(f, 19); f = e; e = u ^ rotated(u, 9) ^ rotated(u, 17)
    }
    [a, b, c, d, e, f, g, h].forEach((x, i) => { state[i] ^= x })
  }
  const out = new DataView(new ArrayBuffer(32))
  state.forEach((x, i) => out.setInt32(4 * i, x))
  return new Uint8Array(out.buffer)
}

// The curve y² = x³ - 3x + b over a field of a prime number of elements, its base point and the prime number of its points.
const fieldPrime = 0xfffffffeffffffffffffffffffffffffffffffff00000000ffffffffffffffffn
const curveB = 0x28e9fa9e9d9f5e344d5a9e4bcf6509a7f39789f515ab8f92ddbcbd414d940e93n
const curveOrder = 0xfffffffeffffffffffffffffffffffff7203df6b21c6052b53bbf40939d54123n
const basePoint = [0x32c4ae2c1f1981195f9904466a39c9948fe30bbff2660be1715a4589334c74c7n, 0xbc3736a2f4f6779c59bdcee36b692153d0a9877cc62a474002df32e52139f0a0n, 1n]

const modulo = (x, m) => (x % m + m) % m
const inField = x => modulo(x, fieldPrime)
const toNumber = bytes => bytes.reduce((n, b) => n << 8n | BigInt(b), 0n)
const toBytes = n => Uint8Array.from({ length: 32 }, (_, i) => Number(n >> BigInt(8 * (31 - i)) & 255n))
function power(x, exponent, m) {
  let result = 1n
  for (let base = modulo(x, m); exponent > 0n; exponent >>= 1n, base = base * base % m) if (exponent & 1n) result = result * base % m
  return result
}
const inverse = (x, m) => power(x, m - 2n, m)

// plus adds points in projective coordinates, equal ones and the point at infinity, [0, 1, 0], too (Renes, Costello and Batina, Complete
// addition formulas for prime order elliptic curves, algorithm 4).
function plus([x1, y1, z1], [x2, y2, z2]) {
  const xx = x1 * x2, yy = y1 * y2, zz = z1 * z2, xy = x1 * y2 + x2 * y1, yz = y1 * z2 + y2 * z1, xz = inField(x1 * z2 + x2 * z1)
  const u = 3n * inField(xz - curveB * inField(zz)), v = 3n * inField(curveB * xz - 3n * zz - xx), w = 3n * (xx - zz), more = inField(yy + u), less = inField(yy - u)
  return [inField(inField(xy) * more - inField(yz) * v), inField(more * less + inField(w) * v), inField(inField(yz) * less + inField(xy) * inField(w))]
}
// combined adds s times the base point and t times another.
function combined(s, t, point) {
  const addends = [null, basePoint, point, plus(basePoint, point)]
  let sum = [0n, 1n, 0n]
  for (let i = 255n; i >= 0n; i--) {
    const addend = addends[Number(s >> i & 1n | (t >> i & 1n) << 1n)]
    sum = plus(sum, sum)
    if (addend) sum = plus(sum, addend)
  }
  return sum
}
const multiple = k => affine(combined(k, 0n, basePoint))
// affine returns [x, y] of a point, null of that at infinity.
function affine([x, y, z]) {
  if (z === 0n) return null
  const scale = inverse(z, fieldPrime)
  return [inField(x * scale), inField(y * scale)]
}

// parsePoint reads a compressed point of 33 bytes. It returns null of anything else.
function parsePoint(key) {
  if (key.length !== 33 || key[0] !== 2 && key[0] !== 3) return null
  const x = toNumber(key.subarray(1)), square = inField(x * x * x - 3n * x + curveB), y = power(square, (fieldPrime + 1n) / 4n, fieldPrime)
  if (x >= fieldPrime || y * y % fieldPrime !== square) return null
  return [x, Number(y & 1n) === (key[0] & 1) ? y : inField(-y), 1n]
}

// signedNumber returns e of GM/T 0003.2 §6.1 as a number: the hash of Z, which is the hash of user id, curve and key, and the message.
function signedNumber([x, y], message) {
  const id = new TextEncoder().encode('1234567812345678')
  const z = sm3(joined([[0, 8 * id.length], id, ...[fieldPrime - 3n, curveB, basePoint[0], basePoint[1], x, y].map(toBytes)]))
  return toNumber(sm3(joined([z, message])))
}

/** Reports whether a signature of 64 bytes, r and s, over a message is that of a public key, a compressed point of 33 bytes. */
export function sm2Verify(publicKey, message, signature) {
  const point = parsePoint(publicKey)
  if (!point || signature.length !== 64) return false
  const r = toNumber(signature.subarray(0, 32)), s = toNumber(signature.subarray(32)), t = (r + s) % curveOrder
  if (r === 0n || r >= curveOrder || s === 0n || s >= curveOrder || t === 0n) return false
  const sum = affine(combined(s, t, point))
  return sum !== null && (signedNumber(point, message) + sum[0]) % curveOrder === r
}

/**
 * Returns the public key of a private key, a scalar of 32 bytes, and what signs with it: the same message always alike (RFC 6979 with
 * HMAC-SM3), so that a broken source of randomness gives no key away.
 */
export function sm2Signer(privateKey) {
  const d = toNumber(privateKey)
  if (privateKey.length !== 32 || d === 0n || d >= curveOrder - 1n) throw new TypeError('an SM2 private key has 32 bytes, a number from 1 to the order of the curve less 2')
  const point = multiple(d), publicKey = joined([[2 + Number(point[1] & 1n)], toBytes(point[0])])
  const hmac = (key, ...parts) => {
    const pad = byte => Uint8Array.from({ length: 64 }, (_, i) => (key[i] ?? 0) ^ byte)
    return sm3(joined([pad(0x5c), sm3(joined([pad(0x36), ...parts]))]))
  }
  const sign = message => {
    const e = signedNumber(point, message), seed = joined([privateKey, toBytes(e % curveOrder)])
    let key = new Uint8Array(32), value = new Uint8Array(32).fill(1)
    for (const step of [0, 1]) {
      key = hmac(key, value, [step], seed)
      value = hmac(key, value)
    }
    for (;;) {
      value = hmac(key, value)
      const k = toNumber(value)
      if (k > 0n && k < curveOrder) {
        const r = (e + multiple(k)[0]) % curveOrder, s = inverse(1n + d, curveOrder) * modulo(k - r * d, curveOrder) % curveOrder
        if (r !== 0n && r + k !== curveOrder && s !== 0n) return joined([toBytes(r), toBytes(s)])
      }
      key = hmac(key, value, [0])
      value = hmac(key, value)
    }
  }
  return { publicKey, sign }
}
