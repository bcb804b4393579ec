package x509ca

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/state/keys"
)

// publisher is a web server with the revocation list of an authority.
type publisher struct {
	*httptest.Server
	t         *testing.T
	authority *Authority
	node      [][]byte // certificate of a holder, and its chain
	serial    string
	folder    string // where providers keep what they fetched
	file      string // one that they read the list from, too; empty: none

	answer    atomic.Pointer[http.HandlerFunc]
	asked     atomic.Int64
	unchanged atomic.Int64 // questions that the server answers with 304 if it has nothing newer
	ahead     atomic.Int64 // of the clock by which providers ask again, in nanoseconds

	mu     sync.Mutex
	warned []string
}

func newPublisher(t *testing.T, suite keys.Suite) *publisher {
	t.Helper()
	p := &publisher{t: t, folder: filepath.Join(t.TempDir(), "lists")}
	p.authority = authorityNow(t, suite)
	r := request(t, suite)
	r.At, r.NotAfter = time.Now().UnixMilli(), 0
	got, err := p.authority.Enroll(r)
	if err != nil || got.Issued == nil {
		t.Fatalf("Enroll = %+v, %v", got, err)
	}
	p.node = got.Issued.Chain
	leaf, err := libraryOf(suite).parse(p.node[0])
	if err != nil {
		t.Fatal(err)
	}
	p.serial = leaf.serial
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.asked.Add(1)
		(*p.answer.Load())(w, r)
	}))
	t.Cleanup(p.Close)
	p.publish()
	return p
}

func authorityNow(t *testing.T, suite keys.Suite) *Authority {
	t.Helper()
	key := newKey(t, suite)
	a, err := Create(filepath.Join(t.TempDir(), "ca"), NewAuthority{Suite: suite, Institution: "Bank of Corfu", Key: key, At: time.Now().Add(-time.Hour)})
	if err == nil {
		err = a.Unlock(key)
	}
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (p *publisher) answers(h http.HandlerFunc) { p.answer.Store(&h) }

// publishes has the server send a list, as web servers send files.
func (p *publisher) publishes(list []byte) {
	sum := sha256.Sum256(list)
	tag := `"` + hex.EncodeToString(sum[:]) + `"`
	p.answers(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-None-Match") == tag {
			p.unchanged.Add(1)
		}
		w.Header().Set("ETag", tag)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(list))
	})
}

func (p *publisher) publish() {
	p.t.Helper()
	p.publishes(readAll(p.t, p.authority.ListPath()))
}

func readAll(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// provider starts one that fetches the list.
func (p *publisher) provider(ctx context.Context) *Provider {
	p.t.Helper()
	out := New(p.authority.Suite())
	out.Warn = func(text string) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.warned = append(p.warned, text)
	}
	crl := fmt.Sprintf("%q", p.URL+"/corfu.crl")
	if p.file != "" {
		crl = fmt.Sprintf("%q, %s", p.file, crl)
	}
	settings := fmt.Sprintf("lists = %q\n[[trust]]\nroots = %q\ncrl = [%s]\n", p.folder, filepath.Join(filepath.Dir(p.authority.ListPath()), ChainFile), crl)
	if err := out.Configure(ctx, []byte(settings)); err != nil {
		p.t.Fatal(err)
	}
	f := fetchedBy(out)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = func() time.Time { return time.Now().Add(time.Duration(p.ahead.Load())) }
	return out
}

// fetchedBy returns what a provider fetches, its last source.
func fetchedBy(p *Provider) *fetched {
	sources := p.trusts[0].revocation.sources
	return sources[len(sources)-1].(*fetched)
}

// later lets the time go by after which providers ask again.
func (p *publisher) later() { p.ahead.Add(int64(fetchMost)) }

func (p *publisher) verdict(of *Provider) string {
	p.t.Helper()
	return verdict(p.t, of, ca.VerifyRequest{Chain: p.node, Purpose: ca.Node, At: time.Now().UnixMilli()})
}

// list returns the one that a provider shows.
func (p *publisher) list(of *Provider) ca.List {
	p.t.Helper()
	got, err := of.Revoked(p.t.Context(), ca.RevokedRequest{At: time.Now().UnixMilli()})
	if err != nil || len(got.Lists) != 1 {
		p.t.Fatalf("Revoked = %+v, %v, want one list", got, err)
	}
	return got.Lists[0]
}

func (p *publisher) eventually(what string, is func() bool) {
	p.t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("not so after a minute: %s", what)
		}
	}
}

func (p *publisher) wasWarned(of string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Contains(strings.Join(p.warned, "\n"), of)
}

// TestFetch tells the life of a list that providers fetch, under each suite.
func TestFetch(t *testing.T) {
	for _, suite := range []keys.Suite{keys.Std(), keys.GM()} {
		t.Run(suite.Name(), func(t *testing.T) { testFetch(t, suite) })
	}
}

func testFetch(t *testing.T, suite keys.Suite) {
	pub := newPublisher(t, suite)
	p := pub.provider(t.Context())
	says(t, pub.verdict(p), "Bank of Corfu")
	first := readAll(t, pub.authority.ListPath())

	asked := pub.asked.Load()
	pub.verdict(p)
	if got := pub.asked.Load(); got != asked {
		t.Errorf("a verdict had the server asked %d times before the list was due", got-asked)
	}
	pub.later()
	pub.verdict(p)
	f := fetchedBy(p)
	pub.eventually("the server is asked again, and whether it has another list", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return pub.unchanged.Load() == 1 && !f.busy
	})

	if got, err := pub.authority.Revoke(ca.RevokeRequest{Serial: pub.serial, Reason: ca.KeyCompromise, At: time.Now().UnixMilli()}); err != nil || got.Refusal != nil {
		t.Fatalf("Revoke = %+v, %v", got, err)
	}
	pub.publish()
	pub.later()
	pub.eventually("the newer list counts", func() bool { return strings.HasPrefix(pub.verdict(p), "revoked: ") })
	number := pub.list(p).Number

	name, _ := Kept(pub.URL + "/corfu.crl")
	kept := filepath.Join(pub.folder, name)
	newest := readAll(t, pub.authority.ListPath())
	pub.eventually("it is kept", func() bool {
		data, err := os.ReadFile(kept)
		return err == nil && bytes.Equal(data, newest)
	})

	forger := authorityNow(t, suite)
	for range 3 { // to a higher number
		if err := forger.Refresh(time.Now(), time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	forged := readAll(t, forger.ListPath())
	for what, c := range map[string]struct {
		answer func()
		fault  string
	}{
		"an older list":              {func() { pub.publishes(first) }, "it has list number 01 of"},
		"a list that another signed": {func() { pub.publishes(forged) }, " did not sign it: "},
		"no list":                    {func() { pub.publishes([]byte("<html>")) }, "what it sends: "},
		"more than a list":           {func() { pub.publishes(make([]byte, maxFile+1)) }, fmt.Sprintf("it sends more than %d bytes", maxFile)},
		"no file":                    {func() { pub.answers(http.NotFound) }, "it answered 404 Not Found"},
		"another place, and so on":   {func() { pub.answers(http.RedirectHandler("/", http.StatusFound).ServeHTTP) }, "it was redirected more than 3 times"},
		"another machine":            {func() { pub.answers(http.RedirectHandler("http://localhost:1/", http.StatusFound).ServeHTTP) }, "it redirects to another host"},
		"another port":               {func() { pub.answers(http.RedirectHandler("http://127.0.0.1:1/", http.StatusFound).ServeHTTP) }, "it redirects to another host or port"},
		"half an answer":             {func() { pub.answers(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }) }, "EOF"},
	} {
		t.Run("the server sends "+what, func(t *testing.T) {
			c.answer()
			pub.later()
			pub.eventually(fmt.Sprintf("the provider says %q of the list", c.fault), func() bool { return strings.Contains(pub.list(p).Fault, c.fault) })
			says(t, pub.list(p).Fault, "since ")
			says(t, pub.verdict(p), "revoked: ")
			if got := pub.list(p).Number; got != number {
				t.Errorf("the list has number %s, want %s", got, number)
			}
			if !bytes.Equal(readAll(t, kept), newest) {
				t.Error("the list that was kept has changed")
			}
			again := pub.provider(t.Context())
			says(t, pub.verdict(again), "revoked: ")
			pub.eventually("a provider that starts now says so too", func() bool { return strings.Contains(pub.list(again).Fault, c.fault) })
			says(t, pub.verdict(again), "revoked: ")

			pub.publish()
			pub.later()
			pub.eventually("when the server has the list again, nothing is wrong", func() bool { return pub.list(p).Fault == "" })
		})
	}
	if !pub.wasWarned("no newer revocation list comes from "+pub.URL) || !pub.wasWarned("comes again") {
		t.Errorf("the log has %q, want that the list did not come, and that it came again", pub.warned)
	}

	t.Run("the server hangs", func(t *testing.T) {
		hangs, release := make(chan struct{}, 16), make(chan struct{})
		defer close(release)
		pub.answers(func(http.ResponseWriter, *http.Request) { hangs <- struct{}{}; <-release })
		pub.later()
		says(t, pub.verdict(p), "revoked: ")
		<-hangs
		says(t, pub.verdict(p), "revoked: ")
		says(t, pub.verdict(pub.provider(t.Context())), "revoked: ")

		pub.folder = filepath.Join(t.TempDir(), "empty")
		soon, cancel := context.WithCancel(t.Context())
		cancel()
		says(t, pub.verdict(pub.provider(soon)), "stale-list: there is no revocation list of ")
		says(t, pub.verdict(pub.provider(soon)), "no list has come from "+pub.URL+"/corfu.crl yet")
	})
	t.Run("what was kept is damaged", func(t *testing.T) {
		pub.folder = filepath.Dir(kept)
		if err := os.WriteFile(kept, newest[:len(newest)/2], 0o600); err != nil {
			t.Fatal(err)
		}
		pub.publish()
		says(t, pub.verdict(pub.provider(t.Context())), "revoked: ")
		if !pub.wasWarned("does not read, and is fetched anew") {
			t.Errorf("the log has %q", pub.warned)
		}
		pub.eventually("it is whole again", func() bool { return bytes.Equal(readAll(t, kept), newest) })
	})
	t.Run("the server still has the list when that ends", func(t *testing.T) {
		ahead := pub.ahead.Load()
		defer pub.ahead.Store(ahead)
		again := pub.provider(t.Context())
		says(t, pub.verdict(again), "revoked: ")
		pub.ahead.Add(int64(8 * 24 * time.Hour))
		pub.eventually("the provider says so, and asks again soon", func() bool {
			return strings.Contains(pub.list(again).Fault, "the list there ended on ")
		})
		if want := "no newer revocation list comes from " + pub.URL + "/corfu.crl, and the one that is kept has ended, so certificates"; !pub.wasWarned(want) {
			t.Errorf("the log has %q, want %q", pub.warned, want)
		}
		f := fetchedBy(again)
		f.mu.Lock()
		defer f.mu.Unlock()
		if wait := f.due.Sub(f.now()); wait > retryMost {
			t.Errorf("it asks again in %s, want at most %s", wait, retryMost)
		}
	})
	t.Run("there was no room for the newest list", func(t *testing.T) {
		pub.folder = filepath.Join(t.TempDir(), "lists")
		again := pub.provider(t.Context())
		name := filepath.Join(pub.folder, name)
		pub.eventually("the first is kept", func() bool { _, err := os.Stat(name); return err == nil })
		if err := errors.Join(os.RemoveAll(pub.folder), os.WriteFile(pub.folder, nil, 0o600), pub.authority.Refresh(time.Now(), 7*24*time.Hour)); err != nil {
			t.Fatal(err)
		}
		pub.publish()
		pub.later()
		pub.eventually("the newest counts, and is not kept", func() bool { pub.verdict(again); return pub.wasWarned("cannot be kept for the next start") })
		if err := errors.Join(os.Remove(pub.folder), os.Mkdir(pub.folder, 0o700)); err != nil {
			t.Fatal(err)
		}
		pub.later()
		pub.eventually("it is kept once there is room", func() bool {
			pub.verdict(again)
			data, err := os.ReadFile(name)
			return err == nil && bytes.Equal(data, readAll(t, pub.authority.ListPath()))
		})
	})
	t.Run("the server is gone", func(t *testing.T) {
		pub.Close()
		pub.folder = filepath.Join(t.TempDir(), "lists")
		said := pub.verdict(pub.provider(t.Context()))
		if says(t, said, "no list has come from "+pub.URL); strings.Contains(said, "connection refused") {
			t.Errorf("whoever shows a certificate is told what the network did: %s", said)
		}
		if !pub.wasWarned("no revocation list that counts has come from " + pub.URL) {
			t.Errorf("the log has %q", pub.warned)
		}
		pub.folder = filepath.Dir(kept)
		again := pub.provider(t.Context())
		says(t, pub.verdict(again), "revoked: ")
		pub.eventually("the provider says so", func() bool { return strings.Contains(pub.list(again).Fault, "connection refused") })
	})
}

// TestRedirects tells where the server of a list may send who asks.
func TestRedirects(t *testing.T) {
	for _, c := range []struct {
		named, next string
		may         bool
	}{
		{"http://crl.example.org/a", "http://crl.example.org/b", true},
		{"http://crl.example.org/a", "http://CRL.Example.ORG:80/a", true},
		{"http://crl.example.org/a", "https://crl.example.org/a", true},
		{"http://crl.example.org:80/a", "https://crl.example.org:443/a", true},
		{"https://crl.example.org/a", "http://crl.example.org/a", false},
		{"http://crl.example.org/a", "http://crl.example.org:8080/a", false},
		{"http://crl.example.org:8080/a", "https://crl.example.org/a", false},
		{"http://crl.example.org/a", "https://crl.example.org:9540/a", false},
		{"https://crl.example.org:8443/a", "https://crl.example.org/a", false},
		{"http://crl.example.org/a", "http://example.org/a", false},
		{"http://[::1]/a", "http://[::1]:80/b", true},
	} {
		named, err := url.Parse(c.named)
		next, err2 := url.Parse(c.next)
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		if got := sameServer(named, next); got != c.may {
			t.Errorf("from %s to %s: %v, want %v", c.named, c.next, got, c.may)
		}
	}
}

// forge returns a list whose signature is another.
func forge(list []byte) []byte {
	block, _ := pem.Decode(list)
	block.Bytes[len(block.Bytes)-1] ^= 1
	return pem.EncodeToMemory(block)
}

// counting counts the lists whose signatures are looked at.
type counting struct {
	library
	checked *atomic.Int64
}

func (c counting) checkList(l *list, issuer *certificate) error {
	c.checked.Add(1)
	return c.library.checkList(l, issuer)
}

// checks returns what tells how often the provider has looked at a list's signature from now on.
func checks(p *Provider) func() int64 {
	r, checked := p.trusts[0].revocation, new(atomic.Int64)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lib = counting{r.lib, checked}
	return checked.Load
}

// TestTwoSources has a file and a server for one list. What goes wrong at either is told, though the other one has the list.
func TestTwoSources(t *testing.T) {
	pub := newPublisher(t, keys.Std())
	pub.file = filepath.Join(t.TempDir(), "corfu.crl")
	first := readAll(t, pub.authority.ListPath())
	issue := func() (list []byte) {
		t.Helper()
		if err := pub.authority.Refresh(time.Now(), 7*24*time.Hour); err != nil {
			t.Fatal(err)
		}
		return readAll(t, pub.authority.ListPath())
	}
	place := func(list []byte) {
		t.Helper()
		if err := writeFile(pub.file, list); err != nil {
			t.Fatal(err)
		}
	}
	place(first)
	p := pub.provider(t.Context())
	says(t, pub.verdict(p), "Bank of Corfu")
	f := fetchedBy(p)
	number := func() string {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.good == nil {
			return "none"
		}
		return serialText(f.good.number)
	}
	asked := func() {
		t.Helper()
		pub.eventually("the server was asked", func() bool {
			f.mu.Lock()
			defer f.mu.Unlock()
			return !f.busy
		})
	}
	// once wants a list that goes on being sent to be checked no more.
	once := func() {
		t.Helper()
		asked()
		checked := checks(p)
		for range 3 {
			says(t, pub.verdict(p), "Bank of Corfu")
		}
		if n := checked(); n > 0 {
			t.Errorf("three verdicts looked at signatures of a list that had been looked at %d times", n)
		}
	}
	// comes has the server asked anew, and verdicts look at what it sends.
	comes := func(what string, is func() bool) {
		t.Helper()
		asked()
		pub.later()
		pub.eventually(what, func() bool { says(t, pub.verdict(p), "Bank of Corfu"); return is() })
	}
	faulty := func(words ...string) func() bool {
		return func() bool {
			fault := pub.list(p).Fault
			for _, w := range words {
				if !strings.Contains(fault, w) {
					return false
				}
			}
			return len(words) > 0 || fault == ""
		}
	}
	second := issue()
	place(second)
	pub.publishes(second)
	comes("both have the second list", func() bool { return number() == "02" && pub.list(p).Number == "02" })
	comes("nothing is wrong", faulty())

	pub.publishes(first)
	rolled := "/corfu.crl: it has list number 01 of "
	comes("the server went back to the first list", faulty(rolled, ", and had list number 02 of "))
	if !pub.wasWarned(rolled) {
		t.Errorf("the log has %q", pub.warned)
	}
	pub.publishes(forge(first))
	comes("it has one that is older and that the authority did not sign", func() bool {
		return faulty("did not sign it")() && !faulty("bring the newer one back")()
	})
	once()
	pub.publishes(first)
	comes("it has the first list once more", faulty(rolled, ", and had list number 02 of "))
	once()
	place([]byte("half a li"))
	comes("both are told of", faulty(rolled, pub.file+": "))
	place(second)
	pub.answers(http.NotFound)
	comes("the server has no list", faulty("it answered 404"))

	third := issue()
	place(issue())
	comes("the file is ahead", func() bool { return pub.list(p).Number == "04" })
	comes("the server still has no list", faulty("it answered 404"))
	pub.publishes(forge(third))
	comes("it has one that the authority did not sign", faulty("did not sign it"))
	once()
	pub.publishes(third)
	comes("the server has one that is older than the file's, and newer than its own before", func() bool { return number() == "03" && faulty()() })
	pub.publishes(second)
	comes("it went back again", faulty("it has list number 02 of ", ", and had list number 03 of "))
	if got := pub.list(p).Number; got != "04" {
		t.Errorf("list number %s counts, want 04", got)
	}
}

// TestFetchSettings tells what settings cannot have lists fetched.
func TestFetchSettings(t *testing.T) {
	a := authorityNow(t, keys.Std())
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	trust := func(lists, crl string) string {
		return fmt.Sprintf("lists = %q\n[[trust]]\nroots = %q\ncrl = [%q]\n", lists, filepath.Join(filepath.Dir(a.ListPath()), ChainFile), crl)
	}
	for _, c := range []struct{ settings, says string }{
		{trust("", "http://crl.example.org/a.crl"), "crl has the URL http://crl.example.org/a.crl: name a folder in lists"},
		{trust("lists", "http://crl.example.org/a.crl"), "lists is \"lists\", want an absolute path"},
		{trust(file, "http://crl.example.org/a.crl"), "name a folder that the node's user may write to"},
		{trust("/tmp", "http://"), "want a URL such as"},
		{trust("/tmp", "https://user:secret@crl.example.org/a.crl"), "a URL with a user, of crl.example.org"},
		{trust("/tmp", "ftp://crl.example.org/a.crl"), "want an absolute path"},
	} {
		err := New(keys.Std()).Configure(t.Context(), []byte(c.settings))
		if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s\nConfigure: %v, want it to say %q", c.settings, err, c.says)
		}
	}
}
