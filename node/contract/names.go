package contract

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/fondaco/fondaco/wasmvm"
)

// maxNames bounds what is read of a name section.
const maxNames = 100_000

// FunctionNames returns the names of functions by index, imports included, that a name section holds (WebAssembly core
// specification, appendix 7.4.1), in their language's form: none for no section, and an error for one that ends early.
func FunctionNames(section []byte) (map[uint32]string, error) {
	names := map[uint32]string{}
	for r := (wasmReader{data: section}); len(r.data) > 0; {
		id := r.uint()
		sub := wasmReader{data: r.take(r.uint())}
		if r.bad {
			return nil, fmt.Errorf("%w: the name section ends within a part", ErrNames)
		}
		if id != 1 { // the names of functions
			continue
		}
		for n := sub.uint(); n > 0 && !sub.bad && len(names) < maxNames; n-- {
			index := sub.uint()
			if name := sub.name(); !sub.bad {
				names[uint32(index)] = demangled(name)
			}
		}
		if sub.bad {
			return nil, fmt.Errorf("%w: the name section ends within a name", ErrNames)
		}
	}
	return names, nil
}

// analyze is wasmvm.Analyze with the names of functions.
func analyze(code, names []byte) (*wasmvm.Analysis, error) {
	a, err := wasmvm.Analyze(WithNames(code, names))
	if err != nil {
		return nil, err
	}
	for i := range a.Functions {
		a.Functions[i].Name = demangled(a.Functions[i].Name)
	}
	for i := range a.Limits {
		a.Limits[i].Function = demangled(a.Limits[i].Function)
		if a.Limits[i].Name == "bytes" {
			a.Limits[i].Value = uint64(len(code)) // names are not deployed
		}
	}
	return a, nil
}

// rustName is what Rust's compiler calls a function: the lengths and texts of a path, and a hash. rustEscape is in such texts.
var (
	rustName   = regexp.MustCompile(`^_ZN(.+)17h[0-9a-f]{16}E(\.llvm\.[0-9]+)?$`)
	rustEscape = regexp.MustCompile(`\$([A-Z]{1,2}|u[0-9a-f]{1,6})\$|\.\.`)
)

// demangled returns the path of a function in Rust, without the hash behind it, and any other name as it is.
func demangled(name string) string {
	m := rustName.FindStringSubmatch(name)
	if m == nil {
		return name
	}
	var parts []string
	for rest := m[1]; rest != ""; {
		digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
		n, err := strconv.Atoi(rest[:digits])
		if err != nil || n == 0 || n > len(rest)-digits {
			return name
		}
		part := rest[digits : digits+n]
		if strings.HasPrefix(part, "_$") {
			part = part[1:]
		}
		parts = append(parts, rustEscape.ReplaceAllStringFunc(part, rustCharacter))
		rest = rest[digits+n:]
	}
	return strings.Join(parts, "::")
}

// rustCharacter returns what an escape in a name stands for.
func rustCharacter(escape string) string {
	if escape == ".." {
		return "::"
	}
	code := strings.Trim(escape, "$")
	if known, ok := map[string]string{"SP": "@", "BP": "*", "RF": "&", "LT": "<", "GT": ">", "LP": "(", "RP": ")", "C": ","}[code]; ok {
		return known
	}
	if n, err := strconv.ParseUint(strings.TrimPrefix(code, "u"), 16, 32); err == nil && n >= ' ' {
		return string(rune(n))
	}
	return escape
}

// failing begins the lines that say why a call failed; frame is a line of a WebAssembly stack, without names.
var (
	failing = regexp.MustCompile(`^(0x[0-9a-f]{40})\.[^ ]+: `)
	frame   = regexp.MustCompile(`^\s*\.\$(\d+)\(`)
)

// NameFrames puts the names of functions into the stacks of a trace. A stack belongs to the contract of the last line before it
// that says why a call failed; names returns those of the contract at an address, by index.
func NameFrames(trace string, names func(address string) (map[uint32]string, error)) (string, error) {
	known := map[string]map[uint32]string{}
	var current map[uint32]string
	var out strings.Builder
	for line := range strings.Lines(trace) {
		if m := failing.FindStringSubmatch(line); m != nil {
			if _, ok := known[m[1]]; !ok {
				of, err := names(m[1])
				if err != nil {
					return "", err
				}
				known[m[1]] = of
			}
			current = known[m[1]]
		}
		out.WriteString(nameFrame(line, current))
	}
	return out.String(), nil
}

// nameFrame puts a function's name into a line of a stack.
func nameFrame(line string, names map[uint32]string) string {
	m := frame.FindStringSubmatch(line)
	if m == nil {
		return line
	}
	index, err := strconv.ParseUint(m[1], 10, 32)
	name := names[uint32(index)]
	if err != nil || name == "" {
		return line
	}
	return "\t" + name + line[len(m[0])-1:]
}
