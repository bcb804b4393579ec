package vouch

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// provider answers Verify as a test says.
type provider struct {
	ca.Provider // nil: nothing else is asked
	verify      func(ca.VerifyRequest) (ca.VerifyResponse, error)
	asked       int
}

func (p *provider) Verify(_ context.Context, r ca.VerifyRequest) (ca.VerifyResponse, error) {
	p.asked++
	return p.verify(r)
}

func TestVerdicts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		suite := keys.Std()
		signer, err := suite.Generate(suite.Vote(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		key := signer.Public()
		vouches := func(r ca.VerifyRequest) (ca.VerifyResponse, error) {
			return ca.VerifyResponse{Holder: &ca.Holder{
				Institution: "bank-a", Roles: []identity.Role{identity.Node}, Key: ledger.KeyOf(key), Serial: "1", NotBefore: r.At, NotAfter: r.At + 1000,
			}}, nil
		}
		down := func(ca.VerifyRequest) (ca.VerifyResponse, error) {
			return ca.VerifyResponse{}, &ca.DownError{Plugin: "x", Reason: "it exited"}
		}
		revoked := func(ca.VerifyRequest) (ca.VerifyResponse, error) {
			return ca.VerifyResponse{Refusal: ca.Refuse(ca.Revoked, "certificate 1 was revoked")}, nil
		}
		p := &provider{verify: vouches}
		v := New(Config{Provider: p, Suite: suite, Fresh: time.Minute})
		known, stranger := [][]byte{{1}}, [][]byte{{2}}
		of := func(chain [][]byte, want string) {
			t.Helper()
			who, err := v.Of(chain, key)
			if want == "" && (err != nil || who.Institution != "bank-a") {
				t.Errorf("Of = %+v, %v", who, err)
			}
			if want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("Of = %+v, %v; want %s", who, err, want)
			}
		}

		of(nil, "set ca.chain")
		of(known, "")
		of(known, "")
		if p.asked != 1 {
			t.Errorf("asked %d times within the time that a verdict is fresh", p.asked)
		}
		other, err := suite.Generate(suite.Vote(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.Of(known, other.Public()); err == nil || !strings.Contains(err.Error(), "is for another key") {
			t.Errorf("the certificate of another key: %v", err)
		}

		p.verify = down
		time.Sleep(24 * time.Hour) // the provider is down for a day
		of(known, "")
		of(stranger, "cannot be asked about a node that is not known from before: CA provider x is down: it exited")
		if _, err := v.Of(stranger, key); !errors.Is(err, ca.ErrDown) {
			t.Errorf("error %v, want ca.ErrDown", err)
		}

		p.verify = revoked
		of(known, "certificate 1 was revoked")
		p.verify = down
		time.Sleep(time.Hour)
		of(known, "cannot be asked") // a refusal does not become consent
		p.verify = vouches
		of(known, "")

		for i := range MaxVerdicts + 10 {
			of([][]byte{{3, byte(i), byte(i >> 8)}}, "")
		}
		if len(v.known) > MaxVerdicts {
			t.Errorf("%d verdicts are kept", len(v.known))
		}
	})
}
