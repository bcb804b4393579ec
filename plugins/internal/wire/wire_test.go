package wire

import (
	"runtime/debug"
	"strings"
	"testing"
)

func TestBuiltFrom(t *testing.T) {
	commit := []debug.BuildSetting{{Key: "vcs", Value: "git"}, {Key: "vcs.revision", Value: "0123456789abcdef0123456789abcdef01234567"}}
	for _, c := range []struct {
		version, want string
		settings      []debug.BuildSetting
	}{
		{"v1.2.3", "v1.2.3", commit},
		{"(devel)", commit[1].Value, commit},
		{"(devel)", "unknown", nil},
		{"", "unknown", nil},
		{strings.Repeat("v", 65), strings.Repeat("v", 64), nil},
	} {
		if got := builtFrom(&debug.BuildInfo{Main: debug.Module{Version: c.version}, Settings: c.settings}); got != c.want {
			t.Errorf("builtFrom(%q, %v) = %q, want %q", c.version, c.settings, got, c.want)
		}
	}
}
