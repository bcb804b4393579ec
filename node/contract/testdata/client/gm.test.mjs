// Computes with clientgm.mjs what the test asks for on standard input, as JSON whose byte strings are hexadecimal.
import { readFileSync } from 'node:fs'
import { sm2Signer, sm2Verify, sm3 } from '../../clientgm.mjs'

const bytes = text => new Uint8Array(Buffer.from(text, 'hex')), hex = raw => Buffer.from(raw).toString('hex')
const { texts, signers, checks } = JSON.parse(readFileSync(0))
console.log(JSON.stringify({
  hashes: (texts ?? []).map(text => hex(sm3(bytes(text)))),
  signers: (signers ?? []).map(({ private: key, message }) => {
    try {
      const { publicKey, sign } = sm2Signer(bytes(key))
      return { public: hex(publicKey), signature: hex(sign(bytes(message))) }
    } catch (err) {
      if (!(err instanceof TypeError)) throw err
      return { refused: err.message }
    }
  }),
  verdicts: (checks ?? []).map(({ key, message, signature }) => sm2Verify(bytes(key), bytes(message), bytes(signature))),
}))
