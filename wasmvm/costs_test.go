package wasmvm

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// grouped writes a number as people read it: 125,000.
func grouped(n uint64) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", grouped(n/1000), n%1000)
}

// instructionCosts lists instructions by what they cost, but for those that cost 1. Types that cost the same are merged: iNN, fNN.
func instructionCosts(c *costs) string {
	all := map[uint32]map[string]string{} // by cost and method: the types
	for op, o := range operations {
		if o.name == "" || op == opSelectT {
			continue
		}
		typ, method, found := strings.Cut(o.name, ".")
		if !found || len(typ) != 3 {
			typ, method = "", o.name
		}
		if all[c.ops[op]] == nil {
			all[c.ops[op]] = map[string]string{}
		}
		all[c.ops[op]][method] += typ
	}
	var b strings.Builder
	for _, cost := range slices.Sorted(maps.Keys(all)) {
		if cost == 1 {
			b.WriteString("| 1 | all others |\n")
			continue
		}
		var names []string
		for method, types := range all[cost] {
			switch types {
			case "":
				names = append(names, "`"+method+"`")
			case "i32i64":
				names = append(names, "`iNN."+method+"`")
			case "f32f64":
				names = append(names, "`fNN."+method+"`")
			default:
				for ; types != ""; types = types[3:] {
					if name := "`" + types[:3] + "." + method + "`"; !slices.Contains(names, name) {
						names = append(names, name)
					}
				}
			}
		}
		slices.Sort(names)
		fmt.Fprintf(&b, "| %d | %s |\n", cost, strings.Join(names, ", "))
	}
	return b.String()
}

// gasSection is the section on gas of ABI.md.
func gasSection(c *costs) string {
	var b strings.Builder
	emit := func(format string, args ...any) {
		for i, a := range args {
			if n, ok := a.(uint64); ok {
				args[i] = grouped(n)
			}
		}
		fmt.Fprintf(&b, format, args...)
	}
	emit("## Gas (costs version %v)\n\n", CostsVersion)
	emit("Blocks of instructions are charged as a whole on entry. An instruction costs\n\n| gas | |\n|---|---|\n%s\n", instructionCosts(c))
	emit("and a function on entry 1 for each %v of its parameters and locals, `memory.grow` also %v for each page that it asks for,\n", c.perLocals, c.growPage)
	emit("`memory.copy` and `memory.init` %v/16 for each byte, `memory.fill` %v/16.\n\n", c.copy16, c.fill16)
	emit("Starting a call costs %v, and for each page of the memory that `_initialize` leaves %v, or %v if there are %v or more: one\n", c.start, c.startPage, c.largePage, c.largePages)
	emit("constant of the module. A deployment pays once for what `_initialize` took, at most %v, and that eight times,\nbecause no compiled code runs it; also if the module is refused for how it ended.\n\n", uint64(MaxInitGas))
	emit("A host function costs %v, %v for each byte that it reads of the contract's memory, 1/%v for each byte that it writes there, and:\n\n", c.host, c.hostByte, uint64(1)<<c.backShift)
	emit("| | |\n|---|---|\n")
	emit("| `get`, `has` | %v and %v for each byte of key and value |\n", c.read, c.readByte)
	emit("| `set` | %v and %v for each byte of key and value |\n", c.write, c.writeByte)
	emit("| `add` | %v and %v for each byte of the key |\n| `del` | %v and %v for each byte of the key |\n", c.read+c.write, c.writeByte, c.write, c.writeByte)
	emit("| `scan` | %v |\n", c.scan)
	emit("| `scan_next` | %v, %v for each byte of key and value, and %v for each key before it that was deleted in the same block |\n", c.scanNext, c.readByte, c.scanDead)
	emit("| `emit` | %v and %v for each byte of topic and data |\n", c.emit, c.emitByte)
	emit("| `output`, `abort` | %v for each data item of the CBOR |\n", c.item)
	emit("| `call` | %v, and what the callee uses |\n", c.call)
	emit("| `hash` | SM3 %v and %v for each byte, SHA-256 %v and %v, Keccak-256 %v and %v |\n", c.hash[hashSM3].base, c.hash[hashSM3].perByte,
		c.hash[hashSHA256].base, c.hash[hashSHA256].perByte, c.hash[hashKeccak256].base, c.hash[hashKeccak256].perByte)
	emit("| `verify` | SM2 %v, Ed25519 %v, P-256 %v |\n", c.verify[verifySM2], c.verify[verifyEd25519], c.verify[verifyP256])
	emit("| `ctx` | %v |\n| `caller_attr` | %v |\n", c.context, c.attribute)
	emit("| `rand`, `random_get` | %v and %v for each byte |\n", c.random, c.randByte)
	emit("| `log`, each vector of `fd_write` | %v and %v for each byte |\n\n", c.log, c.hostByte)
	return b.String()
}

// TestGasSection holds the prices in ABI.md to those that are charged. Run with -rewrite after a change.
func TestGasSection(t *testing.T) {
	raw, err := os.ReadFile("ABI.md")
	if err != nil {
		t.Fatal(err)
	}
	text, want := string(raw), gasSection(versionOne(t))
	begin := strings.Index(text, "## Gas ")
	end := strings.Index(text[max(begin, 0)+1:], "\n## ")
	if begin < 0 || end < 0 {
		t.Fatal("ABI.md has no section on gas with another behind it")
	}
	end += begin + 2
	if text[begin:end] == want {
		return
	}
	if !*rewriteGoldens {
		t.Errorf("the section on gas in ABI.md is not that of the prices: go test -run GasSection -rewrite\ngot:\n%s\nwant:\n%s", text[begin:end], want)
		return
	}
	if err := os.WriteFile("ABI.md", []byte(text[:begin]+want+text[end:]), 0o644); err != nil {
		t.Fatal(err)
	}
}
