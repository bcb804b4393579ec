package group

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/fondaco/fondaco/state"
	"github.com/fondaco/fondaco/state/identity"
	"github.com/fondaco/fondaco/state/keys"
	"github.com/fondaco/fondaco/state/ledger"
)

const (
	evidenceName = "evidence"
	// maxEvidence bounds the evidence that is kept; beyond it the oldest is forgotten.
	maxEvidence = 1_024
	// maxEvidenceEach bounds it for one member in an epoch, so that one liar cannot push out what others did, nor
	// keep the disk busy. A single piece is enough to act on.
	maxEvidenceEach = 16
)

// Evidence is proof that a member lied, as this node found it.
type Evidence struct {
	_           struct{} `cbor:",toarray"`
	Proof       ledger.Evidence
	Node        identity.NodeID // the member that lied
	Institution string          // that the member belongs to
	UnixMilli   int64           // this node's clock when it was found
	Head        ledger.Height   // of this node then
}

// evidenceFile is what the file holds: all evidence in the order in which it was found.
type evidenceFile struct {
	_       struct{} `cbor:",toarray"`
	Version uint16
	Found   []Evidence
}

// evidenceStore keeps evidence across restarts, once for each place (see ledger.Place). It is written anew whole,
// and a crash leaves the old or the new one. The file can be deleted.
type evidenceStore struct {
	fs    state.FS
	dir   string
	found []Evidence
}

func openEvidence(files state.FS, dir string) (*evidenceStore, error) {
	s := &evidenceStore{fs: files, dir: dir}
	path := filepath.Join(dir, evidenceName)
	file, err := files.Open(path, false)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open the evidence %s: %w", path, err)
	}
	size, err := file.Size()
	if err == nil && size > 2*maxEvidence*ledger.MaxEvidenceSize { // more than it can have, with names and times
		err = fmt.Errorf("it has %d bytes", size)
	}
	var kept evidenceFile
	if err == nil {
		data := make([]byte, size)
		if n, e := file.ReadAt(data, 0); n < len(data) {
			err = e
		} else if err = ledger.Unmarshal(data, &kept); err == nil && kept.Version != 1 {
			err = fmt.Errorf("version %d, want 1", kept.Version)
		}
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, fmt.Errorf("read the evidence %s: %w: move the file away and keep it for the inquiry", path, err)
	}
	s.found = kept.Found
	return s, nil
}

// add keeps evidence that was verified, unless there is some of the same, and reports whether it is new.
func (s *evidenceStore) add(e Evidence) (bool, error) {
	place, err := e.Proof.Place()
	if err != nil {
		return false, err
	}
	each := 0
	for i := range s.found {
		other, err := s.found[i].Proof.Place()
		if err != nil {
			return false, err
		}
		if other == place {
			return false, nil
		}
		if other.Epoch == place.Epoch && other.Member == place.Member {
			each++
		}
	}
	if each >= maxEvidenceEach {
		return false, nil
	}
	next := append(slices.Clone(s.found), e) // readers have the old slice
	if len(next) > maxEvidence {
		next = next[len(next)-maxEvidence:]
	}
	if err := s.write(next); err != nil {
		return false, fmt.Errorf("write the evidence: %w", err)
	}
	s.found = next
	return true, nil
}

func (s *evidenceStore) write(found []Evidence) error {
	file, err := replaceFile(s.fs, s.dir, evidenceName, mustMarshal(&evidenceFile{Version: 1, Found: found}))
	if err != nil {
		return err
	}
	return file.Close()
}

// accuse keeps evidence that the engine found. The engine is not believed: what proves nothing is dropped.
func (g *Group) accuse(a, b ledger.Vote) error {
	proof, err := ledger.NewEvidence(a, b)
	if err == nil {
		err = proof.Verify(g.cfg.Suite, g.cfg.Chain, g.cfg.Group, &g.epoch)
	}
	if err != nil {
		g.log.Warn().Err(err).Uint32("member", a.Signer).Msg("consensus engine accused a member without proof")
		return nil
	}
	place, err := proof.Place()
	if err != nil {
		return err
	}
	liar := &g.epoch.Members[place.Member]
	fresh, err := g.evidence.add(Evidence{
		Proof: *proof, Node: liar.Node, Institution: liar.Institution, UnixMilli: g.env.Now(), Head: g.head.Order.Height,
	})
	if err != nil || !fresh {
		return err
	}
	id := proof.Digest(g.cfg.Suite)
	g.log.Error().Uint32("member", place.Member).Str("institution", liar.Institution).Stringer("offence", place.Offence).
		Stringer("kind", place.Kind).Uint64("view", place.View).Uint64("height", uint64(place.Height)).Str("evidence", id.String()).
		Msg("a member signed two statements that contradict one another: see `fondaco evidence show`, and put it on chain with `fondaco evidence submit`")
	g.publishEvidence()
	if g.cfg.Trace.Evidence != nil {
		g.cfg.Trace.Evidence(proof.A, proof.B)
	}
	return nil
}

func (g *Group) publishEvidence() { g.proofs.Store(&g.evidence.found) }

// Evidence returns the evidence against members that this node has found, oldest first. Any goroutine may call it;
// the result must not be changed.
func (g *Group) Evidence() []Evidence { return *g.proofs.Load() }

// FindEvidence returns the evidence with a digest.
func (g *Group) FindEvidence(id keys.Digest) (Evidence, bool) {
	for _, e := range g.Evidence() {
		if e.Proof.Digest(g.cfg.Suite) == id {
			return e, true
		}
	}
	return Evidence{}, false
}
