package contract

import (
	"errors"
	"maps"
	"testing"
)

func TestFunctionNames(t *testing.T) {
	section := []byte{
		0, 2, 1, 'm', // the module's name
		1, 9, 2, 0, 2, 'g', 'o', 7, 2, 'o', 'n', // functions 0 and 7
		2, 1, 0, // locals, none
	}
	names, err := FunctionNames(section)
	if want := map[uint32]string{0: "go", 7: "on"}; err != nil || !maps.Equal(names, want) {
		t.Errorf("got %v, %v, want %v", names, err, want)
	}
	if names, err := FunctionNames(nil); err != nil || len(names) != 0 {
		t.Errorf("no section gives %v, %v", names, err)
	}
	for _, n := range []int{1, 3, 5, 6, 9, 14} {
		if _, err := FunctionNames(section[:n]); !errors.Is(err, ErrNames) {
			t.Errorf("the first %d bytes give %v", n, err)
		}
	}
}

func TestNameFrames(t *testing.T) {
	const address = "0x00000000000000000000000000000000000000aa"
	names := func(of string) (map[uint32]string, error) {
		if of != address {
			return nil, nil
		}
		return map[uint32]string{7: "charge", 12: "transfer"}, nil
	}
	for line, want := range map[string]string{
		"\t.$7()\n":                    "\tcharge()\n",
		"\t.$12(i32,i64) i32\n":        "\ttransfer(i32,i64) i32\n",
		"\t.$8()\n":                    "\t.$8()\n",
		"\tfondaco_v1.set(i32,i32)\n":  "\tfondaco_v1.set(i32,i32)\n",
		"\t.$99999999999999999999()\n": "\t.$99999999999999999999()\n",
		"say \".$7()\"\n":              "say \".$7()\"\n",
		"0x00000000000000000000000000000000000000bb.pay: aborted (code 7): \n\t.$7()\n": "0x00000000000000000000000000000000000000bb.pay: aborted (code 7): \n\t.$7()\n",
	} {
		begin := address + ".pay: trapped (code 0): wasm error\n"
		if got, err := NameFrames(begin+line, names); err != nil || got != begin+want {
			t.Errorf("%q becomes %q, %v, want %q", line, got, err, want)
		}
	}
	if got, err := NameFrames("\t.$7()\n", names); err != nil || got != "\t.$7()\n" {
		t.Errorf("without a call the frame becomes %q, %v", got, err)
	}
}

func TestDemangled(t *testing.T) {
	for name, want := range map[string]string{
		"_ZN7fondaco4cbor7Decoder4head17hd6d6ab716ed172efE":                                                       "fondaco::cbor::Decoder::head",
		"_ZN72_$LT$fondaco..heap..Heap$u20$as$u20$core..alloc..global..GlobalAlloc$GT$5alloc17h15589fadd411cdf4E": "<fondaco::heap::Heap as core::alloc::global::GlobalAlloc>::alloc",
		"_ZN7fondaco7runtime5begin28_$u7b$$u7b$closure$u7d$$u7d$17h67c2404982551ae1E":                             "fondaco::runtime::begin::{{closure}}",
		"_ZN4core3ops8function6FnOnce9call_once17h8c21c56fd1e61b3bE.llvm.4784807839711558818":                     "core::ops::function::FnOnce::call_once",
		"_ZN9wikipedia7article8print_toE":                                                                         "_ZN9wikipedia7article8print_toE",
		"_ZN99short17hd6d6ab716ed172efE":                                                                          "_ZN99short17hd6d6ab716ed172efE",
		"pay":                                                                                                     "pay",
	} {
		if got := demangled(name); got != want {
			t.Errorf("%s becomes %s, want %s", name, got, want)
		}
	}
}
