package cli_test

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"io/fs"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/state/keys"
)

// scribe is a CA provider of an institution's own, which issues and shares no code with those that fondaco ships. Its settings are the path of a
// folder, in which it keeps what it issued in files named by serial numbers, and those of what it revoked beside them. It verifies nothing.
type scribe struct {
	folder string
	key    ed25519.PrivateKey
}

func scribeMain() {
	ca.Serve(new(scribe), ca.Manifest{Name: "scribe", Version: "1", Algorithms: []keys.Algorithm{keys.Ed25519}, Issues: true})
}

// Configure takes the folder, and makes a key there at the first start.
func (s *scribe) Configure(_ context.Context, settings []byte) error {
	s.folder = string(settings)
	seed, err := os.ReadFile(filepath.Join(s.folder, "seed"))
	if errors.Is(err, fs.ErrNotExist) {
		_, key, err := ed25519.GenerateKey(nil)
		if err != nil {
			return err
		}
		s.key = key
		return os.WriteFile(filepath.Join(s.folder, "seed"), key.Seed(), 0o600)
	}
	if err == nil && len(seed) != ed25519.SeedSize {
		err = errors.New("the seed is no seed")
	}
	if err == nil {
		s.key = ed25519.NewKeyFromSeed(seed)
	}
	return err
}

func (s *scribe) path(serial, suffix string) string {
	return filepath.Join(s.folder, filepath.Base(serial)+suffix)
}

// issue signs a certificate and keeps it.
func (s *scribe) issue(template *x509.Certificate, key any) (ca.IssueResponse, error) {
	issuer := &x509.Certificate{Subject: pkix.Name{CommonName: "scribe"}}
	template.SerialNumber, template.KeyUsage = big.NewInt(time.Now().UnixNano()), x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(nil, template, issuer, key, s.key)
	if err == nil {
		err = os.WriteFile(s.path(hex.EncodeToString(template.SerialNumber.Bytes()), ".der"), der, 0o600)
	}
	return ca.IssueResponse{Issued: &ca.Issued{Chain: [][]byte{der}}}, err
}

// issued returns what it issued under a serial number and did not revoke.
func (s *scribe) issued(serial string) (*x509.Certificate, *ca.Refusal) {
	if _, err := os.Stat(s.path(serial, ".revoked")); err == nil {
		return nil, ca.Refuse(ca.Revoked, "the scribe struck %s out", serial)
	}
	der, err := os.ReadFile(s.path(serial, ".der"))
	if err != nil {
		return nil, ca.Refuse(ca.UnknownSerial, "the scribe wrote no %s", serial)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, ca.Refuse(ca.Malformed, "%s: %v", serial, err)
	}
	return c, nil
}

// Enroll implements ca.Provider.
func (s *scribe) Enroll(_ context.Context, r ca.EnrollRequest) (ca.IssueResponse, error) {
	request, err := x509.ParseCertificateRequest(r.CSR)
	if err == nil {
		err = request.CheckSignature()
	}
	if err != nil {
		return ca.IssueResponse{Refusal: ca.Refuse(ca.Malformed, "no PKCS #10: %v", err)}, nil
	}
	template := &x509.Certificate{
		Subject:   pkix.Name{Organization: []string{r.Institution}, OrganizationalUnit: []string{r.Agency}, CommonName: r.Name},
		NotBefore: time.UnixMilli(r.At), NotAfter: time.UnixMilli(r.At).AddDate(0, 0, 90),
	}
	if r.NotAfter != 0 {
		template.NotAfter = time.UnixMilli(r.NotAfter)
	}
	for _, role := range r.Roles {
		template.URIs = append(template.URIs, &url.URL{Scheme: "fondaco", Opaque: "role:" + string(role)})
	}
	return s.issue(template, request.PublicKey)
}

// Renew implements ca.Provider.
func (s *scribe) Renew(_ context.Context, r ca.RenewRequest) (ca.IssueResponse, error) {
	old, refusal := s.issued(r.Serial)
	if refusal != nil {
		return ca.IssueResponse{Refusal: refusal}, nil
	}
	template := &x509.Certificate{Subject: old.Subject, URIs: old.URIs, NotBefore: time.UnixMilli(r.At), NotAfter: time.UnixMilli(r.At).AddDate(0, 0, 90)}
	return s.issue(template, old.PublicKey)
}

// Revoke implements ca.Provider.
func (s *scribe) Revoke(_ context.Context, r ca.RevokeRequest) (ca.RevokeResponse, error) {
	if _, refusal := s.issued(r.Serial); refusal != nil {
		return ca.RevokeResponse{Refusal: refusal}, nil
	}
	return ca.RevokeResponse{}, os.WriteFile(s.path(r.Serial, ".revoked"), []byte(r.Reason.String()), 0o600)
}

// Verify refuses.
func (s *scribe) Verify(context.Context, ca.VerifyRequest) (ca.VerifyResponse, error) {
	return ca.VerifyResponse{Refusal: ca.Refuse(ca.Unsupported, "the scribe only writes")}, nil
}

// Revoked has no lists.
func (s *scribe) Revoked(context.Context, ca.RevokedRequest) (ca.RevokedResponse, error) {
	return ca.RevokedResponse{}, nil
}
