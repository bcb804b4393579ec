//go:build cgo

package main

import (
	"bytes"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"sync"

	"github.com/miekg/pkcs11"

	"github.com/fondaco/fondaco/plugins/ca/x509ca"
	"github.com/fondaco/fondaco/state/keys"
)

// What PKCS #11 v3.0 (§2.3) has for Edwards curves, and the Go package does not name.
const (
	ckkECEdwards           = 0x40
	ckmECEdwardsKeyPairGen = 0x1055
	ckmEdDSA               = 0x1057
)

// kind is how a device knows keys of an algorithm.
type kind struct {
	algorithm      keys.Algorithm
	keyType        uint
	generate, sign uint
	params         []byte // CKA_EC_PARAMS: the curve's object identifier in DER
}

var kinds = []kind{
	{keys.P256, pkcs11.CKK_EC, pkcs11.CKM_EC_KEY_PAIR_GEN, pkcs11.CKM_ECDSA, []byte{6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7}}, // 1.2.840.10045.3.1.7
	{keys.Ed25519, ckkECEdwards, ckmECEdwardsKeyPairGen, ckmEdDSA, []byte{6, 3, 0x2b, 0x65, 0x70}},                                // 1.3.101.112
}

// device is a token that the PIN has opened. One call is made at a time.
type device struct {
	module *pkcs11.Ctx
	label  string

	mu      sync.Mutex // guards the session
	slot    uint
	session pkcs11.SessionHandle
}

func openDevice(file, label, pin string) (*device, error) {
	module := pkcs11.New(file)
	if module == nil {
		return nil, fmt.Errorf("%s cannot be loaded: it must be the PKCS#11 module of the device, a shared library for this machine", file)
	}
	if err := module.Initialize(); err != nil {
		module.Destroy()
		return nil, fmt.Errorf("start the module %s: %w", file, err)
	}
	d := &device{module: module, label: label}
	if err := d.open(pin); err != nil {
		return nil, errors.Join(err, d.end())
	}
	return d, nil
}

func (d *device) open(pin string) error {
	slots, err := d.module.GetSlotList(true)
	if err != nil {
		return fmt.Errorf("list the tokens: %w", err)
	}
	var found []uint
	var labels []string
	for _, slot := range slots {
		info, err := d.module.GetTokenInfo(slot)
		if err != nil {
			continue // the next may be the one
		}
		labels = append(labels, info.Label)
		if info.Label == d.label {
			found = append(found, slot)
		}
	}
	if len(found) != 1 {
		return fmt.Errorf("%d tokens have the label %q, want one: the module has %q", len(found), d.label, labels)
	}
	d.slot = found[0]
	if d.session, err = d.module.OpenSession(d.slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION); err != nil {
		return fmt.Errorf("open token %s: %w", d.label, err)
	}
	if err := d.module.Login(d.session, pkcs11.CKU_USER, pin); err != nil {
		return fmt.Errorf("open token %s with the PIN: %w; a device locks itself after a few wrong ones", d.label, err)
	}
	return nil
}

// Close logs out and unloads the module.
func (d *device) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return errors.Join(d.module.Logout(d.session), d.module.CloseSession(d.session), d.end())
}

func (d *device) end() error {
	err := d.module.Finalize()
	d.module.Destroy()
	return err
}

// offers reports whether the token knows a mechanism.
func (d *device) offers(mechanism uint) (bool, error) {
	known, err := d.module.GetMechanismList(d.slot)
	if err != nil {
		return false, fmt.Errorf("list what token %s can do: %w", d.label, err)
	}
	for _, m := range known {
		if m.Mechanism == mechanism {
			return true, nil
		}
	}
	return false, nil
}

// errNotOffered says that a key cannot be in a token.
var errNotOffered = errors.New("the token does not offer it")

// generate makes a key that signs and cannot be read out.
func (d *device) generate(label string, a keys.Algorithm) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, k := range kinds {
		if k.algorithm != a {
			continue
		}
		if there, err := d.find(pkcs11.CKO_PRIVATE_KEY, label); err != nil || len(there) > 0 {
			return errors.Join(err, fmt.Errorf("token %s has a key %q already: name another", d.label, label))
		}
		if offered, err := d.offers(k.generate); err != nil || !offered {
			return errors.Join(err, fmt.Errorf("make a key for %s in token %s: %w", a, d.label, errNotOffered))
		}
		id := make([]byte, 8)
		rand.Read(id) //nolint:errcheck // never fails, see package crypto/rand
		public := []*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY), pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, k.keyType),
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_VERIFY, true), pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, k.params),
			pkcs11.NewAttribute(pkcs11.CKA_LABEL, label), pkcs11.NewAttribute(pkcs11.CKA_ID, id),
		}
		private := []*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, k.keyType),
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true), pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
			pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false), pkcs11.NewAttribute(pkcs11.CKA_SIGN, true),
			pkcs11.NewAttribute(pkcs11.CKA_LABEL, label), pkcs11.NewAttribute(pkcs11.CKA_ID, id),
		}
		if _, _, err := d.module.GenerateKeyPair(d.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(k.generate, nil)}, public, private); err != nil {
			return fmt.Errorf("make a key for %s in token %s: %w", a, d.label, err)
		}
		return nil
	}
	return fmt.Errorf("make a key for %s: this program does not, whatever token %s offers: PKCS#11 has no mechanism for it that all devices share, and those of vendors were never "+
		"tried; keep such a key with `fondaco signer serve`", a, d.label)
}

// find returns at most two objects of a class with a label.
func (d *device) find(class uint, label string) ([]pkcs11.ObjectHandle, error) {
	err := d.module.FindObjectsInit(d.session, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, class), pkcs11.NewAttribute(pkcs11.CKA_LABEL, label)})
	if err != nil {
		return nil, fmt.Errorf("look for key %q in token %s: %w", label, d.label, err)
	}
	found, _, err := d.module.FindObjects(d.session, 2)
	if err = errors.Join(err, d.module.FindObjectsFinal(d.session)); err != nil {
		return nil, fmt.Errorf("look for key %q in token %s: %w", label, d.label, err)
	}
	return found, nil
}

// deviceKey is a key in a device, a keys.Signer.
type deviceKey struct {
	device  *device
	kind    *kind
	private pkcs11.ObjectHandle
	public  keys.PublicKey
}

// key finds a key and its public half by their label.
func (d *device) key(label string) (*deviceKey, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	private, err := d.find(pkcs11.CKO_PRIVATE_KEY, label)
	if err != nil {
		return nil, err
	}
	public, err := d.find(pkcs11.CKO_PUBLIC_KEY, label)
	if err != nil {
		return nil, err
	}
	if len(private) == 0 {
		return nil, fmt.Errorf("token %s has no key %q: make one with `signer-pkcs11 new`", d.label, label)
	}
	if len(private) > 1 || len(public) != 1 {
		return nil, fmt.Errorf("the label %q in token %s must be that of one private key and of its public key, which is in the token too", label, d.label)
	}
	values, err := d.module.GetAttributeValue(d.session, public[0], []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, nil), pkcs11.NewAttribute(pkcs11.CKA_EC_POINT, nil),
	})
	if err != nil {
		return nil, fmt.Errorf("read the public half of key %q in token %s: %w; is it a key on an elliptic curve?", label, d.label, err)
	}
	for i := range kinds {
		if k := &kinds[i]; bytes.Equal(values[0].Value, k.params) {
			key, err := publicKey(k.algorithm, values[1].Value)
			if err != nil {
				return nil, fmt.Errorf("the public half of key %q in token %s: %w", label, d.label, err)
			}
			return &deviceKey{device: d, kind: k, private: private[0], public: key}, nil
		}
	}
	return nil, fmt.Errorf("key %q in token %s is on curve %x: want P-256 or Ed25519", label, d.label, values[0].Value)
}

// publicKey reads a CKA_EC_POINT: a DER octet string, which some devices leave away, around an uncompressed point, or around an Ed25519 key.
func publicKey(a keys.Algorithm, raw []byte) (keys.PublicKey, error) {
	var point []byte
	if rest, err := asn1.Unmarshal(raw, &point); err != nil || len(rest) > 0 {
		point = raw
	}
	if a == keys.P256 && len(point) == 65 && point[0] == 4 {
		point = append([]byte{2 + point[64]&1}, point[1:33]...)
	}
	return keys.Std().ParsePublic(a, point)
}

func (k *deviceKey) Public() keys.PublicKey { return k.public }

// Private fails: the key does not leave its device.
func (k *deviceKey) Private() ([]byte, error) {
	return nil, fmt.Errorf("the key is in token %s and does not leave it", k.device.label)
}

// Sign signs a digest in the device. What does not verify does not leave.
func (k *deviceKey) Sign(digest keys.Digest) ([]byte, error) {
	message := digest[:]
	if k.kind.algorithm == keys.P256 {
		hashed := sha256.Sum256(message)
		message = hashed[:]
	}
	signature, err := k.raw(message)
	if err != nil {
		return nil, err
	}
	if err := k.public.Verify(digest, signature); err != nil {
		return nil, fmt.Errorf("token %s signed wrongly: %w", k.device.label, err)
	}
	return signature, nil
}

// raw signs what the device's mechanism takes: a message with Ed25519, the hash of one with P-256.
func (k *deviceKey) raw(message []byte) ([]byte, error) {
	signature, err := k.device.sign(k.kind.sign, k.private, message)
	if err != nil {
		return nil, fmt.Errorf("sign in token %s: %w", k.device.label, err)
	}
	if len(signature) != keys.SignatureSize {
		return nil, fmt.Errorf("token %s made a signature of %d bytes, want %d", k.device.label, len(signature), keys.SignatureSize)
	}
	if k.kind.algorithm == keys.P256 {
		lower(signature[keys.SignatureSize/2:])
	}
	return signature, nil
}

// request returns a request for a certificate (PKCS #10, DER) for the key, which the device signs. It cannot be taken for anything else that
// the key signs: that has 32 bytes, and a request has more.
func (k *deviceKey) request() ([]byte, error) { return x509ca.RequestBy(k.public, k.raw, "") }

func (d *device) sign(mechanism uint, key pkcs11.ObjectHandle, message []byte) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.module.SignInit(d.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, nil)}, key); err != nil {
		return nil, err
	}
	return d.module.Sign(d.session, message)
}

// lower puts the smaller of the two values of s that make a signature valid in the place of s: keys accept no other.
func lower(s []byte) {
	n := elliptic.P256().Params().N
	if value := new(big.Int).SetBytes(s); new(big.Int).Lsh(value, 1).Cmp(n) > 0 {
		value.Sub(n, value).FillBytes(s)
	}
}
