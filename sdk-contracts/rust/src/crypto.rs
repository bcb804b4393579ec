use crate::{host, Hash};

/// The digest of GB/T 32905.
pub fn sm3(data: &[u8]) -> Hash {
    Hash(host::hash(1, data))
}

/// The digest of FIPS 180-4.
pub fn sha256(data: &[u8]) -> Hash {
    Hash(host::hash(2, data))
}

/// The digest that Ethereum uses.
pub fn keccak256(data: &[u8]) -> Hash {
    Hash(host::hash(3, data))
}

/// Algorithms of [`verify`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signature {
    /// GB/T 32918.
    Sm2 = 1,
    /// RFC 8032, with the rules of ZIP-215.
    Ed25519 = 2,
    /// FIPS 186-5, with low s.
    P256 = 3,
}

/// Whether the signature of 64 bytes over a digest is valid under the public key.
pub fn verify(algorithm: Signature, public: &[u8], signature: &[u8], digest: &Hash) -> bool {
    host::verify(algorithm, public, signature, &digest.0)
}

/// Fills bytes that are equal on all nodes; say `contract!(random)`. The block's proposer can foresee them: draw no lots for
/// money with them.
pub fn random(bytes: &mut [u8]) {
    host::rand(bytes);
}
