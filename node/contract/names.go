package contract

import "fmt"

// maxNames bounds what is read of a name section.
const maxNames = 100_000

// FunctionNames returns the names of functions by index, imports included, that a name section holds (WebAssembly core
// specification, appendix 7.4.1): none for no section, and an error for one that ends early.
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
				names[uint32(index)] = name
			}
		}
		if sub.bad {
			return nil, fmt.Errorf("%w: the name section ends within a name", ErrNames)
		}
	}
	return names, nil
}
