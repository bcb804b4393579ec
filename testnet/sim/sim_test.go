package sim

import (
	"testing"
)

func TestOne(t *testing.T) {
	for seed := range uint64(200) {
		r, err := Run(Schedule{Nodes: 4, Seed: seed})
		if err != nil {
			t.Errorf("%v %+v", err, r)
		}
	}
}
