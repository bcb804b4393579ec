package contract

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/fondaco/fondaco/state/ledger"
	"github.com/fondaco/fondaco/wasmvm"
)

// Report describes a module. It is made without running it.
type Report struct {
	Size     int               `json:"size"`
	SHA256   string            `json:"sha256"`
	Language string            `json:"language,omitempty"`
	Compiler string            `json:"compiler,omitempty"`
	SDK      string            `json:"sdk,omitempty"`
	Source   string            `json:"source,omitempty"` // SHA-256 over the sources
	Schema   *ledger.Schema    `json:"schema,omitempty"`
	Exports  []string          `json:"exports"`
	Imports  []string          `json:"imports"`
	Sections []ReportSection   `json:"sections"`
	Limits   []wasmvm.LimitUse `json:"limits,omitempty"`    // of admission, and how much of each is used; none: not a contract's module
	Gas      ledger.Gas        `json:"start_gas,omitempty"` // that a call costs before the method runs, if the caller of Inspect knows it
}

// ReportSection is one section of a module.
type ReportSection struct {
	Name  string `json:"name"`
	Bytes int    `json:"bytes"`
}

// Inspect reads what a module says of itself. A module without a schema is reported without one; a schema
// that is malformed is an error. names, if not nil, is the content of its name section (see Built.Names), by which limits name functions.
func Inspect(code, names []byte) (*Report, error) {
	sections, err := splitModule(code)
	if err != nil {
		return nil, fmt.Errorf("inspect a module: %w", err)
	}
	digest := sha256.Sum256(code)
	r := &Report{Size: len(code), SHA256: hex.EncodeToString(digest[:]), Exports: []string{}, Imports: []string{}}
	for _, s := range sections {
		name := "section " + fmt.Sprint(s.id)
		if int(s.id) < len(sectionNames) {
			name = sectionNames[s.id]
		}
		w := wasmReader{data: s.body}
		switch name {
		case "custom":
			name = "custom " + w.name()
		case "import":
			for n := w.uint(); n > 0 && !w.bad; n-- {
				r.Imports = append(r.Imports, w.name()+"."+w.name())
				w.importType()
			}
		case "export":
			for n := w.uint(); n > 0 && !w.bad; n-- {
				r.Exports = append(r.Exports, w.name())
				w.take(1)
				w.uint()
			}
		}
		if w.bad {
			return nil, fmt.Errorf("inspect a module: %w: the %s section is malformed", errModule, name)
		}
		r.Sections = append(r.Sections, ReportSection{name, len(s.body)})
	}
	slices.Sort(r.Exports)
	slices.Sort(r.Imports)
	if a, err := analyze(code, names); err == nil {
		r.Limits = a.Limits
	}
	section, err := ledger.ModuleSection(code, ledger.SchemaSection)
	if err == nil && section != nil {
		r.Schema, err = ledger.DecodeSchema(section)
	}
	if err != nil {
		return nil, fmt.Errorf("inspect a module: %w", err)
	}
	section, err = ledger.ModuleSection(code, ledger.BuildSection)
	if err == nil && section != nil {
		var b ledger.Build
		if err = ledger.Unmarshal(section, &b); err == nil {
			r.Language, r.Compiler, r.SDK, r.Source = b.Language, b.Compiler, b.SDK, hex.EncodeToString(b.Source[:])
		}
	}
	if err != nil {
		return nil, fmt.Errorf("inspect a module: %w", err)
	}
	return r, nil
}

var sectionNames = [...]string{"custom", "type", "import", "function", "table", "memory", "global", "export", "start", "element", "code", "data", "data count"}

// Text returns the report for people, a few lines for each part.
func (r *Report) Text() string {
	var b strings.Builder
	line := func(name, format string, args ...any) { describe(&b, name, format, args...) }
	line("size", "%s", kilobytes(r.Size))
	line("sha256", "%s", r.SHA256)
	if r.Language != "" {
		line("built", "%s, %s, SDK %s", r.Language, r.Compiler, r.SDK)
		line("source", "%s", r.Source)
	}
	if r.Schema != nil {
		b.WriteString(Describe(r.Schema))
	} else {
		line("schema", "none: arguments and results of this module can only be given and shown as CBOR")
		line("exports", "%s", strings.Join(r.Exports, " "))
	}
	line("imports", "%d: %s", len(r.Imports), strings.Join(r.Imports, " "))
	for _, s := range r.Sections {
		if s.Bytes >= 1<<10 {
			line("section", "%s %s", s.Name, kilobytes(s.Bytes))
		}
	}
	if r.Gas > 0 {
		line("start", "%d gas before a method runs", r.Gas)
	}
	for _, u := range r.Limits {
		line("limit", "%s", strings.TrimRight(fmt.Sprintf("%d of %d %s (%d %%) %s", u.Value, u.Limit, u.Name, u.Value*100/u.Limit, u.Function), " "))
	}
	return b.String()
}

// Describe returns what a schema says for people, a line for each method, type, event, error and name of state.
func Describe(s *ledger.Schema) string {
	var b strings.Builder
	line := func(name, format string, args ...any) { describe(&b, name, format, args...) }
	line("contract", "%s %s (profile %s)", s.Name, s.Version, s.Profile)
	if s.Doc != "" {
		line("", "%s", s.Doc)
	}
	for i := range s.Methods {
		m := &s.Methods[i]
		line(string(m.Kind), "%s", m.Signature())
	}
	for _, t := range s.Types {
		if len(t.Variants) == 0 {
			line("struct", "%s{%s}", t.Name, fieldList(t.Fields))
			continue
		}
		names := make([]string, len(t.Variants))
		for i, v := range t.Variants {
			names[i] = v.Name
		}
		line("enum", "%s: %s", t.Name, strings.Join(names, ", "))
	}
	for _, e := range s.Events {
		line("event", "%s{%s}", e.Topic, fieldList(e.Fields))
	}
	for _, e := range s.Errors {
		line("error", "%d %s{%s}", e.Code, e.Name, fieldList(e.Fields))
	}
	for _, e := range s.State {
		parts := make([]string, len(e.Key))
		for i, k := range e.Key {
			parts[i] = "{" + string(k) + "}"
		}
		line("state", "%s%s = %s", e.Prefix, strings.Join(parts, ""), e.Value)
	}
	return b.String()
}

func describe(b *strings.Builder, name, format string, args ...any) {
	fmt.Fprintf(b, "%-10s "+format+"\n", append([]any{name}, args...)...)
}

func fieldList(fields []ledger.Field) string {
	parts := make([]string, len(fields))
	for i, f := range fields {
		parts[i] = f.Name + " " + string(f.Type)
	}
	return strings.Join(parts, ", ")
}

func kilobytes(n int) string { return fmt.Sprintf("%d KiB", (n+1023)/1024) }

// wasmReader takes values off a section's body.
type wasmReader struct {
	data []byte
	bad  bool
}

func (r *wasmReader) take(n uint64) []byte {
	if r.bad || n > uint64(len(r.data)) {
		r.bad, r.data = true, nil
		return nil
	}
	out := r.data[:n]
	r.data = r.data[n:]
	return out
}

// uint reads a number of at most 32 bits.
func (r *wasmReader) uint() uint64 {
	v, n := binary.Uvarint(r.data)
	if n <= 0 || v > 1<<32-1 {
		r.bad, r.data = true, nil
		return 0
	}
	r.data = r.data[n:]
	return v
}

func (r *wasmReader) name() string { return string(r.take(r.uint())) }

// importType reads over what an import is (§5.5.5).
func (r *wasmReader) importType() {
	kind := r.take(1)
	if kind == nil {
		return
	}
	switch kind[0] {
	case 0: // function: a type's number
		r.uint()
	case 1: // table: element type and limits
		r.take(1)
		r.limits()
	case 2: // memory
		r.limits()
	case 3: // global: type and mutability
		r.take(2)
	default:
		r.bad = true
	}
}

func (r *wasmReader) limits() {
	flags := r.take(1)
	r.uint()
	if flags != nil && flags[0]&1 != 0 {
		r.uint()
	}
}
