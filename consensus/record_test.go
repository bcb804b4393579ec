package consensus_test

import (
	"strings"
	"testing"

	"github.com/fondaco/fondaco/consensus"
)

func TestDurable(t *testing.T) {
	type state struct {
		_    struct{} `cbor:",toarray"`
		View uint64
	}
	d := consensus.Durable{Version: 3}
	persisted, ok := d.Persist(7, &state{View: 5}).(consensus.Persist)
	if !ok || !persisted.Replace || len(persisted.Records) != 1 {
		t.Fatalf("Persist = %+v", persisted)
	}
	if again := d.Persist(7, &state{View: 5}); again != nil {
		t.Errorf("Persist of the same state = %+v, want nothing", again)
	}
	if next := d.Persist(8, &state{View: 5}); next == nil {
		t.Error("Persist of the same state in another epoch = nothing")
	}
	for _, c := range []struct {
		story   string
		journal []consensus.Record
		version uint16
		epoch   uint64
		view    uint64 // 0: none is found
		err     string
	}{
		{"its own", persisted.Records, 3, 7, 5, ""},
		{"the last counts", append([]consensus.Record{{0xff}}, persisted.Records...), 3, 7, 5, ""},
		{"none", nil, 3, 7, 0, ""},
		{"of an epoch that is over", persisted.Records, 3, 8, 0, ""},
		{"of an epoch to come", persisted.Records, 3, 6, 0, "blocks are missing"},
		{"of another version", persisted.Records, 4, 7, 0, "version 3, want 4"},
		{"damaged", []consensus.Record{persisted.Records[0][:4]}, 3, 7, 0, "read the journal"},
	} {
		var got state
		r := consensus.Durable{Version: c.version}
		found, err := r.Restore(c.journal, c.epoch, &got)
		if found != (c.view > 0) || got.View != c.view || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: found %t, view %d, %v", c.story, found, got.View, err)
		}
		if found && r.Persist(c.epoch, &got) != nil {
			t.Errorf("%s: what was restored is persisted again", c.story)
		}
	}
}
