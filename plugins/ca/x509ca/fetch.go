package x509ca

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Limits of fetching revocation lists. A list has at most maxFile bytes.
const (
	fetchTimeout = 30 * time.Second // for one
	firstWait    = 5 * time.Second  // that Configure waits for one of which none is kept
	maxRedirects = 3
	maxHeader    = 64 << 10 // bytes of an answer's header

	fetchShare = 20          // of a list's life, after which it is asked for again,
	fetchLeast = time.Minute // but not before this,
	fetchMost  = time.Hour   // and not after this
	retryFirst = 10 * time.Second
	retryMost  = 10 * time.Minute
)

// Kept returns the name of the file in Settings.Lists that keeps the list from an entry of Trust.CRL, in PEM. It is false where the entry is a
// file itself.
func Kept(entry string) (name string, fetched bool) {
	if !strings.HasPrefix(entry, "http://") && !strings.HasPrefix(entry, "https://") {
		return "", false
	}
	sum := sha256.Sum256([]byte(entry))
	return hex.EncodeToString(sum[:16]) + ".crl", true
}

// checkURL says why nothing can be fetched from an entry of Trust.CRL that is no path.
func checkURL(entry string) error {
	u, err := url.Parse(entry)
	switch {
	case err != nil:
		return fmt.Errorf("crl: %w", err)
	case u.Host == "":
		return fmt.Errorf("crl is %q, want a URL such as http://crl.example.org/bank.crl", entry)
	case u.User != nil:
		return fmt.Errorf("crl has a URL with a user, of %s: lists are public, and settings go to others; publish it without", u.Host)
	}
	return nil
}

// fetched is a revocation list that is fetched from a URL (RFC 5280 §4.2.1.13, §5). It is asked for behind the back of those who use it, so
// that no verdict waits for a server. Its methods are safe for concurrent use.
//
// What came last from the URL is next, until an authority turns out to have signed it; then it is good, and kept in a file. Whoever answers in
// the server's place can so replace neither good nor the file.
type fetched struct {
	url, path string
	parse     func(data []byte) (*list, error)
	warn      func(string)
	check     func()           // has all that use the list look at it
	now       func() time.Time // time.Now; tests set it
	client    http.Client
	most      time.Duration // between two times that it is asked for

	mu         sync.Mutex // guards what follows
	good, next *list      // nil: none
	doubted    *list      // the last next that does not count, as far as anybody knows
	fromGood   validators
	fromNext   validators
	err        error     // why a newer one than good does not come
	failing    time.Time // since when; zero: it does not
	pause      time.Duration
	due        time.Time     // when it is asked for again
	unsaved    *list         // good, while the file does not have it and work is about to write it
	lost       *list         // good, which could not be written
	busy       bool          // work runs
	tried      chan struct{} // closed when it was asked for once, and what counts is kept
	once       sync.Once     // closes tried
}

// validators are what a server says of the version that it sent (RFC 9110 §8.8).
type validators struct{ tag, modified string }

// newFetched reads the list that was kept in the folder.
func newFetched(entry, folder string, warn func(string), parse func([]byte) (*list, error)) *fetched {
	name, _ := Kept(entry)
	f := &fetched{
		url: entry, path: filepath.Join(folder, name), parse: parse, warn: warn, check: func() {}, now: time.Now, most: fetchMost, tried: make(chan struct{}),
		client: http.Client{
			Timeout: fetchTimeout,
			CheckRedirect: func(next *http.Request, via []*http.Request) error {
				switch {
				case len(via) > maxRedirects:
					return fmt.Errorf("it was redirected more than %d times", maxRedirects)
				case !sameServer(via[0].URL, next.URL): // which would have this machine ask for what another one chooses
					return errors.New("it redirects to another host or port, or away from https: name the URL there")
				}
				return nil
			},
			Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxHeader},
		},
	}
	data, err := readFile(f.path)
	if err == nil {
		f.good, err = parse(data)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		warn(fmt.Sprintf("the revocation list from %s that was kept in %s does not read, and is fetched anew: %v", f.url, f.path, err))
	}
	return f
}

// sameServer reports whether a URL is of the same server as the one that settings name: of the same host, port and scheme, or where https is if those are http's.
func sameServer(named, next *url.URL) bool {
	port := func(u *url.URL) string {
		return cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	}
	secured := named.Scheme == "http" && port(named) == "80" && next.Scheme == "https" && port(next) == "443"
	return strings.EqualFold(named.Hostname(), next.Hostname()) && (secured || named.Scheme == next.Scheme && port(named) == port(next))
}

func (f *fetched) name() string { return f.url }

// within has the list asked for at least once in a time.
func (f *fetched) within(d time.Duration) { f.most = min(f.most, max(d, fetchLeast)) }

// current returns good and next, and why none that is newer than good comes. It has the list asked for if that is due.
func (f *fetched) current() ([]*list, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.now().Before(f.due) {
		f.begin()
	}
	var lists []*list
	for _, l := range []*list{f.good, f.next} {
		if l != nil {
			lists = append(lists, l)
		}
	}
	switch { // what a server or the network did is for the log, and not for whoever shows a certificate
	case len(lists) == 0:
		return nil, fmt.Errorf("no list has come from %s yet", f.url)
	case f.err != nil:
		return lists, fmt.Errorf("no newer list comes from %s", f.url)
	}
	return lists, nil
}

// counts is told that an authority signed a list of current's, and none that is newer.
func (f *fetched) counts(l *list) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if l != f.next {
		return
	}
	f.good, f.next, f.fromGood, f.unsaved = l, nil, f.fromNext, l
	f.worked()
	f.begin()
}

// refused is told why a list of current's does not count.
func (f *fetched) refused(l *list, why error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if l == f.next && l != f.doubted {
		f.doubted = l
		f.failed(why)
	}
}

// worked plans the next time after one that brought what counts, if that has not ended.
func (f *fetched) worked() {
	end := f.good.ends()
	if f.good.ended(f.now()) {
		f.failed(fmt.Errorf("%s: the list there ended on %s", f.url, timeText(end)))
		return
	}
	if f.err != nil {
		f.warn(fmt.Sprintf("the revocation list from %s comes again", f.url))
	}
	f.err, f.failing, f.pause = nil, time.Time{}, 0
	f.due = f.now().Add(f.rest(f.good))
	if !end.IsZero() && end.Before(f.due) {
		f.due = end
	}
}

// ends returns when a list ends; zero: it does not say, or there is none.
func (l *list) ends() time.Time {
	if l == nil {
		return time.Time{}
	}
	return l.nextUpdate
}

// ended reports whether a list says that it has ended at a time.
func (l *list) ended(at time.Time) bool {
	end := l.ends()
	return !end.IsZero() && !at.Before(end)
}

// failed plans the next time after one that did not.
func (f *fetched) failed(why error) {
	if f.failing.IsZero() {
		f.failing = f.now()
	}
	switch {
	case f.err != nil: // it was told
	case f.good == nil:
		f.warn(fmt.Sprintf("no revocation list that counts has come from %s, and none is kept, so certificates of its authority do not count: %v", f.url, why))
	case f.good.ended(f.now()):
		f.warn(fmt.Sprintf("no newer revocation list comes from %s, and the one that is kept has ended, so certificates of its authority do not count: %v", f.url, why))
	default:
		f.warn(fmt.Sprintf("no newer revocation list comes from %s, and the one that is kept counts until it is too old: %v", f.url, why))
	}
	f.err = why
	f.pause = min(max(2*f.pause, retryFirst), retryMost, f.most)
	f.due = f.now().Add(f.pause)
}

// rest returns after which time a list is asked for again.
func (f *fetched) rest(l *list) time.Duration {
	if l == nil || l.nextUpdate.IsZero() {
		return f.most
	}
	return min(max(l.nextUpdate.Sub(l.issued)/fetchShare, fetchLeast), f.most)
}

// fault says since when and why nothing newer comes; empty: nothing is in the way.
func (f *fetched) fault() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		return ""
	}
	return fmt.Sprintf("since %s: %v", timeText(f.failing), f.err)
}

// begin has work done behind.
func (f *fetched) begin() {
	if !f.busy {
		f.busy = true
		go f.work()
	}
}

// work asks for the list if that is due, and keeps what counts.
func (f *fetched) work() {
	for {
		f.mu.Lock()
		due, save := !f.now().Before(f.due), f.unsaved
		f.unsaved = nil
		if !due && save == nil {
			f.busy = false
			f.mu.Unlock()
			f.once.Do(func() { close(f.tried) })
			return
		}
		f.mu.Unlock()
		if save != nil {
			if err := writeFile(f.path, encodePEM("X509 CRL", save.raw)); err != nil {
				f.warn(fmt.Sprintf("the revocation list from %s counts, and cannot be kept for the next start: %v", f.url, err))
				f.mu.Lock()
				f.lost = save
				f.mu.Unlock()
			}
			continue
		}
		f.fetch()
		f.mu.Lock()
		if f.lost != nil && f.lost == f.good && f.unsaved == nil {
			f.unsaved = f.lost
		}
		f.lost = nil
		f.mu.Unlock()
		f.check()
	}
}

// first waits until the list was asked for once, if none was kept, and not for long.
func (f *fetched) first(ctx context.Context) {
	f.mu.Lock()
	f.begin()
	kept := f.good != nil
	f.mu.Unlock()
	if kept {
		return
	}
	select {
	case <-f.tried:
	case <-ctx.Done():
	}
}

// parsing is held by who reads a list, which may take a hundred megabytes. What was sent is there before, so that a server that is slow keeps no other list
// waiting: maxFile bytes for each URL, less than the lists that are kept take.
var parsing sync.Mutex

// fetch asks for the list.
func (f *fetched) fetch() {
	f.mu.Lock()
	known := f.fromGood
	f.mu.Unlock()
	data, from, err := f.get(known)
	var came *list
	if err == nil && data != nil {
		parsing.Lock()
		if came, err = f.parse(data); err != nil {
			err = fmt.Errorf("what it sends: %w", err)
		}
		parsing.Unlock()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case err != nil:
		f.failed(fmt.Errorf("%s: %w", f.url, err))
	case came == nil || f.good != nil && bytes.Equal(came.raw, f.good.raw):
		f.next = nil
		if came != nil {
			f.fromGood = from
		}
		f.worked()
	default:
		f.next, f.fromNext = came, from
		f.due = f.now().Add(f.rest(came))
	}
}

// get returns what the server sends; nil: the version that it sent before is its newest.
func (f *fetched) get(known validators) ([]byte, validators, error) {
	request, err := http.NewRequest(http.MethodGet, f.url, nil)
	if err != nil {
		return nil, known, err
	}
	if known.tag != "" {
		request.Header.Set("If-None-Match", known.tag)
	}
	if known.modified != "" {
		request.Header.Set("If-Modified-Since", known.modified)
	}
	response, err := f.client.Do(request)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok { // it repeats the URL
			err = e.Err
		}
		return nil, known, err
	}
	defer response.Body.Close()
	switch {
	case response.StatusCode == http.StatusNotModified && known != (validators{}):
		return nil, known, nil
	case response.StatusCode != http.StatusOK:
		return nil, known, fmt.Errorf("it answered %s", response.Status)
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("it sends more than %d bytes", maxFile)
	}
	return data, validators{response.Header.Get("ETag"), response.Header.Get("Last-Modified")}, err
}

// fetching is what a provider fetches.
type fetching map[string]*fetched // by URL

// start begins to ask for all lists. It waits a while for those that were never there.
func (all fetching) start(ctx context.Context, check func()) {
	ctx, cancel := context.WithTimeout(ctx, firstWait)
	defer cancel()
	for _, f := range all {
		f.check = check
	}
	var waiting sync.WaitGroup
	for _, f := range all {
		waiting.Go(func() { f.first(ctx) })
	}
	waiting.Wait()
}

// makeFolder makes the folder of Settings.Lists if it is not there, and says if nothing can be kept in it. It removes what a crash left there.
func makeFolder(path string) error {
	err := os.MkdirAll(path, 0o700)
	entries, _ := os.ReadDir(path)
	for _, e := range entries {
		if info, err := e.Info(); err == nil && strings.HasPrefix(e.Name(), freshPrefix) && time.Since(info.ModTime()) > time.Hour { // no other process writes it any more
			_ = os.Remove(filepath.Join(path, e.Name()))
		}
	}
	if err == nil {
		var probe *os.File
		if probe, err = os.CreateTemp(path, freshPrefix); err == nil {
			err = errors.Join(probe.Close(), os.Remove(probe.Name()))
		}
	}
	if err != nil {
		return fmt.Errorf("lists: %w: name a folder that the node's user may write to", err)
	}
	return nil
}

// listFile is a revocation list in a file that settings name.
type listFile struct{ *file[*list] }

func (f listFile) name() string { return f.path }

func (f listFile) current() ([]*list, error) {
	l, err := f.file.current()
	return []*list{l}, err
}

func (f listFile) counts(*list)         {}
func (f listFile) refused(*list, error) {}

func (f listFile) fault() string {
	if _, err := f.file.current(); err != nil {
		return err.Error()
	}
	return ""
}
