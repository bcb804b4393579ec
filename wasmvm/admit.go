package wasmvm

import (
	"fmt"
	"slices"
	"strings"

	"github.com/fondaco/fondaco/state/ledger"
)

// admit decodes, validates and rewrites a module.
func (v *VM) admit(code []byte) (*rewritten, *Info, error) {
	m, err := decodeModule(code, v.config.MemoryPages)
	if err != nil {
		return nil, nil, named(m, err)
	}
	info := &Info{Size: len(code)}
	if err := m.describe(info); err != nil {
		return nil, nil, err
	}
	strict := info.Profile == profileStrict
	if strict {
		if err := m.strict(len(code)); err != nil {
			return nil, nil, err
		}
	}
	w, err := rewrite(m, v.costs, strict)
	if err != nil {
		return nil, nil, err
	}
	info.Weight, info.Rewrote = w.weight, len(w.code)
	return w, info, nil
}

// strict checks what the strict profile forbids outside of functions.
func (m *module) strict(size int) error {
	if size > MaxModuleStrict {
		return &ModuleError{Offset: MaxModuleStrict, Reason: "bytes of a module of the strict profile", Value: uint64(size), Limit: MaxModuleStrict}
	}
	if n := len(m.segments); n > MaxSegmentsStrict {
		return &ModuleError{Offset: m.segments[MaxSegmentsStrict].offset, Reason: "data segments of a module of the strict profile", Value: uint64(n), Limit: MaxSegmentsStrict}
	}
	for _, s := range m.segments {
		if s.passive {
			return &ModuleError{Offset: s.offset, Reason: "a passive data segment: the strict profile has none, declare the profile std in the schema"}
		}
	}
	return nil
}

// Names of the profiles, as the schema has them.
const (
	profileStrict = "strict"
	profileStd    = "std"
)

// Names of exports with a meaning.
const (
	memoryExport = "memory"
	initializer  = "_initialize"
	marker       = "fondaco_abi_1"
	markerPrefix = "fondaco_abi_"
)

// describe checks a module's imports, exports and schema against the ABI.
func (m *module) describe(info *Info) error {
	refuse := func(offset int, format string, args ...any) error {
		return &ModuleError{Offset: offset, Reason: fmt.Sprintf(format, args...)}
	}
	exported := m.starts[sectionExport]
	info.Profile = profileStrict
	usesWASI, usesRand := false, false
	for _, i := range m.imports {
		want, ok := signature(i.module, i.name)
		switch {
		case !ok && i.module != abiModule && i.module != wasiModule:
			return refuse(i.offset, "import %s.%s: only %s, and with the profile std the ten functions of %s that Go uses, can be imported", i.module, i.name, abiModule, wasiModule)
		case !ok:
			return refuse(i.offset, "import %s.%s: no such function", i.module, i.name)
		case !want.equal(&m.types[i.typ]):
			return refuse(i.offset, "import %s.%s has the type %v, want %v", i.module, i.name, &m.types[i.typ], want)
		}
		usesWASI = usesWASI || i.module == wasiModule
		usesRand = usesRand || i.module == abiModule && i.name == "rand"
	}
	if usesWASI {
		info.Profile = profileStd
	}
	memory, marked := false, false
	for _, e := range m.exports {
		if e.name == memoryExport {
			memory = e.kind == kindMemory
		}
		if strings.HasPrefix(e.name, markerPrefix) {
			if e.name != marker {
				return refuse(e.offset, "export %s: this chain offers %s", e.name, marker)
			}
			marked = true
		}
		if e.kind != kindFunc {
			continue
		}
		t := m.typeOf(e.index)
		if e.name == initializer && len(t.params)+len(t.results) > 0 {
			return refuse(e.offset, "%s has the type %v, want () -> ()", initializer, t)
		}
		if methodName(e.name) && len(t.params) == 0 && len(t.results) == 1 && t.results[0] == typeI32 {
			info.Methods = append(info.Methods, e.name)
		}
	}
	if !memory {
		return refuse(exported, "no memory is exported as %q", memoryExport)
	}
	if !marked {
		return refuse(exported, "no function is exported as %q: build the contract with an SDK, or say so yourself that it follows this ABI", marker)
	}
	if m.schema == nil {
		return nil
	}
	schema, err := ledger.DecodeSchema(m.schema)
	if err != nil {
		return refuse(m.starts[sectionCustom], "section %s: %v", schemaSection, err)
	}
	info.Schema, info.Section = schema, m.schema
	if usesWASI && schema.Profile != profileStd {
		return refuse(m.starts[sectionCustom], "the schema says profile %s, and the module imports WASI: declare the profile std", schema.Profile)
	}
	info.Profile = schema.Profile
	if usesRand && !schema.Random {
		return refuse(m.starts[sectionCustom], "the module imports rand, and the schema does not say random")
	}
	for _, method := range schema.Methods {
		if !slices.Contains(info.Methods, method.Name) {
			return refuse(m.starts[sectionCustom], "method %s of the schema is not exported as a function () -> (i32)", method.Name)
		}
	}
	return nil
}

// methodName reports whether a name can be that of a method.
func methodName(s string) bool {
	if s == "" || len(s) > ledger.MaxMethodLength || s[0] == '_' || strings.HasPrefix(s, markerPrefix) || s == memoryExport {
		return false
	}
	for _, c := range []byte(s) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '.' || c == '-') {
			return false
		}
	}
	return true
}
