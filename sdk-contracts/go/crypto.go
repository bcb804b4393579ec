package sdk

// SM3 returns the digest of GB/T 32905.
func SM3(data []byte) Hash { return hash(1, data) }

// SHA256 returns the digest of FIPS 180-4.
func SHA256(data []byte) Hash { return hash(algorithmSHA256, data) }

// Keccak256 returns the digest that Ethereum uses.
func Keccak256(data []byte) Hash { return hash(3, data) }

const algorithmSHA256 = 2

func hash(algorithm uint32, data []byte) (h Hash) {
	hostHash(algorithm, data, h[:])
	return h
}

// Signature algorithms of Verify.
const (
	SM2     = 1
	Ed25519 = 2
	P256    = 3
)

// Verify reports whether the signature of 64 bytes over a 32-byte digest verifies under the public key.
func Verify(algorithm uint32, public, signature, digest []byte) bool {
	return hostVerify(algorithm, public, signature, digest) == 1
}

// Random fills dst with bytes that are equal on all nodes. The block's proposer can foresee them: draw no
// lots for money with them.
func Random(dst []byte) { hostRand(dst) }
