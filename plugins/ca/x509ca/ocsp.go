package x509ca

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // in the names of certificates (RFC 6960), not in signatures
	"crypto/sha256"
	"crypto/sha512"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/fondaco/fondaco/plugins/ca"
)

// What a responder says of a certificate, by the tags of CertStatus (RFC 6960 §4.2.1).
const (
	statusGood    = 0
	statusRevoked = 1
	statusUnknown = 2
)

// status is what an answer of an OCSP responder says of a certificate.
type status struct {
	code                   uint8     // statusGood, statusRevoked or statusUnknown
	revoked                time.Time // when; for statusRevoked alone, as is the reason
	reason                 ca.Reason
	produced, issued, next time.Time // next is zero if the answer does not say when a newer one is due
}

var (
	oidSHA1  = asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}
	oidBasic = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1} // id-pkix-ocsp-basic

	context0 = tag.Tag(0).ContextSpecific().Constructed()
	context1 = tag.Tag(1).ContextSpecific().Constructed()
	context2 = tag.Tag(2).ContextSpecific().Constructed()
)

// idHashes are the hashes by which answers may name certificates. SHA-1 is what most responders use there; nothing is signed by it.
var idHashes = map[string]func() hash.Hash{
	oidSHA1.String(): sha1.New, "2.16.840.1.101.3.4.2.1": sha256.New, "2.16.840.1.101.3.4.2.2": sha512.New384, "2.16.840.1.101.3.4.2.3": sha512.New, oidSM3.String(): newSM3,
}

// noAnswers are the words for OCSPResponseStatus.
var noAnswers = map[int]string{1: "malformed request", 2: "internal error", 3: "try later", 5: "a signature is required", 6: "unauthorized"}

// certificateID is CertID of RFC 6960 §4.1.1.
type certificateID struct {
	hash              asn1.ObjectIdentifier // in idHashes, if this package asks
	nameHash, keyHash []byte
	serial            string
}

// idOf names a certificate by one of idHashes.
func idOf(c, issuer *certificate, by asn1.ObjectIdentifier) (certificateID, error) {
	id := certificateID{hash: by, serial: c.serial}
	spki, key := cryptobyte.String(issuer.spki), []byte(nil)
	if !spki.ReadASN1(&spki, tag.SEQUENCE) || !spki.SkipASN1(tag.SEQUENCE) || !spki.ReadASN1BitStringAsBytes(&key) {
		return id, fmt.Errorf("the key of %s is no BIT STRING of whole bytes", issuer.name())
	}
	sum := func(data []byte) []byte {
		h := idHashes[by.String()]()
		h.Write(data)
		return h.Sum(nil)
	}
	id.nameHash, id.keyHash = sum(issuer.rawSubject), sum(key)
	return id, nil
}

// marshalQuestion returns an OCSPRequest (RFC 6960 §4.1.1) about a certificate, without a nonce: responders answer from what they have signed before.
func marshalQuestion(id certificateID) ([]byte, error) {
	serial, err := hex.DecodeString(id.serial)
	if err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	within := func(f cryptobyte.BuilderContinuation) cryptobyte.BuilderContinuation {
		return func(b *cryptobyte.Builder) { b.AddASN1(tag.SEQUENCE, f) }
	}
	// OCSPRequest, tbsRequest, requestList, Request, reqCert
	within(within(within(within(within(func(b *cryptobyte.Builder) {
		b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(id.hash)
			b.AddASN1NULL()
		})
		b.AddASN1OctetString(id.nameHash)
		b.AddASN1OctetString(id.keyHash)
		b.AddASN1BigInt(new(big.Int).SetBytes(serial))
	})))))(&b)
	return b.Bytes()
}

// readAnswer returns what an OCSPResponse (RFC 6960 §4.2.1) in strict DER says of a certificate, if the issuer signed it, or whom
// the issuer delegated this to. The caller bounds its size and checks its age.
func readAnswer(lib library, data []byte, c, issuer *certificate, at time.Time) (*status, error) {
	a, err := parseAnswer(data)
	if err != nil {
		return nil, err
	}
	found, err := a.about(c, issuer)
	if err != nil {
		return nil, err
	}
	signer := issuer
	if a.certificate != nil {
		delegate, err := lib.parse(a.certificate)
		if err != nil {
			return nil, fmt.Errorf("the certificate in it: %w", err)
		}
		if delegate.authorityID() != issuer.authorityID() { // some send the issuer's own
			if err := checkDelegate(lib, delegate, issuer, at); err != nil {
				return nil, err
			}
			signer = delegate
		}
	}
	return found, lib.checkSigned(a.algorithm, a.signed, a.signature, signer)
}

// checkDelegate says why a certificate is not one for answers about an issuer's certificates (RFC 6960 §4.2.2.2), or returns nil.
func checkDelegate(lib library, d, issuer *certificate, at time.Time) error {
	weak := d.weak
	if d.weakKey != nil {
		weak = d.weakKey
	}
	switch {
	case weak != nil:
		return fmt.Errorf("the certificate of %s, which signed it, does not count: %w", d.name(), weak)
	case !bytes.Equal(d.rawIssuer, issuer.rawSubject):
		return fmt.Errorf("it is signed by %s, whose certificate is of %s, and not of %s", d.name(), nameText(d.issuer), issuer.name())
	case !d.answers:
		return fmt.Errorf("it is signed by %s, whose certificate is not for OCSP", d.name())
	case d.encrypts() || d.unknownCritical:
		return fmt.Errorf("it is signed by %s, whose certificate is not for signatures, or has a critical extension that is not known here", d.name())
	case at.Before(d.notBefore) || at.After(d.notAfter):
		return fmt.Errorf("the certificate of %s, which signed it, is valid from %s to %s", d.name(), timeText(d.notBefore), timeText(d.notAfter))
	}
	if err := lib.checkIssued(d, issuer); err != nil {
		return fmt.Errorf("it is signed by %s, whose certificate %s did not sign: %w", d.name(), issuer.name(), err)
	}
	return nil
}

// parsedAnswer is a BasicOCSPResponse, of which nothing is checked but the form.
type parsedAnswer struct {
	signed, signature []byte
	algorithm         asn1.ObjectIdentifier
	certificate       []byte // the first that came with it; nil: none
	singles           []single
}

// single is SingleResponse: what is said of one certificate.
type single struct {
	id certificateID
	status
}

// about returns what the answer says of a certificate. The number alone does not do: another authority may have given it too.
func (a *parsedAnswer) about(c, issuer *certificate) (*status, error) {
	var found *status
	other := false
	for i, s := range a.singles {
		if s.id.serial != c.serial {
			continue
		}
		if idHashes[s.id.hash.String()] == nil {
			return nil, fmt.Errorf("it names certificates by the hash %v, which is not known here", s.id.hash)
		}
		want, err := idOf(c, issuer, s.id.hash)
		switch {
		case err != nil:
			return nil, err
		case !bytes.Equal(s.id.nameHash, want.nameHash) || !bytes.Equal(s.id.keyHash, want.keyHash):
			other = true
		case found != nil:
			return nil, fmt.Errorf("it is about the certificate %s twice", c.serial)
		default:
			found = &a.singles[i].status
		}
	}
	switch {
	case found != nil:
		return found, nil
	case other:
		return nil, fmt.Errorf("it is about a certificate %s of another authority than %s", c.serial, issuer.name())
	}
	return nil, fmt.Errorf("it is not about the certificate %s", c.serial)
}

func parseAnswer(data []byte) (*parsedAnswer, error) {
	whole := cryptobyte.String(data)
	var outer, content cryptobyte.String
	var code int
	var has bool
	if !whole.ReadASN1(&outer, tag.SEQUENCE) || !whole.Empty() || !outer.ReadASN1Enum(&code) || !outer.ReadOptionalASN1(&content, &has, context0) || !outer.Empty() {
		return nil, errors.New("it is not the DER of an OCSPResponse")
	}
	if code != 0 || !has {
		text, ok := noAnswers[code]
		if !ok {
			text = fmt.Sprintf("status %d and no answer", code)
		}
		return nil, fmt.Errorf("the responder says: %s", text)
	}
	var kind asn1.ObjectIdentifier
	var basic cryptobyte.String
	if !content.ReadASN1(&outer, tag.SEQUENCE) || !content.Empty() || !outer.ReadASN1ObjectIdentifier(&kind) || !outer.ReadASN1(&basic, tag.OCTET_STRING) || !outer.Empty() {
		return nil, errors.New("it is not the DER of an OCSPResponse: its ResponseBytes do not read")
	}
	if !kind.Equal(oidBasic) {
		return nil, fmt.Errorf("it is of the type %v, and only id-pkix-ocsp-basic (%v) is known here", kind, oidBasic)
	}
	return parseBasic(basic)
}

func parseBasic(basic cryptobyte.String) (*parsedAnswer, error) {
	a := new(parsedAnswer)
	var in, signed, certificates cryptobyte.String
	var has, ok bool
	if !basic.ReadASN1(&in, tag.SEQUENCE) || !basic.Empty() || !in.ReadASN1Element(&signed, tag.SEQUENCE) {
		return nil, errors.New("it is not the DER of a BasicOCSPResponse")
	}
	if a.algorithm, ok = readAlgorithm(&in); !ok || !in.ReadASN1BitStringAsBytes(&a.signature) {
		return nil, errors.New("it has no signature that reads: want an algorithm without parameters, and a BIT STRING without unused bits")
	}
	if !in.ReadOptionalASN1(&certificates, &has, context0) || !in.Empty() {
		return nil, errors.New("bytes that are no certificates follow its signature")
	}
	if has {
		var all, first cryptobyte.String
		if !certificates.ReadASN1(&all, tag.SEQUENCE) || !certificates.Empty() {
			return nil, errors.New("its certificates are no SEQUENCE")
		}
		if !all.Empty() {
			if !all.ReadASN1Element(&first, tag.SEQUENCE) {
				return nil, errors.New("the first of its certificates does not read")
			}
			a.certificate = first
		}
		for !all.Empty() {
			if !all.SkipASN1(tag.SEQUENCE) {
				return nil, errors.New("one of its certificates does not read")
			}
		}
	}
	a.signed = signed
	return a, a.parseSigned(signed)
}

// parseSigned reads ResponseData. The name of the responder is passed over: its certificate tells who it is.
func (a *parsedAnswer) parseSigned(signed cryptobyte.String) error {
	var in, list cryptobyte.String
	var version int
	if !signed.ReadASN1(&in, tag.SEQUENCE) || !in.ReadOptionalASN1Integer(&version, context0, 0) || version != 0 {
		return fmt.Errorf("it is of version %d, and only 1 (0) is known here", version)
	}
	who, form := context1, tag.SEQUENCE
	if in.PeekASN1Tag(context2) {
		who, form = context2, tag.OCTET_STRING
	}
	var id cryptobyte.String
	if !in.ReadASN1(&id, who) || !id.SkipASN1(form) || !id.Empty() {
		return errors.New("its responder has neither a name nor the hash of a key")
	}
	produced, ok := readTime(&in)
	if !ok || !in.ReadASN1(&list, tag.SEQUENCE) {
		return errors.New("it has no time of production, or no list of what it says")
	}
	if err := checkExtensions(&in); err != nil {
		return err
	}
	for !list.Empty() {
		s, err := parseSingle(&list)
		if err != nil {
			return err
		}
		s.produced = produced
		a.singles = append(a.singles, s)
	}
	return nil
}

func parseSingle(list *cryptobyte.String) (single, error) {
	bad := errors.New("what it says of a certificate does not read")
	var s single
	var in, id, said, next cryptobyte.String
	var serial big.Int
	var which tag.Tag
	var has, ok bool
	if !list.ReadASN1(&in, tag.SEQUENCE) || !in.ReadASN1(&id, tag.SEQUENCE) {
		return s, bad
	}
	if s.id.hash, ok = readAlgorithm(&id); !ok || !id.ReadASN1Bytes(&s.id.nameHash, tag.OCTET_STRING) || !id.ReadASN1Bytes(&s.id.keyHash, tag.OCTET_STRING) ||
		!id.ReadASN1Integer(&serial) || serial.Sign() < 0 || !id.Empty() {
		return s, errors.New("its name of a certificate does not read")
	}
	s.id.serial = serialText(&serial)
	if !in.ReadAnyASN1(&said, &which) {
		return s, bad
	}
	switch which {
	case tag.Tag(statusGood).ContextSpecific():
		ok = said.Empty()
	case context1:
		s.code = statusRevoked
		s.revoked, s.reason, ok = readRevoked(said)
	case tag.Tag(statusUnknown).ContextSpecific():
		s.code, ok = statusUnknown, said.Empty()
	default:
		ok = false
	}
	if !ok {
		return s, errors.New("it has no status of a certificate that reads: want good, revoked or unknown")
	}
	if s.issued, ok = readTime(&in); !ok || !in.ReadOptionalASN1(&next, &has, context0) {
		return s, bad
	}
	if has {
		if s.next, ok = readTime(&next); !ok || !next.Empty() {
			return s, bad
		}
	}
	return s, checkExtensions(&in)
}

// readRevoked reads RevokedInfo.
func readRevoked(in cryptobyte.String) (at time.Time, reason ca.Reason, ok bool) {
	var why cryptobyte.String
	var code int
	var has bool
	if at, ok = readTime(&in); !ok || !in.ReadOptionalASN1(&why, &has, context0) || !in.Empty() {
		return at, 0, false
	}
	if has && (!why.ReadASN1Enum(&code) || !why.Empty()) {
		return at, 0, false
	}
	return at, reasonOf(code), true
}

// readAlgorithm reads an AlgorithmIdentifier without parameters, or with NULL for them.
func readAlgorithm(in *cryptobyte.String) (oid asn1.ObjectIdentifier, ok bool) {
	var id, null cryptobyte.String
	var has bool
	ok = in.ReadASN1(&id, tag.SEQUENCE) && id.ReadASN1ObjectIdentifier(&oid) && id.ReadOptionalASN1(&null, &has, tag.NULL) && null.Empty() && id.Empty()
	return oid, ok
}

// readTime reads a GeneralizedTime of UTC in whole seconds (RFC 5280 §4.1.2.5.2).
func readTime(in *cryptobyte.String) (time.Time, bool) {
	var t time.Time
	ok := in.ReadASN1GeneralizedTime(&t)
	_, offset := t.Zone()
	return t, ok && offset == 0
}

// checkExtensions reads the extensions that may end a part of an answer, none of which is known here.
func checkExtensions(in *cryptobyte.String) error {
	bad := errors.New("its extensions do not read")
	var outer, list, e cryptobyte.String
	var has bool
	if !in.ReadOptionalASN1(&outer, &has, context1) || !in.Empty() {
		return bad
	}
	if !has {
		return nil
	}
	if !outer.ReadASN1(&list, tag.SEQUENCE) || !outer.Empty() {
		return bad
	}
	for !list.Empty() {
		var id asn1.ObjectIdentifier
		var critical bool
		if !list.ReadASN1(&e, tag.SEQUENCE) || !e.ReadASN1ObjectIdentifier(&id) || e.PeekASN1Tag(tag.BOOLEAN) && !e.ReadASN1Boolean(&critical) || !e.SkipASN1(tag.OCTET_STRING) || !e.Empty() {
			return bad
		}
		if critical {
			return fmt.Errorf("it has the critical extension %v, which is not known here", id)
		}
	}
	return nil
}
