// Digests and signatures. A chain denies what its suite does not have.

import * as host from "./host";
import { Hash } from "./values";

/** The digest of GB/T 32905. */
export function sm3(data: Uint8Array): Hash {
  return digest(1, data);
}

/** The digest of FIPS 180-4. */
export function sha256(data: Uint8Array): Hash {
  return digest(2, data);
}

/** The digest that Ethereum uses. */
export function keccak256(data: Uint8Array): Hash {
  return digest(3, data);
}

function digest(algorithm: i32, data: Uint8Array): Hash {
  const h = new Hash();
  host.hash(algorithm, data.dataStart, data.length, h.at, 32);
  return h;
}

/** Algorithms of `verify`. */
export namespace Signature {
  export const SM2 = 1;
  export const ED25519 = 2;
  export const P256 = 3;
}

/** Whether a signature of 64 bytes over a digest is valid under the public key. */
export function verify(algorithm: i32, publicKey: Uint8Array, signature: Uint8Array, digest: Hash): bool {
  return host.verify(
    algorithm, publicKey.dataStart, publicKey.length, signature.dataStart, signature.length, digest.at, 32,
  ) != 0;
}
