package x509ca

import (
	"crypto/rand"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/plugins/ca/catest"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
)

// noon is when tests take place.
var noon = time.Date(2030, 5, 1, 12, 0, 0, 0, time.UTC)

func settingsOf(p *catest.PKI, more string) string {
	return fmt.Sprintf("[[trust]]\nroots = %q\ncrl = [\"%s\"]\n%s\n", p.Path(catest.RootFile), strings.Join(p.Lists, `", "`), more)
}

func configured(t testing.TB, suite keys.Suite, settings string) *Provider {
	t.Helper()
	p := New(suite)
	if err := p.Configure(t.Context(), []byte(settings)); err != nil {
		t.Fatal(err)
	}
	return p
}

// withAuthority adds a small authority of the institution to the settings, and requests to it to the fixtures.
func withAuthority(t testing.TB, suite keys.Suite, settings string, f *catest.Fixtures) string {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "ca")
	key := newKey(t, suite)
	if _, err := Create(folder, NewAuthority{Suite: suite, Institution: catest.Institution, Key: key, At: noon.Add(-time.Hour)}); err != nil {
		t.Fatal(err)
	}
	csr := func() []byte {
		der, err := Request(suite, newKey(t, suite), "a name that is not looked at")
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	f.Enroll = &ca.EnrollRequest{CSR: csr(), Institution: catest.Institution, Agency: "Payments", Name: "node 1", Roles: []identity.Role{"node", "operator"}, At: noon.UnixMilli()}
	f.CSR = csr()
	return settings + fmt.Sprintf("[[trust]]\nroots = %q\ncrl = [%q]\n[issue]\nfolder = %q\n", filepath.Join(folder, ChainFile), filepath.Join(folder, ListFile), folder)
}

func newKey(t testing.TB, suite keys.Suite) keys.Signer {
	t.Helper()
	key, err := suite.Generate(suite.Vote(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestConformance(t *testing.T) {
	for _, a := range []keys.Algorithm{keys.Ed25519, keys.P256} {
		t.Run(a.String(), func(t *testing.T) {
			p := catest.NewPKI(t, catest.Standard(a), noon)
			f := p.Fixtures()
			settings := withAuthority(t, keys.Std(), settingsOf(p, ""), &f)
			catest.Run(t, configured(t, keys.Std(), settings), f)
		})
	}
}
