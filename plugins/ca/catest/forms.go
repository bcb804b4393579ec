package catest

import (
	"crypto/elliptic"
	"encoding/asn1"
	"fmt"
	"math/big"
)

// parts are those of a certificate (RFC 5280 §4.1).
type parts struct {
	TBS, Algorithm asn1.RawValue
	Signature      asn1.BitString
}

func parseParts(der []byte) (*parts, error) {
	p := new(parts)
	rest, err := asn1.Unmarshal(der, p)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d bytes follow it", len(rest))
	}
	if err != nil {
		return nil, fmt.Errorf("no certificate in DER: %w", err)
	}
	return p, nil
}

// UnusedBits returns a certificate (DER) with an unused bit below its signature, which parsers that align bits to the right read as the
// same one. Anybody can make it.
func UnusedBits(der []byte) ([]byte, error) {
	p, err := parseParts(der)
	if err != nil {
		return nil, err
	}
	signature := p.Signature.Bytes
	if signature[0] >= 0x80 { // it needs a byte more
		signature = append([]byte{0}, signature...)
	}
	up := new(big.Int).SetBytes(signature)
	signature = up.Lsh(up, 1).FillBytes(make([]byte, len(signature)))
	p.Signature = asn1.BitString{Bytes: signature, BitLength: 8*len(signature) - 1}
	return asn1.Marshal(*p)
}

// followed returns a certificate with a NULL after its signature.
func followed(der []byte) ([]byte, error) {
	p, err := parseParts(der)
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(struct {
		TBS, Algorithm asn1.RawValue
		Signature      asn1.BitString
		Null           asn1.RawValue
	}{p.TBS, p.Algorithm, p.Signature, asn1.NullRawValue})
}

// curves are the orders of the curves over which authorities sign, by the identifiers of the curves.
func curves() map[string]*big.Int {
	sm2, _ := new(big.Int).SetString("FFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123", 16) // GM/T 0003.5
	return map[string]*big.Int{
		"1.2.840.10045.3.1.7": elliptic.P256().Params().N, "1.3.132.0.34": elliptic.P384().Params().N, "1.3.132.0.35": elliptic.P521().Params().N,
		"1.2.156.10197.1.301": sm2,
	}
}

// OtherSignature returns a certificate with (r, n-s) in the place of its signature (r, s), where n is the order of the curve of the issuer's
// key: under ECDSA both are valid, and anybody can make one of the other; under SM2 only one is. It returns nil for issuers that sign otherwise.
func OtherSignature(der, issuer []byte) ([]byte, error) {
	p, err := parseParts(der)
	if err != nil {
		return nil, err
	}
	var by struct {
		TBS struct {
			Version   asn1.RawValue `asn1:"optional,explicit,tag:0"`
			Serial    *big.Int
			Algorithm asn1.RawValue
			Issuer    asn1.RawValue
			Validity  asn1.RawValue
			Subject   asn1.RawValue
			Key       struct {
				Algorithm struct {
					ID    asn1.ObjectIdentifier
					Curve asn1.RawValue `asn1:"optional"`
				}
				Bits asn1.BitString
			}
		}
	}
	if _, err := asn1.Unmarshal(issuer, &by); err != nil {
		return nil, fmt.Errorf("no certificate in DER: %w", err)
	}
	var curve asn1.ObjectIdentifier
	if _, err := asn1.Unmarshal(by.TBS.Key.Algorithm.Curve.FullBytes, &curve); err != nil {
		return nil, nil // a key that is on no curve with a name
	}
	order := curves()[curve.String()]
	if order == nil {
		return nil, nil
	}
	var signature struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(p.Signature.Bytes, &signature); err != nil {
		return nil, fmt.Errorf("a signature that is not two numbers (RFC 3279 §2.2.3): %w", err)
	}
	signature.S.Sub(order, signature.S)
	bits, err := asn1.Marshal(signature)
	if err != nil {
		return nil, err
	}
	p.Signature = asn1.BitString{Bytes: bits, BitLength: 8 * len(bits)}
	return asn1.Marshal(*p)
}
