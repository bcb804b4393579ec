package sim

import "testing"

// TestRecoveries: groups that lost more members than they bear go on with all that was final. Only schedules that have it;
// -schedules runs more of them.
func TestRecoveries(t *testing.T) {
	for name, c := range map[string]struct {
		Schedule
		count int
		found []uint64 // seeds that once broke a rule, which take the place of the first
	}{
		"pbft":       {Schedule{Nodes: 4}, 30, []uint64{30018728, 37256, 62016904}},
		"pbft of 7":  {Schedule{Nodes: 7}, 10, nil},
		"raft":       {Schedule{Nodes: 4, Raft: true}, 30, nil},
		"raft of 10": {Schedule{Nodes: 10, Raft: true}, 2, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var sum Report
			count := max(c.count, *schedules)
			for i := range count {
				s := c.Schedule
				s.Seed = 8 + 32*uint64(i)
				if i < len(c.found) {
					s.Seed = c.found[i]
				}
				r, err := Run(s)
				if err != nil {
					t.Errorf("%v\nrepeat it with: %s", err, Repeat(s))
				}
				sum.add(r)
			}
			if sum.Recoveries != count && !t.Failed() {
				t.Errorf("%d recoveries in %d schedules", sum.Recoveries, count)
			}
			if sum.Kept == 0 && count >= 20 {
				t.Error("no recovery had to keep a block")
			}
			t.Logf("%d recoveries, %d blocks kept, %d crashes", sum.Recoveries, sum.Kept, sum.Crashes)
		})
	}
}
