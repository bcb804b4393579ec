package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/fondaco/fondaco/testnet/sim"
)

func TestSim(t *testing.T) {
	sh := func(args ...string) (code int, out, diagnostics string) {
		var o, d bytes.Buffer
		code = run(t.Context(), append([]string{"testnet", "sim"}, args...), &o, &d)
		return code, o.String(), d.String()
	}
	t.Run("a few schedules hold", func(t *testing.T) {
		code, out, diagnostics := sh("--schedules", "3", "--seed", "7", "-o", "json")
		var s sim.Summary
		if err := json.Unmarshal([]byte(out), &s); code != 0 || err != nil {
			t.Fatalf("exit %d, %v: %s%s", code, err, out, diagnostics)
		}
		if !s.Held || s.Schedules != 3 || s.Blocks < 18 {
			t.Errorf("summary %+v", s)
		}
	})
	t.Run("one schedule with its trace", func(t *testing.T) {
		code, out, diagnostics := sh("--schedules", "1", "--seed", "7", "-v")
		if code != 0 || !strings.Contains(out, "finalizes block 6") || !strings.Contains(out, "every rule held") {
			t.Errorf("exit %d: %s%s", code, out[max(0, len(out)-500):], diagnostics)
		}
	})
	t.Run("members that lie in one way", func(t *testing.T) {
		code, out, diagnostics := sh("--schedules", "4", "--byzantine", "equivocating-leader")
		if code != 0 || !strings.Contains(out, "equivocating-leader") || !strings.Contains(out, "every rule held") {
			t.Errorf("exit %d: %s%s", code, out, diagnostics)
		}
	})
	t.Run("the ways to lie", func(t *testing.T) {
		code, out, diagnostics := sh("--list", "-o", "json")
		var all []sim.Strategy
		if err := json.Unmarshal([]byte(out), &all); code != 0 || err != nil || len(all) < 20 {
			t.Errorf("exit %d, %v, %d strategies: %s", code, err, len(all), diagnostics)
		}
	})
	for _, wrong := range [][]string{{"--schedules", "0"}, {"--nodes", "1"}, {"--parallel", "-1"}, {"-v"}, {"-o", "xml"}, {"--bogus"}, {"--byzantine", "bogus"}, {"more"}} {
		t.Run("wrong: "+strings.Join(wrong, " "), func(t *testing.T) {
			if code, _, diagnostics := sh(wrong...); code != 2 || !strings.Contains(diagnostics, "wrong usage") {
				t.Errorf("exit %d: %s", code, diagnostics)
			}
		})
	}
}
