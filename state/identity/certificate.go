package identity

import (
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/fondaco/fondaco/state/keys"
)

// Fingerprint returns what names a certificate: the hash of what its issuer signed (tbsCertificate of RFC 5280 §4.1, in DER)
// under the chain's suite, and of nothing else, so that other tools can print it: of a file in PEM of more than 256 bytes by
// `openssl asn1parse -in FILE -strparse 4 -noout -out /dev/stdout | openssl dgst -sha256`, or -sm3. The signature is left out
// because it is not one: who has (r, s) of ECDSA has (r, n-s) too, and what was frozen by a hash of both would be active again.
//
// What does not begin as a certificate does, with a SEQUENCE in a SEQUENCE that takes all bytes, is a credential of a kind that only its provider
// knows, and is named by the hash of all its bytes. That provider must take but one form of it.
func Fingerprint(s keys.Suite, certificate []byte) keys.Digest {
	if signed, _, ok := signedPart(certificate); ok {
		return s.Sum(signed)
	}
	return s.Sum(certificate)
}

// sequenceTag is the first byte of every certificate (X.690 §8.1.2).
const sequenceTag = 0x30

// CheckForm says why a certificate is in no form that counts, or returns nil: there is one for each signature of its issuer.
// Parsers of certificates take more, with unused bits in the signature or something after it. It looks at what is
// around the signed part only, and at nothing that does not begin with the tag of a SEQUENCE, 0x30, which is no certificate.
func CheckForm(certificate []byte) error {
	if len(certificate) == 0 || certificate[0] != sequenceTag {
		return nil
	}
	_, rest, ok := signedPart(certificate)
	var signature cryptobyte.String
	switch {
	case !ok || !rest.SkipASN1(asn1.SEQUENCE) || !rest.ReadASN1(&signature, asn1.BIT_STRING) || len(signature) == 0:
		return errors.New("it is not the DER of a certificate: a SEQUENCE of what is signed, an algorithm and a signature, with nothing behind")
	case !rest.Empty():
		return fmt.Errorf("%d bytes follow its signature: use the certificate as its issuer made it", len(rest))
	case signature[0] != 0:
		return fmt.Errorf("its signature has unused bits (%d), and no algorithm makes such: use the certificate as its issuer made it", signature[0])
	}
	return nil
}

// signedPart returns what the issuer of a certificate signed, with its header, and what follows it in the certificate.
func signedPart(certificate []byte) (signed, rest cryptobyte.String, ok bool) {
	whole := cryptobyte.String(certificate)
	ok = whole.ReadASN1(&rest, asn1.SEQUENCE) && whole.Empty() && rest.ReadASN1Element(&signed, asn1.SEQUENCE)
	return signed, rest, ok
}
