package rpc

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/node/login"
)

// TestPatient: a client may be slow, and may take a break, and may not be so slow for long that it seems to be gone.
func TestPatient(t *testing.T) {
	begun := time.Unix(1_000_000, 0)
	for _, tt := range []struct {
		name    string
		after   time.Duration
		written int64
		left    time.Duration // that the client has for the next part
	}{
		{"at the beginning", 0, 0, exportWithin},
		{"a fast client", time.Minute, 1 << 30, exportWithin},
		{"one at the slowest rate, after a while", time.Hour, 3600 * exportRate, exportWithin},
		{"a bit slower", time.Hour, 3590 * exportRate, exportWithin - 10*time.Second},
		{"one that takes little", 2 * time.Minute, 64 << 10, -59 * time.Second},
	} {
		p := &patient{begun: begun, written: tt.written}
		now := begun.Add(tt.after)
		if got := p.deadline(now).Sub(now); got != tt.left {
			t.Errorf("%s: %v for the next part, want %v", tt.name, got, tt.left)
		}
	}
}

// deadlines is an answer that notes until when its request may be read.
type deadlines struct {
	*httptest.ResponseRecorder
	read []time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error {
	d.read = append(d.read, t)
	return nil
}

// TestExportLasts: the time within which a request must arrive does not end an answer that takes longer, and clients who hold
// such an answer do not keep the operator waiting, wherever they are: what comes through a proxy on the node's machine is from there.
func TestExportLasts(t *testing.T) {
	gate, err := login.Open(login.Config{Name: "api", Listen: "127.0.0.1:0", Operator: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	defer gate.Close()
	s := &Server{config: Config{Gate: gate}, exports: make(chan struct{}, 1), operators: make(chan struct{}, 1)}
	w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
	request := func(shown string) *http.Request {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = "127.0.0.1:4000"
		if shown != "" {
			r.Header.Set(client.OperatorHeader, shown)
		}
		r, err := gate.Allow(w, r, login.Export)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for _, tt := range []struct {
		shown  string
		served bool
	}{{"", true}, {"", false}, {"guess", false}, {"secret", true}, {"secret", false}} {
		if _, _, err := s.export(w, request(tt.shown)); (err == nil) != tt.served {
			t.Errorf("who shows %q: %v, want served: %t", tt.shown, err, tt.served)
		}
	}
	if len(w.read) != 2 || !w.read[0].IsZero() {
		t.Errorf("the request may be read until %v, want without end", w.read)
	}
	if none, err := (*login.Gate)(nil).Allow(w, request("secret"), login.Export); err != nil || login.SubjectOf(none).Operator {
		t.Error("where there is no secret everybody is the operator")
	}
}
