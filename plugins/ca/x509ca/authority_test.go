package x509ca

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
)

func newAuthority(t *testing.T, suite keys.Suite, passphrase string) (*Authority, keys.Signer) {
	t.Helper()
	key := newKey(t, suite)
	a, err := Create(filepath.Join(t.TempDir(), "ca"), NewAuthority{Suite: suite, Institution: "Bank of Corfu", Key: key, Passphrase: passphrase, At: noon})
	if err != nil {
		t.Fatal(err)
	}
	return a, key
}

func request(t *testing.T, suite keys.Suite) ca.EnrollRequest {
	t.Helper()
	csr, err := Request(suite, newKey(t, suite), "node 1")
	if err != nil {
		t.Fatal(err)
	}
	return ca.EnrollRequest{CSR: csr, Institution: "Bank of Corfu", Name: "node 1", Roles: []identity.Role{"node"}, At: noon.UnixMilli()}
}

func issue(t *testing.T, a *Authority, r ca.EnrollRequest) (serial string) {
	t.Helper()
	got, err := a.Enroll(r)
	if err != nil || got.Issued == nil {
		t.Fatalf("Enroll = %+v, %v", got.Refusal, err)
	}
	c, err := a.lib.parse(got.Issued.Chain[0])
	if err != nil {
		t.Fatal(err)
	}
	return c.serial
}

// TestAuthority tells what an authority does and does not issue.
func TestAuthority(t *testing.T) {
	suite := keys.Std()
	a, key := newAuthority(t, suite, "")
	for _, c := range []struct {
		name   string
		change func(*ca.EnrollRequest)
		want   ca.Code
		says   string
	}{
		{"another institution", func(r *ca.EnrollRequest) { r.Institution = "Bank of Zante" }, ca.Denied, `issues for "Bank of Corfu", not for "Bank of Zante"`},
		{"a role that is no word", func(r *ca.EnrollRequest) { r.Roles = []identity.Role{"node/../root"} }, ca.Malformed, "want lower-case letters"},
		{"a name with a line feed", func(r *ca.EnrollRequest) { r.Name = "a\nb" }, ca.Malformed, "is no name"},
		{"a request that is none", func(r *ca.EnrollRequest) { r.CSR = []byte{1} }, ca.Malformed, "PKCS #10"},
		{"a request that is signed with SHA-1", func(r *ca.EnrollRequest) {
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err == nil {
				r.CSR, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{SignatureAlgorithm: x509.ECDSAWithSHA1}, key)
			}
			if err != nil {
				t.Fatal(err)
			}
		}, ca.Malformed, "it is signed with ECDSA-SHA1; make it anew with SHA-256 or better"},
		{"before its own beginning", func(r *ca.EnrollRequest) { r.At = noon.Add(-time.Hour).UnixMilli() }, ca.Denied, "is itself valid from 2030-05-01"},
		{"beyond its own end", func(r *ca.EnrollRequest) { r.NotAfter = noon.Add(11 * 365 * 24 * time.Hour).UnixMilli() }, ca.Denied, "issues nothing beyond that"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := request(t, suite)
			c.change(&r)
			got, err := a.Enroll(r)
			if err != nil || got.Refusal == nil || got.Refusal.Code != c.want || !strings.Contains(got.Refusal.Reason, c.says) {
				t.Errorf("Enroll = %+v, %v; want %s and %q", got.Refusal, err, c.want, c.says)
			}
		})
	}
	t.Run("a certificate that would end after the authority ends with it", func(t *testing.T) {
		r := request(t, suite)
		r.At = noon.Add(DefaultAuthority - 24*time.Hour).UnixMilli()
		got, err := a.Enroll(r)
		if err != nil || got.Issued == nil {
			t.Fatalf("Enroll = %+v, %v", got.Refusal, err)
		}
		if c, _ := x509.ParseCertificate(got.Issued.Chain[0]); !c.NotAfter.Equal(noon.Add(DefaultAuthority)) {
			t.Errorf("it ends on %s", c.NotAfter)
		}
	})
	t.Run("a renewal comes too late", func(t *testing.T) {
		r := request(t, suite)
		r.NotAfter = noon.Add(time.Hour).UnixMilli()
		serial := issue(t, a, r)
		got, err := a.Renew(ca.RenewRequest{Serial: serial, At: noon.Add(2 * time.Hour).UnixMilli()})
		if err != nil || got.Refusal == nil || got.Refusal.Code != ca.Expired {
			t.Errorf("Renew = %+v, %v", got.Refusal, err)
		}
	})
	t.Run("without its key it only looks", func(t *testing.T) {
		opened, err := Open(a.folder)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := opened.Enroll(request(t, suite)); !errors.Is(err, errLocked) {
			t.Errorf("Enroll: %v", err)
		}
		if err := opened.Unlock(newKey(t, suite)); err == nil || !strings.Contains(err.Error(), "is not the one of the authority") {
			t.Errorf("Unlock: %v", err)
		}
		if err := opened.Unlock(key); err != nil {
			t.Error(err)
		}
		issue(t, opened, request(t, suite))
	})
	t.Run("it is never overwritten", func(t *testing.T) {
		if _, err := Create(a.folder, NewAuthority{Suite: suite, Institution: "x", Key: key, At: noon}); err == nil || !strings.Contains(err.Error(), "never overwritten") {
			t.Errorf("Create: %v", err)
		}
		if left, _ := filepath.Glob(filepath.Join(filepath.Dir(a.folder), ".ca-*")); len(left) > 0 {
			t.Errorf("left %v", left)
		}
	})
	t.Run("a folder's name may end with a slash", func(t *testing.T) {
		folder := filepath.Join(t.TempDir(), "ca") + "/"
		if _, err := Create(folder, NewAuthority{Suite: suite, Institution: "x", Key: key, At: noon}); err != nil {
			t.Error(err)
		}
	})
	t.Run("there is none", func(t *testing.T) {
		if _, err := Open(t.TempDir()); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "make an authority with") {
			t.Errorf("Open: %v", err)
		}
	})
}

// TestRevocations tells that what was revoked stays revoked.
func TestRevocations(t *testing.T) {
	suite := keys.Std()
	a, key := newAuthority(t, suite, "")
	var serials []string
	for range 8 {
		serials = append(serials, issue(t, a, request(t, suite)))
	}
	t.Run("many at once, in two processes", func(t *testing.T) {
		other, err := Open(a.folder)
		if err != nil {
			t.Fatal(err)
		}
		if err := other.Unlock(key); err != nil {
			t.Fatal(err)
		}
		var wait sync.WaitGroup
		for i, serial := range serials[:6] {
			wait.Go(func() {
				by := []*Authority{a, other}[i%2]
				if r, err := by.Revoke(ca.RevokeRequest{Serial: serial, Reason: ca.Cessation, At: noon.UnixMilli()}); err != nil || r.Refusal != nil {
					t.Errorf("Revoke = %+v, %v", r.Refusal, err)
				}
			})
		}
		wait.Wait()
		l, err := a.List()
		if err != nil || len(l.Revoked) != 6 || l.Number != "07" {
			t.Errorf("List = number %s with %d, %v; want 07 with 6", l.Number, len(l.Revoked), err)
		}
	})
	t.Run("a new list keeps them", func(t *testing.T) {
		if err := a.Refresh(noon.Add(time.Hour), 24*time.Hour); err != nil {
			t.Fatal(err)
		}
		l, err := a.List()
		if err != nil || len(l.Revoked) != 6 || l.Number != "08" || l.Issued != noon.Add(time.Hour).UnixMilli() || l.NextUpdate != noon.Add(25*time.Hour).UnixMilli() {
			t.Errorf("List = %+v, %v", l, err)
		}
	})
	t.Run("the interval between lists stays", func(t *testing.T) {
		if err := a.Refresh(noon.Add(time.Hour), 30*24*time.Hour); err != nil {
			t.Fatal(err)
		}
		if r, err := a.Revoke(ca.RevokeRequest{Serial: serials[0], At: noon.Add(2 * time.Hour).UnixMilli()}); err != nil || r.Refusal != nil { // again
			t.Fatalf("Revoke = %+v, %v", r.Refusal, err)
		}
		extra := issue(t, a, request(t, suite))
		if r, err := a.Revoke(ca.RevokeRequest{Serial: extra, At: noon.Add(2 * time.Hour).UnixMilli()}); err != nil || r.Refusal != nil {
			t.Fatalf("Revoke = %+v, %v", r.Refusal, err)
		}
		l, err := a.List()
		if err != nil || l.Number != "0a" || l.NextUpdate != noon.Add(2*time.Hour+30*24*time.Hour).UnixMilli() {
			t.Errorf("List = number %s until %d, %v", l.Number, l.NextUpdate, err)
		}
	})
	t.Run("what is issued is listed", func(t *testing.T) {
		if err := os.WriteFile(filepath.Join(a.folder, issuedDir, ".new-123"), []byte("half"), 0o600); err != nil { // a crash
			t.Fatal(err)
		}
		all, err := a.Issued()
		if err != nil || len(all) != 9 {
			t.Fatalf("Issued = %d, %v", len(all), err)
		}
		revoked := 0
		for _, c := range all {
			if c.Revoked != nil {
				revoked++
			}
		}
		if revoked != 7 || all[0].Roles[0] != "node" {
			t.Errorf("%d are revoked; the first is %+v", revoked, all[0])
		}
	})
	t.Run("what a crash left goes away", func(t *testing.T) {
		opened, err := Open(a.folder)
		if err == nil {
			err = opened.Unlock(key)
		}
		if err == nil {
			err = opened.Refresh(noon.Add(3*time.Hour), DefaultNext)
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(a.folder, issuedDir, ".new-123")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Stat: %v", err)
		}
	})
	t.Run("a renewal and a revocation at once", func(t *testing.T) {
		for range 8 {
			serial := issue(t, a, request(t, suite))
			var wait sync.WaitGroup
			var renewed ca.IssueResponse
			wait.Go(func() {
				if _, err := a.Revoke(ca.RevokeRequest{Serial: serial, At: noon.UnixMilli()}); err != nil {
					t.Error(err)
				}
			})
			wait.Go(func() {
				var err error
				if renewed, err = a.Renew(ca.RenewRequest{Serial: serial, At: noon.UnixMilli()}); err != nil {
					t.Error(err)
				}
			})
			wait.Wait()
			if (renewed.Issued == nil) == (renewed.Refusal == nil) || renewed.Refusal != nil && renewed.Refusal.Code != ca.Revoked {
				t.Errorf("Renew = %+v", renewed)
			}
		}
	})
	t.Run("without its list it does nothing", func(t *testing.T) {
		path := filepath.Join(a.folder, ListFile)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		stranger, _ := newAuthority(t, suite, "")
		foreign, err := os.ReadFile(filepath.Join(stranger.folder, ListFile))
		if err != nil {
			t.Fatal(err)
		}
		for name, data := range map[string][]byte{"damaged": whole[:len(whole)/2], "of another": foreign} {
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := a.Revoke(ca.RevokeRequest{Serial: serials[7], At: noon.UnixMilli()}); err == nil || !strings.Contains(err.Error(), "restore") {
				t.Errorf("%s: Revoke: %v", name, err)
			}
			if _, err := a.Renew(ca.RenewRequest{Serial: serials[7], At: noon.UnixMilli()}); err == nil || !strings.Contains(err.Error(), "restore") {
				t.Errorf("%s: Renew: %v", name, err)
			}
		}
	})
}

// TestIssue opens an authority with a locked key for a provider.
func TestIssue(t *testing.T) {
	suite := keys.Std()
	a, _ := newAuthority(t, suite, "correct horse")
	secret := filepath.Join(t.TempDir(), "passphrase")
	if err := os.WriteFile(secret, []byte("correct horse\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	settings := fmt.Sprintf("[[trust]]\nroots = %q\nrevocation = \"none\"\n[issue]\nfolder = %q\n", filepath.Join(a.folder, ChainFile), a.folder)
	if err := New(suite).Configure(t.Context(), []byte(settings)); err == nil || !strings.Contains(err.Error(), "name a file with its passphrase in passphrase_file") {
		t.Errorf("Configure: %v", err)
	}
	settings += fmt.Sprintf("passphrase_file = %q\n", secret)
	p := configured(t, suite, settings)
	if got, err := p.Enroll(t.Context(), request(t, suite)); err != nil || got.Issued == nil {
		t.Errorf("Enroll = %+v, %v", got.Refusal, err)
	}
	if err := os.Chmod(secret, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := New(suite).Configure(t.Context(), []byte(settings)); err == nil || !strings.Contains(err.Error(), "can be read by others") {
		t.Errorf("Configure: %v", err)
	}
}

// TestLongName has a name of more bytes than a message holds.
func TestLongName(t *testing.T) {
	for extra := range 4 {
		text := nameText(pkix.Name{CommonName: strings.Repeat("x", extra) + strings.Repeat("科", ca.MaxText)})
		if len(text) > ca.MaxText || !utf8.ValidString(text) || !strings.HasPrefix(text, "CN=") {
			t.Errorf("%d bytes: %q", len(text), text)
		}
	}
}
