package ca

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

// canned is a provider that answers everything with what it holds.
type canned struct {
	verified VerifyResponse
	issued   IssueResponse
	revoked  RevokedResponse
	err      error
	asked    int
}

func (c *canned) Verify(context.Context, VerifyRequest) (VerifyResponse, error) {
	c.asked++
	return c.verified, c.err
}

func (c *canned) Enroll(context.Context, EnrollRequest) (IssueResponse, error) {
	return c.issued, c.err
}

func (c *canned) Renew(context.Context, RenewRequest) (IssueResponse, error) { return c.issued, c.err }

func (c *canned) Revoke(context.Context, RevokeRequest) (RevokeResponse, error) {
	return RevokeResponse{}, c.err
}

func (c *canned) Revoked(context.Context, RevokedRequest) (RevokedResponse, error) {
	return c.revoked, c.err
}

func holder() *Holder {
	signer, err := keys.Std().ParsePrivate(keys.Ed25519, make([]byte, 32))
	if err != nil {
		panic(err)
	}
	return &Holder{
		Institution: "Bank of Corfu", Roles: []identity.Role{"node"}, Key: ledger.KeyOf(signer.Public()),
		Serial: "0a", NotBefore: 1, NotAfter: 2, Issuers: []string{"CN=Corfu CA"}, Paths: []identity.Path{{Leaf: keys.Digest{1}, Root: keys.Digest{2}}},
	}
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	data, err := ledger.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestRequests names what is refused before a provider sees it.
func TestRequests(t *testing.T) {
	one := [][]byte{{1}}
	long := strings.Repeat("x", MaxText+1)
	for _, c := range []struct {
		name    string
		request request
		says    string
	}{
		{"a chain", VerifyRequest{Chain: one, Purpose: Node}, ""},
		{"no purpose", VerifyRequest{Chain: one}, `purpose "" is unknown`},
		{"no certificate", VerifyRequest{Purpose: Node}, "the chain has 0 certificates"},
		{"too many certificates", VerifyRequest{Chain: slices.Repeat(one, MaxChain+1), Purpose: Node}, "the chain has 9 certificates, want 1 to 8"},
		{"a megabyte", VerifyRequest{Chain: [][]byte{{1}, make([]byte, 1<<20)}, Purpose: Node}, "certificate 2 of the chain has 1048576 bytes"},
		{"an empty certificate", VerifyRequest{Chain: [][]byte{{}}, Purpose: Node}, "certificate 1 of the chain has 0 bytes"},
		{"an enrolment", EnrollRequest{CSR: []byte{1}, Institution: "x", Roles: []identity.Role{"a", "b"}}, ""},
		{"an enrolment without a request", EnrollRequest{Institution: "x"}, "has 0 bytes"},
		{"a large request", EnrollRequest{CSR: make([]byte, MaxCertificate+1), Institution: "x"}, "has 16385 bytes"},
		{"no institution", EnrollRequest{CSR: []byte{1}}, "and an institution"},
		{"a long name", EnrollRequest{CSR: []byte{1}, Institution: "x", Name: long}, "want at most 256"},
		{"roles in disorder", EnrollRequest{CSR: []byte{1}, Institution: "x", Roles: []identity.Role{"b", "a"}}, "not sorted"},
		{"a role twice", EnrollRequest{CSR: []byte{1}, Institution: "x", Roles: []identity.Role{"a", "a"}}, "not sorted and without duplicates"},
		{"an empty role", EnrollRequest{CSR: []byte{1}, Institution: "x", Roles: []identity.Role{""}}, "a role has 0 bytes"},
		{"many roles", EnrollRequest{CSR: []byte{1}, Institution: "x", Roles: make([]identity.Role, MaxRoles+1)}, "33 roles"},
		{"an end before the beginning", EnrollRequest{CSR: []byte{1}, Institution: "x", At: 5, NotAfter: 5}, "end before it begins"},
		{"a renewal", RenewRequest{Serial: "0a"}, ""},
		{"a renewal of nothing", RenewRequest{}, "serial number has 0 bytes"},
		{"a revocation of what is no text", RevokeRequest{Serial: "\xff"}, "of UTF-8"},
		{"a name that is no text", EnrollRequest{CSR: []byte{1}, Institution: "a", Name: "\xff"}, "must be UTF-8"},
		{"a role that is no text", EnrollRequest{CSR: []byte{1}, Institution: "a", Roles: []identity.Role{"\xff"}}, "is not UTF-8"},
		{"a renewal with a large request", RenewRequest{Serial: "0a", CSR: make([]byte, MaxCertificate+1)}, "has 16385 bytes"},
		{"a renewal that ends before it begins", RenewRequest{Serial: "0a", At: 5, NotAfter: 4}, "end before it begins"},
		{"a revocation", RevokeRequest{Serial: "0a", Reason: KeyCompromise}, ""},
		{"a revocation that can be lifted", RevokeRequest{Serial: "0a", Reason: 6}, "reason 6 is no reason"},
		{"a revocation of a long number", RevokeRequest{Serial: long}, "serial number has 257 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := c.request.Check()
			if c.says == "" {
				if r != nil {
					t.Errorf("refused: %v", r)
				}
				return
			}
			if r == nil || r.Code != Malformed || !strings.Contains(r.Reason, c.says) {
				t.Errorf("Check = %+v, want it to say %q", r, c.says)
			}
		})
	}
}

// TestAnswers names what a program must not answer.
func TestAnswers(t *testing.T) {
	changed := func(change func(*Holder)) VerifyResponse {
		h := holder()
		change(h)
		return VerifyResponse{Holder: h}
	}
	no := Refuse(Expired, "it ended")
	for _, c := range []struct {
		name   string
		answer response
		says   string
	}{
		{"a holder", VerifyResponse{Holder: holder()}, ""},
		{"a refusal", VerifyResponse{Refusal: no}, ""},
		{"neither", VerifyResponse{}, "either a holder or a refusal"},
		{"both", VerifyResponse{Holder: holder(), Refusal: no}, "either a holder or a refusal"},
		{"a refusal without words", VerifyResponse{Refusal: &Refusal{Code: Expired}}, "a reason of 0"},
		{"a refusal without code", VerifyResponse{Refusal: &Refusal{Reason: "no"}}, "a code of 0 bytes"},
		{"a refusal of many words", VerifyResponse{Refusal: &Refusal{Code: Expired, Reason: strings.Repeat("no", 1000)}}, "a reason of 2000"},
		{"no institution", changed(func(h *Holder) { h.Institution = "" }), "an institution of 0 bytes"},
		{"no serial", changed(func(h *Holder) { h.Serial = "" }), "a serial of 0 bytes"},
		{"no validity", changed(func(h *Holder) { h.NotAfter = h.NotBefore }), "valid from 1 to 1"},
		{"no key", changed(func(h *Holder) { h.Key.Bytes = nil }), "a key of 0 bytes"},
		{"roles in disorder", changed(func(h *Holder) { h.Roles = []identity.Role{"b", "a"} }), "not sorted"},
		{"many issuers", changed(func(h *Holder) { h.Issuers = make([]string, MaxChain+1) }), "9 issuers"},
		{"no path", changed(func(h *Holder) { h.Paths = nil }), "0 paths"},
		{"many paths", changed(func(h *Holder) { h.Paths = make([]identity.Path, MaxPaths+1) }), "65 paths"},
		{"a path without a root", changed(func(h *Holder) { h.Paths[0].Root = keys.Digest{} }), "without fingerprint"},
		{"a path twice", changed(func(h *Holder) { h.Paths = append(h.Paths, h.Paths[0]) }), "without duplicates"},
		{"an issuer's long name", changed(func(h *Holder) { h.Issuers = []string{strings.Repeat("x", MaxText+1)} }), "name has 257 bytes"},
		{"a certificate", IssueResponse{Issued: &Issued{Chain: [][]byte{{1}}}}, ""},
		{"no certificate", IssueResponse{Issued: &Issued{}}, "0 certificates"},
		{"nothing issued", IssueResponse{}, "either a certificate or a refusal"},
		{"half of an encryption", IssueResponse{Issued: &Issued{Chain: [][]byte{{1}}, Encryption: &Encryption{Certificate: []byte{1}}}}, "its key 0"},
		{"no lists", RevokedResponse{}, ""},
		{"many lists", RevokedResponse{Lists: make([]List, MaxLists+1)}, "33 lists"},
		{"a list and a refusal", RevokedResponse{Lists: make([]List, 1), Refusal: no}, "either lists or a refusal"},
		{"a long list", RevokedResponse{Lists: []List{{Revoked: slices.Repeat([]Entry{{Serial: "1"}}, MaxListed)}, {Revoked: []Entry{{Serial: "1"}}}}}, "65537 certificates"},
		{"large lists", RevokedResponse{Lists: []List{{Signed: make([]byte, MaxListBytes)}, {Signed: []byte{1}}}}, "8388609 bytes"},
		{"a certificate without number", RevokedResponse{Lists: []List{{Revoked: []Entry{{}}}}}, "serial number has 0 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.answer.check()
			if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("check = %v, want it to say %q", err, c.says)
			}
		})
	}
}

// TestFingerprints refuses a holder whose fingerprints are not those of what was asked about, under the suite of its key.
func TestFingerprints(t *testing.T) {
	ask := &VerifyRequest{Chain: [][]byte{{1}, {2}}, Purpose: Node, At: 1}
	for _, c := range []struct {
		name string
		leaf keys.Digest
		says string
	}{
		{"the certificate", identity.Fingerprint(keys.Std(), []byte{1}), ""},
		{"another one of the chain", identity.Fingerprint(keys.Std(), []byte{2}), ""},
		{"one that was not asked about", identity.Fingerprint(keys.Std(), []byte{3}), "fingerprints for ed25519 keys are those of suite std"},
		{"the hash of the other suite", identity.Fingerprint(keys.GM(), []byte{1}), "fingerprints for ed25519 keys are those of suite std"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := holder()
			h.Paths[0].Leaf = c.leaf
			err := h.answers(ask)
			if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("answers = %v, want it to say %q", err, c.says)
			}
		})
	}
}

// TestFit leaves the largest lists out, and no more than that takes.
func TestFit(t *testing.T) {
	many := func(n, signed int) List {
		l := List{Issuer: "large", Issued: 7, Signed: make([]byte, signed), Fault: "its own"}
		for range n {
			l.Revoked = append(l.Revoked, Entry{Serial: "1"})
		}
		return l
	}
	for _, c := range []struct {
		story string
		lists []List
		whole []bool // of each list that is told
	}{
		{"none", nil, nil},
		{"all that there is room for", []List{many(MaxListed, MaxListBytes-1), many(0, 1)}, []bool{true, true}},
		{"a byte too many", []List{many(1, 1), many(1, MaxListBytes)}, []bool{true, false}},
		{"two that are too large together", []List{many(1, MaxListBytes), many(1, 1), many(1, MaxListBytes-1)}, []bool{false, true, true}},
		{"two that are too large with another", []List{many(1, MaxListBytes), many(1, 1), many(1, MaxListBytes)}, []bool{false, true, false}},
		{"a certificate too many, on the list with fewer bytes", []List{many(1, 9), many(MaxListed, 5)}, []bool{true, false}},
		{"without a signed form", []List{many(MaxListed, 0), many(1, 0)}, []bool{false, true}},
		{"more than an answer has", slices.Repeat([]List{many(1, 1)}, MaxLists+1), slices.Repeat([]bool{true}, MaxLists)},
	} {
		t.Run(c.story, func(t *testing.T) {
			before := slices.Clone(c.lists)
			got := Fit(c.lists)
			if err := (RevokedResponse{Lists: got}).check(); err != nil || len(got) != len(c.whole) {
				t.Fatalf("%d lists, %v, want %d", len(got), err, len(c.whole))
			}
			for i, l := range got {
				was := len(before[i].Signed)+len(before[i].Revoked) == len(l.Signed)+len(l.Revoked)
				if left := len(l.Signed)+len(l.Revoked) == 0; l.Issued != 7 || was != c.whole[i] || left == c.whole[i] {
					t.Errorf("list %d has %d certificates and %d bytes, want it whole: %v", i, len(l.Revoked), len(l.Signed), c.whole[i])
				}
				if told, last := strings.HasPrefix(l.Fault, "1 more lists count and are not shown"), i == MaxLists-1; told != last || !strings.HasSuffix(l.Fault, "its own") {
					t.Errorf("list %d has the fault %q, want its own, and in that of the last how many are left out", i, l.Fault)
				}
				if len(c.lists[i].Signed) != len(before[i].Signed) || c.lists[i].Fault != before[i].Fault {
					t.Errorf("list %d of the caller was changed", i)
				}
			}
		})
	}
}

// TestServer tells whose fault is whose.
func TestServer(t *testing.T) {
	verify := func(p *canned, frame []byte) ([]byte, error) {
		return answer(t.Context(), frame, p.Verify, func(r *Refusal) VerifyResponse { return VerifyResponse{Refusal: r} })
	}
	good := marshal(t, VerifyRequest{Chain: [][]byte{{1}}, Purpose: Node, At: 1})
	t.Run("an answer", func(t *testing.T) {
		data, err := verify(&canned{verified: VerifyResponse{Holder: holder()}}, good)
		if err != nil {
			t.Fatal(err)
		}
		got, own, err := decode[VerifyResponse](data)
		if err != nil || own != "" || got.Holder == nil || got.Holder.Institution != "Bank of Corfu" {
			t.Errorf("decode = %+v, %q, %v", got, own, err)
		}
	})
	t.Run("the provider cannot tell", func(t *testing.T) {
		data, _ := verify(&canned{err: errors.New("the responder does not answer")}, good)
		if _, own, err := decode[VerifyResponse](data); err != nil || own != "the responder does not answer" {
			t.Errorf("decode = %q, %v", own, err)
		}
	})
	t.Run("the provider breaks the contract", func(t *testing.T) {
		data, _ := verify(new(canned), good)
		if _, own, err := decode[VerifyResponse](data); err != nil || !strings.Contains(own, "breaks the contract") {
			t.Errorf("decode = %q, %v", own, err)
		}
	})
	t.Run("a request beyond the limits does not reach the provider", func(t *testing.T) {
		p := new(canned)
		data, _ := verify(p, marshal(t, VerifyRequest{Chain: [][]byte{make([]byte, 1<<20)}, Purpose: Node}))
		if got, _, err := decode[VerifyResponse](data); err != nil || got.Refusal == nil || got.Refusal.Code != Malformed || p.asked > 0 {
			t.Errorf("decode = %+v, %v; asked %d times", got, err, p.asked)
		}
	})
	for name, frame := range map[string][]byte{"nothing": nil, "garbage": {0xff, 0}, "trailing bytes": append(slices.Clone(good), 0), "another message": marshal(t, RevokedRequest{})} {
		t.Run(name, func(t *testing.T) {
			if _, err := verify(new(canned), frame); status.Code(err) != codes.InvalidArgument {
				t.Errorf("error %v, want the host's fault", err)
			}
		})
	}
	t.Run("settings for a provider without any", func(t *testing.T) {
		s := &server{provider: new(canned)}
		data, err := s.configure(t.Context(), marshal(t, &settings{Bytes: []byte("x = 1")}))
		if err != nil || !bytes.Contains(data, []byte("takes no settings")) {
			t.Errorf("configure = %q, %v", data, err)
		}
	})
}

func TestManifest(t *testing.T) {
	for field, m := range map[string]Manifest{
		"":           {Name: "x", Algorithms: []keys.Algorithm{keys.Ed25519, keys.P256}},
		"Name":       {Algorithms: []keys.Algorithm{keys.Ed25519}},
		"Version":    {Name: "x", Version: strings.Repeat("1", 65), Algorithms: []keys.Algorithm{keys.Ed25519}},
		"Algorithms": {Name: "x"},
		"ascending":  {Name: "x", Algorithms: []keys.Algorithm{keys.P256, keys.Ed25519}},
		"order":      {Name: "x", Algorithms: []keys.Algorithm{keys.P256, keys.P256}},
	} {
		if err := m.validate(); (err == nil) != (field == "") || err != nil && !strings.Contains(err.Error(), field) {
			t.Errorf("validate does not name %q: %v", field, err)
		}
	}
	m := Manifest{Name: "x509", Algorithms: []keys.Algorithm{keys.Ed25519, keys.P256}}
	if err := m.Suits(keys.Std()); err != nil {
		t.Error(err)
	}
	if err := m.Suits(keys.GM()); err == nil || !strings.Contains(err.Error(), "suite gm have sm2 keys: configure a provider for this suite") {
		t.Errorf("Suits = %v", err)
	}
}

func TestVerifier(t *testing.T) {
	suite := keys.Std()
	at := time.UnixMilli(1)
	p := &canned{verified: VerifyResponse{Holder: holder()}}
	v := Verifier{Provider: p, Suite: suite, Purpose: Node}
	id, err := v.Verify(t.Context(), nil, at)
	if err != nil || id.Institution != "Bank of Corfu" || !id.Has("node") || !id.NotAfter.Equal(time.UnixMilli(2)) || id.Key.Algorithm() != keys.Ed25519 {
		t.Errorf("Verify = %+v, %v", id, err)
	}
	v.Suite = keys.GM()
	if _, err := v.Verify(t.Context(), nil, at); refusal(err) != WrongAlgorithm {
		t.Errorf("a key of another suite: %v", err)
	}
	p.verified = VerifyResponse{Refusal: Refuse(Expired, "it ended")}
	if _, err := v.Verify(t.Context(), nil, at); refusal(err) != Expired {
		t.Errorf("a refusal: %v", err)
	}
	p.verified, p.err = VerifyResponse{}, errors.New("down")
	if _, err := v.Verify(t.Context(), nil, at); err == nil || refusal(err) != "" {
		t.Errorf("an error: %v", err)
	}
	p.err = nil
	if _, err := v.Verify(t.Context(), nil, at); err == nil || refusal(err) != "" {
		t.Errorf("an empty answer: %v", err)
	}
}

func refusal(err error) Code {
	if r, ok := errors.AsType[*Refusal](err); ok {
		return r.Code
	}
	return ""
}

func TestReason(t *testing.T) {
	for r := range reasonNames {
		if got, err := ParseReason(r.String()); err != nil || got != r {
			t.Errorf("ParseReason(%q) = %v, %v", r, got, err)
		}
	}
	if _, err := ParseReason("hold"); err == nil || !strings.Contains(err.Error(), "want one of affiliation-changed, ca-compromise") {
		t.Errorf("ParseReason: %v", err)
	}
}

// FuzzRequest sends frames of a stranger to the program.
func FuzzRequest(f *testing.F) {
	f.Add(uint8(0), marshal(f, VerifyRequest{Chain: [][]byte{{1}}, Purpose: Node, At: 1}))
	f.Add(uint8(1), marshal(f, EnrollRequest{CSR: []byte{1}, Institution: "x", Roles: []identity.Role{"a"}}))
	f.Add(uint8(2), marshal(f, RenewRequest{Serial: "0a"}))
	f.Add(uint8(3), marshal(f, RevokeRequest{Serial: "0a"}))
	f.Add(uint8(4), marshal(f, RevokedRequest{}))
	p := &canned{verified: VerifyResponse{Holder: holder()}, issued: IssueResponse{Issued: &Issued{Chain: [][]byte{{1}}}}}
	f.Fuzz(func(t *testing.T, method uint8, frame []byte) {
		ctx := t.Context()
		switch method % 5 {
		case 0:
			out, err := answer(ctx, frame, p.Verify, func(r *Refusal) VerifyResponse { return VerifyResponse{Refusal: r} })
			answered[VerifyResponse](t, out, err)
		case 1:
			out, err := answer(ctx, frame, p.Enroll, func(r *Refusal) IssueResponse { return IssueResponse{Refusal: r} })
			answered[IssueResponse](t, out, err)
		case 2:
			out, err := answer(ctx, frame, p.Renew, func(r *Refusal) IssueResponse { return IssueResponse{Refusal: r} })
			answered[IssueResponse](t, out, err)
		case 3:
			out, err := answer(ctx, frame, p.Revoke, func(r *Refusal) RevokeResponse { return RevokeResponse{Refusal: r} })
			answered[RevokeResponse](t, out, err)
		case 4:
			out, err := answer(ctx, frame, p.Revoked, func(r *Refusal) RevokedResponse { return RevokedResponse{Refusal: r} })
			answered[RevokedResponse](t, out, err)
		}
	})
}

// answered checks that whatever the request was, the answer to it is one that a client takes.
func answered[A response](t *testing.T, out []byte, err error) {
	if err != nil {
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("error %v", err)
		}
		return
	}
	if _, own, err := decode[A](out); err != nil || own != "" {
		t.Errorf("the client does not take the answer: %q, %v", own, err)
	}
}

// FuzzReply sends frames of a faulty program to the host.
func FuzzReply(f *testing.F) {
	f.Add(marshal(f, &reply[VerifyResponse]{Answer: &VerifyResponse{Holder: holder()}}))
	f.Add(marshal(f, &reply[VerifyResponse]{Error: "down"}))
	f.Add(marshal(f, &reply[RevokedResponse]{Answer: &RevokedResponse{Lists: []List{{Issuer: "x", Revoked: []Entry{{Serial: "1"}}}}}}))
	f.Fuzz(func(t *testing.T, frame []byte) {
		if got, own, err := decode[VerifyResponse](frame); err == nil && own == "" && (got.Holder == nil) == (got.Refusal == nil) {
			t.Errorf("decode = %+v", got)
		}
		if got, own, err := decode[RevokedResponse](frame); err == nil && own == "" && len(got.Lists) > MaxLists {
			t.Errorf("decode = %d lists", len(got.Lists))
		}
		if got, own, err := decode[IssueResponse](frame); err == nil && own == "" && (got.Issued == nil) == (got.Refusal == nil) {
			t.Errorf("decode = %+v", got)
		}
	})
}
