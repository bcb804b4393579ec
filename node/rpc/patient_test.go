package rpc

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/node/login"
)

// TestPatient: a client may be slow, and may take a break, and may not be so slow for long that it seems to be gone. However long the
// node takes for the parts is not held against it.
func TestPatient(t *testing.T) {
	for _, tt := range []struct {
		name         string
		node, client time.Duration // that each took for each of some parts
		parts, size  int
		left         time.Duration // that the client has for the next part
	}{
		{"at the beginning", 0, 0, 0, 0, exportWithin},
		{"a fast client", 0, time.Second, 60, 16 << 20, exportWithin},
		{"one at the slowest rate, after a while", 0, time.Second, 3600, exportRate, exportWithin},
		{"a bit slower", 0, 2 * time.Second, 32, exportRate * 27 / 16, exportWithin - 10*time.Second},
		{"one that takes little", 0, 30 * time.Second, 4, 16 << 10, -59 * time.Second},
		{"the node took two minutes, the client none", 2 * time.Minute, 0, 1, 16 << 10, exportWithin},
		{"the node took a minute for each part, and the client its time", time.Minute, 2 * time.Second, 10, exportRate, exportWithin - 10*time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &slowClient{takes: tt.client}
				p := &patient{w: w, control: http.NewResponseController(w)}
				for range tt.parts {
					time.Sleep(tt.node)
					if _, err := p.Write(make([]byte, tt.size)); err != nil {
						t.Fatal(err)
					}
				}
				now := time.Now()
				w.takes = 0
				if _, err := p.Write(nil); err != nil {
					t.Fatal(err)
				}
				if got := w.until.Sub(now); got != tt.left {
					t.Errorf("%v for the next part, want %v", got, tt.left)
				}
			})
		})
	}
}

// slowClient is an answer whose client takes its time for each part.
type slowClient struct {
	*httptest.ResponseRecorder
	takes time.Duration
	until time.Time // when the last part had to be taken
}

func (r *slowClient) SetWriteDeadline(t time.Time) error {
	r.until = t
	return nil
}

func (r *slowClient) Write(data []byte) (int, error) {
	time.Sleep(r.takes)
	return len(data), nil
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
		r.RemoteAddr, r.Host = "127.0.0.1:4000", "localhost"
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
