package cagm

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/plugins/ca/catest"
	"github.com/fondaco/fondaco/plugins/ca/x509ca"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
)

// The test binary executes itself as the plugin program.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		Main()
		return
	}
	os.Exit(m.Run())
}

// TestProgram runs the suite on the program with a small authority; plugins/ca/x509ca runs it in process, with a PKI.
func TestProgram(t *testing.T) {
	p, f := program(t)
	catest.RunProgram(t, p, f)
}

func BenchmarkProgram(b *testing.B) {
	p, f := program(b)
	catest.BenchProgram(b, p, f)
}

func program(t testing.TB) (catest.Program, catest.Fixtures) {
	suite, noon := keys.GM(), time.Date(2030, 5, 1, 12, 0, 0, 0, time.UTC)
	key := func() keys.Signer {
		k, err := suite.Generate(keys.SM2, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	csr := func() []byte {
		der, err := x509ca.Request(suite, key(), "node 1")
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	folder := filepath.Join(t.TempDir(), "ca")
	root := key()
	a, err := x509ca.Create(folder, x509ca.NewAuthority{Suite: suite, Institution: catest.Institution, Key: root, At: noon.Add(-time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	enroll := ca.EnrollRequest{CSR: csr(), Institution: catest.Institution, Name: "node 1", Roles: []identity.Role{"node"}, At: noon.UnixMilli()}
	good, err := a.Enroll(enroll)
	if err != nil || good.Issued == nil {
		t.Fatalf("Enroll = %+v, %v", good.Refusal, err)
	}
	enroll.CSR = csr()
	settings := fmt.Sprintf("[[trust]]\nroots = %q\ncrl = [%q]\n[issue]\nfolder = %q\n", filepath.Join(folder, x509ca.ChainFile), filepath.Join(folder, x509ca.ListFile), folder)
	return catest.Program{Args: []string{"serve"}, Settings: []byte(settings)}, catest.Fixtures{
		At: noon, Institution: catest.Institution, Good: good.Issued.Chain, Root: a.Chain()[len(a.Chain())-1], Purpose: ca.Node, Roles: []identity.Role{"node"}, Other: ca.User,
		Enroll: &enroll, CSR: csr(),
	}
}
