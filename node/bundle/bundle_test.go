package bundle_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/fondaco/fondaco/node/bundle"
	"github.com/fondaco/fondaco/state/keys/keystest"
)

const mark = "fondaco test 1\n"

func written(t testing.TB, bodies ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := bundle.NewWriter(&out, keystest.Suite(), mark)
	for i, body := range bodies {
		if err := w.Raw(uint8(i+1), []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func read(data []byte) (bodies []string, err error) {
	r, err := bundle.NewReader(bytes.NewReader(data), keystest.Suite(), mark, 100)
	if err != nil {
		return nil, err
	}
	for {
		kind, body, err := r.Next()
		if errors.Is(err, io.EOF) {
			if n := r.Bytes(); n != int64(len(data)) {
				return nil, errors.New("not all bytes were read")
			}
			return bodies, nil
		}
		if err != nil {
			return bodies, err
		}
		if int(kind) != len(bodies)+1 {
			return bodies, errors.New("another kind")
		}
		bodies = append(bodies, string(body))
	}
}

// TestBundle cuts, changes and lengthens a bundle at every byte.
func TestBundle(t *testing.T) {
	whole := written(t, "one", "", "three")
	if got, err := read(whole); err != nil || len(got) != 3 || got[0] != "one" || got[1] != "" || got[2] != "three" {
		t.Fatalf("read = %q, %v", got, err)
	}
	for at := range whole {
		if _, err := read(whole[:at]); !errors.Is(err, bundle.ErrBroken) {
			t.Errorf("cut at byte %d: %v, want ErrBroken", at, err)
		}
		changed := bytes.Clone(whole)
		changed[at] ^= 0x10
		if _, err := read(changed); err == nil {
			t.Errorf("changed at byte %d: no error", at)
		}
	}
	if _, err := read(append(bytes.Clone(whole), 0)); !errors.Is(err, bundle.ErrBroken) {
		t.Errorf("with a byte more: %v, want ErrBroken", err)
	}
	if got, err := read(written(t)); err != nil || len(got) != 0 {
		t.Errorf("an empty bundle: %q, %v", got, err)
	}
	w := bundle.NewWriter(io.Discard, keystest.Suite(), mark)
	if err := w.Raw(1, make([]byte, bundle.MaxItem+1)); err == nil || w.Close() == nil {
		t.Error("an item that is too large was written")
	}
}

// FuzzReader looks for bytes that are taken for a bundle and were not written as one.
func FuzzReader(f *testing.F) {
	f.Add(written(f))
	f.Add(written(f, "one", "", "three"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if got, err := read(data); err == nil && !bytes.Equal(written(t, got...), data) {
			t.Errorf("%x is read as %q", data, got)
		}
	})
}
