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
	"slices"
	"sync"
	"time"

	"github.com/miekg/pkcs11"
	"github.com/rs/zerolog"

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

// loginPause is the least time between two log-ins: each makes a device busy, and some count them.
const loginPause = 5 * time.Second

// device is a token that the PIN has opened. One call is made at a time.
type device struct {
	module *pkcs11.Ctx
	label  string
	pin    string
	log    zerolog.Logger

	mu      sync.Mutex // guards what is below
	slot    uint
	session pkcs11.SessionHandle // 0: none
	tried   time.Time            // when the session was last asked for
	refused error                // why the PIN is not given again
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
	d := &device{module: module, label: label, pin: pin}
	if err := d.open(); err != nil {
		return nil, errors.Join(err, d.end())
	}
	return d, nil
}

// open finds the token, opens a session and logs in.
func (d *device) open() error {
	d.tried = time.Now()
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
	session, err := d.module.OpenSession(d.slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return fmt.Errorf("open token %s: %w", d.label, err)
	}
	if err := d.module.Login(session, pkcs11.CKU_USER, d.pin); err != nil && !is(err, pkcs11.CKR_USER_ALREADY_LOGGED_IN) {
		err = fmt.Errorf("open token %s with the PIN: %w; a device locks itself after a few wrong ones", d.label, err)
		if is(err, pinRefused...) {
			d.refused = fmt.Errorf("%w: this PIN is not tried again; start the signer again with the right one", err)
		}
		return errors.Join(err, d.module.CloseSession(session))
	}
	d.session = session
	return nil
}

// Errors of devices (PKCS #11 v3.0, §5.1) that take another session, and those by which a PIN is wrong.
var (
	sessionLost = []pkcs11.Error{
		pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_USER_NOT_LOGGED_IN, pkcs11.CKR_DEVICE_ERROR, pkcs11.CKR_DEVICE_REMOVED,
		pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_KEY_HANDLE_INVALID, pkcs11.CKR_OBJECT_HANDLE_INVALID, // what a log-out leaves of handles
	}
	pinRefused = []pkcs11.Error{pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE, pkcs11.CKR_PIN_EXPIRED, pkcs11.CKR_PIN_LOCKED}
)

func is(err error, codes ...pkcs11.Error) bool {
	code, ok := errors.AsType[pkcs11.Error](err)
	return ok && slices.Contains(codes, code)
}

// reopen makes a session in the place of a lost one.
func (d *device) reopen() error {
	if d.refused != nil {
		return d.refused
	}
	if wait := loginPause - time.Since(d.tried); wait > 0 {
		return fmt.Errorf("a log-in is tried every %v, and again in %v", loginPause, wait.Round(100*time.Millisecond))
	}
	if d.session != 0 {
		_ = d.module.CloseSession(d.session) // the device may know it no more
		d.session = 0
	}
	return d.open()
}

// Close logs out and unloads the module.
func (d *device) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var err error
	if d.session != 0 {
		if err = d.module.Logout(d.session); is(err, sessionLost...) {
			err = nil
		} else {
			err = errors.Join(err, d.module.CloseSession(d.session))
		}
	}
	return errors.Join(err, d.end())
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
var errNotOffered = errors.New("the token does not offer it: keep such a key with `fondaco signer serve`")

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
	device *device
	label  string
	kind   *kind
	public keys.PublicKey

	private pkcs11.ObjectHandle // in the device's session, and guarded like it; 0: to be found
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
			return &deviceKey{device: d, label: label, kind: k, private: private[0], public: key}, nil
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
	signature, err := k.inSession(message)
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

// inSession signs, and if the session was lost, as a device in a network loses it, once more in another.
func (k *deviceKey) inSession(message []byte) ([]byte, error) {
	d := k.device
	d.mu.Lock()
	defer d.mu.Unlock()
	lost := errors.New("the session was lost")
	if k.private != 0 {
		signature, err := k.try(message)
		if !is(err, sessionLost...) {
			return signature, err
		}
		k.private, lost = 0, err
	}
	if again := d.reopen(); again != nil {
		return nil, fmt.Errorf("%w; %w", lost, again)
	}
	d.log.Warn().Err(lost).Str("token", d.label).Msg("the session was lost, and another is open")
	private, err := d.find(pkcs11.CKO_PRIVATE_KEY, k.label)
	if err != nil {
		return nil, err
	}
	if len(private) != 1 {
		return nil, fmt.Errorf("it has %d keys %q now, want one: put the key back, and start the signer again", len(private), k.label)
	}
	k.private = private[0]
	return k.try(message)
}

func (k *deviceKey) try(message []byte) ([]byte, error) {
	d := k.device
	if err := d.module.SignInit(d.session, []*pkcs11.Mechanism{pkcs11.NewMechanism(k.kind.sign, nil)}, k.private); err != nil {
		return nil, err
	}
	return d.module.Sign(d.session, message)
}

// request returns a request for a certificate (PKCS #10, DER) for the key, which the device signs. It cannot be taken for anything else that
// the key signs: that has 32 bytes, and a request has more.
func (k *deviceKey) request() ([]byte, error) { return x509ca.RequestBy(k.public, k.raw, "") }

// lower puts the smaller of the two values of s that make a signature valid in the place of s: keys accept no other.
func lower(s []byte) {
	n := elliptic.P256().Params().N
	if value := new(big.Int).SetBytes(s); new(big.Int).Lsh(value, 1).Cmp(n) > 0 {
		value.Sub(n, value).FillBytes(s)
	}
}
