package cli

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/fondaco/fondaco/node/login"
	"github.com/fondaco/fondaco/plugins/ca"
)

// listing is a CA provider of which only the lists are asked for.
type listing struct {
	ca.Provider
	answer ca.RevokedResponse
	err    error
}

func (l listing) Revoked(context.Context, ca.RevokedRequest) (ca.RevokedResponse, error) {
	return l.answer, l.err
}

// TestDoctorLists tells what the doctor says of revocation lists that are fresh, late and too old.
func TestDoctorLists(t *testing.T) {
	list := func(issuer string, age, left time.Duration) ca.List {
		now := time.Now()
		return ca.List{Issuer: issuer, Issued: now.Add(-age).UnixMilli(), NextUpdate: now.Add(left).UnixMilli()}
	}
	endless := list("Bank D", time.Hour, 0)
	endless.NextUpdate = 0
	signed := list("Bank A", time.Hour, 23*time.Hour)
	signed.Signed = []byte("list")
	signed.Revoked = []ca.Entry{{Serial: "1"}, {Serial: "2"}}
	unfetched := func(age, left time.Duration) ca.List {
		l := list("Bank E", age, left)
		l.Fault = "since noon: http://e/crl: it answered 404 Not Found"
		return l
	}
	for name, c := range map[string]struct {
		provider listing
		want     []string // state and words of each finding
	}{
		"four lists": {
			listing{answer: ca.RevokedResponse{Lists: []ca.List{
				signed, list("Bank B", 23*time.Hour, time.Hour), list("Bank C", 25*time.Hour, -time.Hour), endless,
			}}},
			[]string{"ok of Bank A, with 2 certificates; the next is due", "warn of Bank B: the next is due", "FAIL of Bank C: the next was due", "ok of Bank D"},
		},
		"lists that cannot be fetched": {
			listing{answer: ca.RevokedResponse{Lists: []ca.List{unfetched(time.Hour, 23*time.Hour), unfetched(23*time.Hour, time.Hour), unfetched(25*time.Hour, -time.Hour)}}},
			[]string{"warn of Bank E, of ", "warn of Bank E: the next is due", "FAIL of Bank E: the next was due"},
		},
		"one that was left out for its size": {listing{answer: ca.RevokedResponse{Lists: []ca.List{list("Bank F", time.Hour, 23*time.Hour)}}}, []string{"ok of Bank F; the next is due at "}},
		"none":                               {listing{}, nil},
		"a provider that fails":              {listing{err: errors.New("it is down")}, []string{"warn the provider does not show its lists: it is down"}},
		"a provider that refuses": {
			listing{answer: ca.RevokedResponse{Refusal: ca.Refuse(ca.Unsupported, "it has none")}},
			[]string{"warn the provider does not show its lists: it has none"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := new(doctor)
			d.lists(t.Context(), c.provider)
			if len(d.findings) != len(c.want) {
				t.Fatalf("findings %+v", d.findings)
			}
			for i, f := range d.findings {
				if got := f.State + " " + f.Saw; !strings.HasPrefix(got, c.want[i]) || (f.State != "ok") != (f.Do != "") || strings.Contains(f.Saw, "Bank E") != strings.HasSuffix(f.Saw, "; something is wrong: since noon: http://e/crl: it answered 404 Not Found") {
					t.Errorf("finding %+v, want %s", f, c.want[i])
				}
			}
		})
	}
}

// TestDoctorClients tells what the doctor says of authorities of clients and their lists that end.
func TestDoctorClients(t *testing.T) {
	now := time.Now()
	const day = 24 * time.Hour
	d := new(doctor)
	d.clients("API", &login.Clients{
		Authorities: []login.Authority{{Subject: "A", Ends: now.Add(31 * day)}, {Subject: "B", Ends: now.Add(29 * day)}, {Subject: "C", Ends: now.Add(-day)}},
		Lists:       []login.List{{Issuer: "D", Issued: now, Next: now.Add(7 * day)}, {Issuer: "E", Issued: now.Add(-6 * day), Next: now.Add(day)}, {Issuer: "F", Issued: now.Add(-8 * day), Next: now.Add(-day)}},
	})
	want := []string{"warn the certificate of B ends on", "FAIL all clients of C are refused", "warn the next revocation list of E is due at", "FAIL all clients of F are refused"}
	if len(d.findings) != len(want) {
		t.Fatalf("findings %+v, want %q", d.findings, want)
	}
	for i, f := range d.findings {
		if !strings.HasPrefix(f.State+" "+f.Saw, want[i]) || f.Do == "" {
			t.Errorf("finding %+v, want %s", f, want[i])
		}
	}
}
