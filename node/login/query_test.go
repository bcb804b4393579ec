package login

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/fondaco/fondaco/node/client"
	"github.com/fondaco/fondaco/state/ledger"
)

// TestNonces has accounts of a bank ask as much as they can, while others ask now and then.
func TestNonces(t *testing.T) {
	var n nonces
	var count uint64
	account := func(i int) ledger.Address { return ledger.Address{0: 0xaa, 19: byte(i)} }
	value := func(i uint64) (v [16]byte) {
		binary.BigEndian.PutUint64(v[:], i)
		return v
	}
	ask := func(who int, institution string, now int64) string {
		t.Helper()
		count++
		fresh, full := n.take(account(who), institution, value(count), now)
		if fresh != (full == "") {
			t.Fatalf("a new nonce of account %d: fresh %v, full %q", who, fresh, full)
		}
		return full
	}
	const now = 1_000_000_000
	flooded := 0
	for who := range 20 {
		for {
			full := ask(who, "alpha", now)
			if full == "" {
				flooded++
				continue
			}
			want := "the accounts of alpha"
			if who < maxInstitutionNonces/maxAccountNonces {
				want = "account " + account(who).String()
			}
			if full != want {
				t.Fatalf("account %d, after %d of all: %q, want %q", who, flooded, full, want)
			}
			break
		}
	}
	if flooded != maxInstitutionNonces {
		t.Errorf("alpha took %d, want %d", flooded, maxInstitutionNonces)
	}
	for i := range 30 { // others ask as ever
		if full := ask(100+i, fmt.Sprint("bank ", i), now); full != "" {
			t.Errorf("bank %d is kept out: %q", i, full)
		}
	}
	if fresh, full := n.take(account(129), "bank 29", value(count), now); fresh || full != "" {
		t.Errorf("the same nonce again: fresh %v, full %q", fresh, full)
	}

	// What came is remembered for as long as its query counts, and then makes room.
	last, turn := count, 2*client.QueryWindow.Milliseconds()
	if full := ask(200, "beta", now+turn); full != "" {
		t.Fatal(full)
	}
	if fresh, full := n.take(account(129), "bank 29", value(last), now+turn); fresh || full != "" {
		t.Errorf("the same nonce a turn later: fresh %v, full %q", fresh, full)
	}
	if full := ask(0, "alpha", now+turn); full != "account "+account(0).String() {
		t.Errorf("alpha asks a turn later: %q", full)
	}
	if full := ask(0, "alpha", now+2*turn); full != "" {
		t.Errorf("alpha asks two turns later: %q", full)
	}
}
