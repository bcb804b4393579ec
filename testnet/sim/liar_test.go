package sim

import "testing"

// lieSchedules is in how many schedules a strategy must show itself. It is run in that many, and goes on no longer than
// its attacks and refusals are missing.
const lieSchedules = 24

// TestStrategies lets the members lie in each way: the group holds every rule, and honest nodes refuse the lies by the
// rule that says so.
func TestStrategies(t *testing.T) {
	all := Strategies()
	if len(all) < 20 || len(all) > maxStrategies {
		t.Fatalf("%d strategies, want 20 to %d", len(all), maxStrategies)
	}
	for i, s := range all {
		t.Run(s.Name, func(t *testing.T) {
			var sum Report
			schedules := 0
			for seed := uint64(1); seed <= lieSchedules && (schedules < 2 || sum.Attacks[i] == 0 || sum.Refusals[i] == 0); seed++ {
				r, err := Run(Schedule{Nodes: 4, Seed: seed, Byzantine: s.Name})
				if err != nil {
					t.Fatalf("%v\nrepeat it with: %s", err, Repeat(Schedule{Nodes: 4, Seed: seed, Byzantine: s.Name}))
				}
				sum.add(r)
				schedules++
			}
			t.Logf("%d schedules: %d attacks, %d refusals", schedules, sum.Attacks[i], sum.Refusals[i])
			if sum.Attacks[i] == 0 {
				t.Error("it did not attack")
			}
			if sum.Refusals[i] == 0 {
				t.Errorf("%d attacks were refused by none of %q", sum.Attacks[i], s.Rules)
			}
		})
	}
	t.Run("a strategy that does not exist", func(t *testing.T) {
		if _, err := Run(Schedule{Nodes: 4, Byzantine: "bogus"}); err == nil || Violation(err) {
			t.Errorf("Run = %v", err)
		}
	})
}
