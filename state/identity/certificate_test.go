package identity_test

import (
	"strings"
	"testing"

	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
)

// TestForm tells what is in the form of a certificate, and what of it a fingerprint is of.
func TestForm(t *testing.T) {
	const whole = "\x30\x0c" + signed + algorithm + "\x03\x02\x00\xff"
	const signedPart, all = signed, ""
	for name, c := range map[string]struct {
		der     string
		of      string // what is hashed; empty: all of it
		refused string // words; empty: it is not refused
	}{
		"a certificate":                        {whole, signedPart, ""},
		"another signature":                    {"\x30\x0c" + signed + algorithm + "\x03\x02\x00\x0f", signedPart, ""},
		"unused bits":                          {"\x30\x0c" + signed + algorithm + "\x03\x02\x04\xf0", signedPart, "its signature has unused bits (4)"},
		"something after the signature":        {"\x30\x0e" + signed + algorithm + "\x03\x02\x00\xff\x05\x00", signedPart, "2 bytes follow its signature"},
		"the signature twice":                  {"\x30\x10" + signed + algorithm + "\x03\x02\x00\xff\x03\x02\x00\xff", signedPart, "4 bytes follow its signature"},
		"a signature without its first byte":   {"\x30\x0a" + signed + algorithm + "\x03\x00", signedPart, "it is not the DER of a certificate"},
		"no signature":                         {"\x30\x08" + signed + algorithm, signedPart, "it is not the DER of a certificate"},
		"a length in more bytes than it takes": {"\x30\x81" + whole[1:], all, "it is not the DER of a certificate"},
		"something after it":                   {whole + "\x00", all, "it is not the DER of a certificate"},
		"half of it":                           {whole[:7], all, "it is not the DER of a certificate"},
		"a SEQUENCE of something else":         {"\x30\x03\x02\x01\x07", all, "it is not the DER of a certificate"},
		"an empty one":                         {"\x30\x00", all, "it is not the DER of a certificate"},
		"a credential of another kind":         {"\xd2\x84token", all, ""},
		"nothing":                              {"", all, ""},
	} {
		t.Run(name, func(t *testing.T) {
			want := c.of
			if want == all {
				want = c.der
			}
			for _, s := range []keys.Suite{keys.Std(), keys.GM()} {
				if got := identity.Fingerprint(s, []byte(c.der)); got != s.Sum([]byte(want)) {
					t.Errorf("under suite %s the fingerprint is %s, want the hash of %x", s.Name(), got, want)
				}
			}
			switch err := identity.CheckForm([]byte(c.der)); {
			case (err == nil) != (c.refused == ""), err != nil && !strings.HasPrefix(err.Error(), c.refused):
				t.Errorf("CheckForm = %v, want %q", err, c.refused)
			}
		})
	}
}

const (
	signed    = "\x30\x04\x02\x02\x01\x00"
	algorithm = "\x30\x00"
)
