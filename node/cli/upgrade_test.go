package cli

import "testing"

func TestFrames(t *testing.T) {
	names := map[uint32]string{7: "charge", 12: "transfer"}
	for line, want := range map[string]string{
		"\t.$7()\n":                    "\tcharge()\n",
		"\t.$12(i32,i64) i32\n":        "\ttransfer(i32,i64) i32\n",
		"\t.$8()\n":                    "\t.$8()\n",
		"\tfondaco_v1.set(i32,i32)\n":  "\tfondaco_v1.set(i32,i32)\n",
		"\t.$99999999999999999999()\n": "\t.$99999999999999999999()\n",
		"say \".$7()\"\n":              "say \".$7()\"\n",
	} {
		if got := nameFrame(line, names); got != want {
			t.Errorf("%q becomes %q, want %q", line, got, want)
		}
	}
}
