package vouch

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fondaco/fondaco/plugins/ca"
	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

const (
	fileVersion = 2                // of verdicts
	maxFile     = 16 << 20         // bytes: MaxVerdicts holders with all that ca.Holder allows take 11 MiB
	saveWithin  = time.Second      // of a change: what comes meanwhile is written with it
	saveAfter   = 10 * time.Minute // how much later than the file says a verdict may have been confirmed, if the process is killed
)

// sealed is what a file holds.
type sealed struct {
	_    struct{} `cbor:",toarray"`
	Body []byte
	Sum  keys.Digest // of Body
}

// verdicts are the chains that the provider vouched for.
type verdicts struct {
	_       struct{} `cbor:",toarray"`
	Version uint16
	Kept    []kept // by id, at most MaxVerdicts
}

type kept struct {
	_         struct{} `cbor:",toarray"`
	ID        keys.Digest
	Confirmed int64       // Unix milliseconds
	Origin    keys.Digest // under which it was
	Holder    ca.Holder
}

// keep writes the file when there is something new, and when Close is called.
func (v *Verdicts) keep() {
	for ended := false; !ended; {
		select {
		case <-v.dirty:
			rest := time.NewTimer(saveWithin)
			select {
			case <-rest.C:
			case <-v.ctx.Done():
				rest.Stop()
				ended = true
			}
		case <-v.ctx.Done():
			ended = true
		}
		if err := v.write(); err != nil {
			v.config.Log.Error().Err(err).Str("file", v.config.Path).Msg("what the CA provider said of nodes was not written: it is asked anew after a restart")
		}
	}
}

// write replaces the file.
func (v *Verdicts) write() error {
	body := verdicts{Version: fileVersion}
	v.mu.Lock()
	for _, k := range v.known {
		if k.who != nil {
			body.Kept = append(body.Kept, kept{ID: k.id, Confirmed: k.confirmed.UnixMilli(), Origin: k.origin, Holder: *k.holder})
			k.saved = k.confirmed
		}
	}
	v.mu.Unlock()
	slices.SortFunc(body.Kept, func(a, b kept) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return replace(v.config.Path, v.config.Suite, "verdicts", &body)
}

// replace writes a file of a thing whole, with the digest of its body.
func replace(path string, s keys.Suite, thing string, body any) error {
	raw, err := ledger.Marshal(body)
	if err != nil {
		return err
	}
	data, err := ledger.Marshal(&sealed{Body: raw, Sum: keys.Hash(s, thing, raw)})
	if err != nil {
		return err
	}
	files, fresh := state.OS(), path+".new"
	file, err := files.Open(fresh, true)
	if err != nil {
		return err
	}
	err = file.Truncate(0)
	if err == nil {
		_, err = file.WriteAt(data, 0)
	}
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return errors.Join(err, files.Remove(fresh))
	}
	return errors.Join(files.Rename(fresh, path), files.SyncDir(filepath.Dir(path)))
}

// read takes what counts of the file.
func (v *Verdicts) read() {
	body, err := v.load()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		v.config.Log.Info().Str("file", v.config.Path).Msg("nothing is kept of what the CA provider said of nodes: it is asked anew")
		return
	case err != nil:
		v.config.Log.Warn().Err(err).Str("file", v.config.Path).Msg("what is kept of what the CA provider said of nodes does not count: it is asked anew")
		return
	}
	now, dormant := v.config.Now(), 0
	for i := range body.Kept {
		e := &body.Kept[i]
		who, err := e.Holder.Identity(v.config.Suite)
		confirmed := time.UnixMilli(e.Confirmed)
		if confirmed.After(now) { // a clock was set back
			confirmed = now
		}
		k := &verdict{id: e.ID, key: e.Holder.Key, who: &who, holder: &e.Holder, confirmed: confirmed, origin: e.Origin, saved: confirmed, used: confirmed}
		if err == nil && v.counts(k, now) && now.Before(who.NotAfter) {
			v.known[k.id] = k
			if k.dormant = k.origin != v.origin; k.dormant {
				dormant++
			}
		}
	}
	if dormant > 0 {
		v.config.Log.Warn().Int("nodes", dormant).Str("file", v.config.Path).Msg("when the CA provider vouched for these nodes its program, or its settings, were others: it is asked anew")
	}
}

// load reads the file, and says what is wrong with it.
func (v *Verdicts) load() (*verdicts, error) {
	body := new(verdicts)
	if err := load(v.config.Path, v.config.Suite, "verdicts", body); err != nil {
		return nil, err
	}
	switch {
	case body.Version != fileVersion:
		return nil, fmt.Errorf("it is of another release: it has version %d, want %d", body.Version, fileVersion)
	case len(body.Kept) > MaxVerdicts:
		return nil, fmt.Errorf("it has %d verdicts, want at most %d", len(body.Kept), MaxVerdicts)
	case !slices.IsSortedFunc(body.Kept, func(a, b kept) int { return cmp.Or(bytes.Compare(a.ID[:], b.ID[:]), -1) }):
		return nil, errors.New("its verdicts are out of order or there twice")
	}
	return body, nil
}

// load reads what replace wrote.
func load(path string, s keys.Suite, thing string, body any) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return fmt.Errorf("it has %d bytes and mode %v, want a file of at most %d bytes", info.Size(), info.Mode(), maxFile)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var outer sealed
	if err := ledger.Unmarshal(data, &outer); err != nil {
		return fmt.Errorf("it is damaged: %w", err)
	}
	if sum := keys.Hash(s, thing, outer.Body); sum != outer.Sum {
		return errors.New("it is damaged: its digest is another")
	}
	if err := ledger.Unmarshal(outer.Body, body); err != nil {
		return fmt.Errorf("it is of another release: %w", err)
	}
	return nil
}
