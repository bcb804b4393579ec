//go:build linux && (amd64 || arm64)

package x509ca

import (
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/state/crashimage"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/keys/keyfile"
)

// playsIn tells the test binary to be the authority's program, in a folder.
const playsIn = "FONDACO_TEST_AUTHORITY"

func TestMain(m *testing.M) {
	if dir := os.Getenv(playsIn); dir != "" {
		if err := play(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// play has the authority in a folder issue, renew and revoke. It tells each thing once it is done.
func play(dir string) error {
	a, err := reopen(filepath.Join(dir, "ca"))
	if err != nil {
		return err
	}
	suite := a.Suite()
	var serials []string
	issued := func(answer ca.IssueResponse, err error) error {
		if err != nil {
			return err
		}
		c, err := a.lib.parse(answer.Issued.Chain[0])
		if err == nil {
			serials = append(serials, c.serial)
			fmt.Print("issued " + c.serial)
		}
		return err
	}
	for range 2 {
		holder, err := suite.Generate(suite.Vote(), rand.Reader)
		if err != nil {
			return err
		}
		csr, err := Request(suite, holder, "")
		if err != nil {
			return err
		}
		if err := issued(a.Enroll(ca.EnrollRequest{CSR: csr, Institution: "Bank of Corfu", Roles: []identity.Role{"node"}, At: noon.UnixMilli()})); err != nil {
			return err
		}
		if _, err := a.Revoke(ca.RevokeRequest{Serial: serials[0], At: noon.UnixMilli()}); err != nil {
			return err
		}
		fmt.Print("revoked " + serials[0])
		serials = serials[1:]
		if err := a.Refresh(noon.Add(time.Hour), DefaultNext); err != nil {
			return err
		}
		l, err := a.List()
		if err != nil {
			return err
		}
		fmt.Print("list " + l.Number)
		if err := issued(a.Enroll(ca.EnrollRequest{CSR: csr, Institution: "Bank of Corfu", Roles: []identity.Role{"node"}, At: noon.UnixMilli()})); err != nil {
			return err
		}
		if err := issued(a.Renew(ca.RenewRequest{Serial: serials[0], At: noon.UnixMilli()})); err != nil {
			return err
		}
	}
	return nil
}

func reopen(folder string) (*Authority, error) {
	a, err := Open(folder)
	if err != nil {
		return nil, err
	}
	key, err := keyfile.Read(a.KeyPath(), a.Suite(), nil)
	if err != nil {
		return nil, err
	}
	return a, a.Unlock(key)
}

// TestPowerFailure looks at the folder of an authority after a power failure at every moment of its life: what was
// told is there, and the authority goes on.
func TestPowerFailure(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Create(filepath.Join(dir, "ca"), NewAuthority{Suite: keys.GM(), Institution: "Bank of Corfu", Key: newKey(t, keys.GM()), At: noon}); err != nil { // whose authorities issue pairs
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	record, err := crashimage.Run(dir, program, []string{program}, append(os.Environ(), playsIn+"="+dir))
	if errors.Is(err, errors.ErrUnsupported) && os.Getenv("FONDACO_REQUIRE_TOOLS") != "1" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	rng := mathrand.New(mathrand.NewPCG(1, 1))
	disk := record.Disk(nil)
	var told []string
	images := 0
	for {
		e, more, err := disk.Next()
		if err != nil {
			t.Fatal(err)
		}
		if !more {
			break
		}
		if e.Op == crashimage.OpTell {
			told = append(told, string(e.Data))
			continue // nothing has changed
		}
		for _, lose := range []*mathrand.Rand{nil, rng} {
			image, err := disk.Image(lose)
			if err != nil {
				t.Fatal(err)
			}
			left := t.TempDir()
			if err := errors.Join(image.Save(left), os.MkdirAll(filepath.Join(left, "ca", issuedDir), 0o700)); err != nil { // an image has no empty folders
				t.Fatal(err)
			}
			images++
			if err := survives(filepath.Join(left, "ca"), told); err != nil {
				t.Errorf("power fails after %q and %s: %v", told, e, err)
			}
		}
	}
	if images < 100 || len(told) < 10 {
		t.Errorf("%d images, and %q was told", images, told)
	}
}

// survives says what is missing in an authority's folder of what was told, or returns nil if it goes on from there.
func survives(folder string, told []string) error {
	a, err := reopen(folder)
	if err != nil {
		return err
	}
	l, err := a.list()
	if err != nil {
		return err
	}
	var issued []string
	for _, line := range told {
		what, number, _ := strings.Cut(line, " ")
		switch what {
		case "issued":
			issued = append(issued, number)
			got, err := a.Fetch(number)
			if err != nil || got.Issued == nil || got.Issued.Encryption == nil {
				return fmt.Errorf("Fetch(%s) = %+v, %w", number, got, err)
			}
		case "revoked":
			if _, ok := l.revoked[number]; !ok {
				return fmt.Errorf("certificate %s is no longer revoked", number)
			}
		case "list":
			if got := serialText(l.number); got < number {
				return fmt.Errorf("the list has number %s, and %s was told", got, number)
			}
		}
	}
	before := l.number
	all, err := a.Issued()
	if err != nil || len(all) < 2*len(issued) {
		return fmt.Errorf("Issued = %d, %w", len(all), err)
	}
	if len(issued) == 0 {
		return a.Refresh(noon.Add(2*time.Hour), DefaultNext)
	}
	last := issued[len(issued)-1]
	again, err := a.Renew(ca.RenewRequest{Serial: last, At: noon.UnixMilli()})
	if err != nil || again.Issued == nil && again.Refusal.Code != ca.Revoked { // which nobody was told yet
		return fmt.Errorf("Renew(%s) = %+v, %w", last, again, err)
	}
	if again.Issued != nil {
		if c, err := a.lib.parse(again.Issued.Chain[0]); err != nil || slices.ContainsFunc(all, func(i IssuedCertificate) bool { return i.Serial == c.serial }) {
			return fmt.Errorf("number %s is used again: %w", c.serial, err)
		}
	}
	if err := a.Refresh(noon.Add(2*time.Hour), DefaultNext); err != nil {
		return err
	}
	if l, err = a.list(); err != nil || l.number.Cmp(before) <= 0 {
		return fmt.Errorf("the list has number %v after %v: %w", l.number, before, err)
	}
	if left, err := filepath.Glob(filepath.Join(folder, "*", freshPrefix+"*")); err != nil || len(left) > 0 {
		return fmt.Errorf("left %q, %w", left, err)
	}
	return nil
}
