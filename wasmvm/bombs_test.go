package wasmvm

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fondaco/fondaco/state/ledger"
)

// bomb is a module that is made to do harm.
type bomb struct {
	name, why string
	code      func() []byte
	refused   string // part of the refusal, which is the same on every node; empty: it is admitted, and its method run is called
	args      []byte
	status    ledger.Status
	denied    uint32
	gas       ledger.Gas // limit, 0: bombGas
}

// bombGas is what most bombs are called with. It is enough for them to reach what they are for.
const bombGas = 5_000_000

// storm is a module whose method run repeats words for ever; %d are the numbers of the imports.
func storm(setup, words string, imports ...string) func() []byte {
	return func() []byte {
		a := newAssembler()
		a.memory = []uint32{4}
		a.data = map[uint32]string{0: "key", 16: "\x82\x01\x02"}
		var numbers []any
		for _, name := range imports {
			numbers = append(numbers, a.use(name))
		}
		if len(numbers) > 0 {
			words = fmt.Sprintf(words, numbers...)
		}
		return a.fn("run", ":i", "iil", setup+" loop _ "+words+" br 0 end i32.const 0").build()
	}
}

// once is storm without the repetition.
func once(words string, imports ...string) func() []byte {
	return func() []byte {
		a := newAssembler()
		a.memory = []uint32{4}
		var numbers []any
		for _, name := range imports {
			numbers = append(numbers, a.use(name))
		}
		return a.fn("run", ":i", "iil", fmt.Sprintf(words, numbers...)+" i32.const 0").build()
	}
}

// answers is a module that gives bytes as its output.
func answers(data string) func() []byte {
	return func() []byte {
		a := newAssembler()
		a.data = map[uint32]string{0: data}
		return a.fn("run", ":i", "", fmt.Sprintf("i32.const 0 i32.const %d call %d i32.const 0", len(data), a.use("output"))).build()
	}
}

// stdFunctions is a module of the profile std with n functions.
func stdFunctions(n int, locals, body string) func() []byte {
	return func() []byte {
		a := newAssembler()
		a.use("sched_yield")
		for range n {
			a.fn("", ":", locals, body)
		}
		return a.fn("run", ":i", "", "i32.const 0").build()
	}
}

// raw is a module of sections.
func raw(sections ...[]byte) func() []byte {
	return func() []byte { return append([]byte("\x00asm\x01\x00\x00\x00"), slices.Concat(sections...)...) }
}

// bombs is the corpus.
func bombs() []bomb {
	repeat := strings.Repeat
	every := func(n int) string { // uses all locals
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "local.get %d i32.const 1 i32.add local.set %d ", i, i)
		}
		return b.String()
	}
	initializes := func(words string, imports ...string) func() []byte {
		return func() []byte {
			a := newAssembler()
			var numbers []any
			for _, name := range imports {
				numbers = append(numbers, a.use(name))
			}
			return a.fn(initializer, ":", "", fmt.Sprintf(words, numbers...)).fn("run", ":i", "", "i32.const 0").build()
		}
	}
	deep := func(n int) string { return repeat("\x81", n) + "\x00" }
	wide := func() []byte { // frames of thousands of words in the compiler, of a few in the interpreter
		a := newAssembler()
		a.globals = []byte("i")
		a.fn("", "i:i", "", "local.get 0 if _ local.get 0 i32.const 1 i32.sub call 0 drop end block _ local.get 0 br_if 0 "+repeat("call 1 call 2 "+repeat("i32.add ", 15)+"global.set 0 ", 2500)+"end local.get 0")
		a.fn("", ":"+repeat("i", 16), "", repeat("i32.const 1 ", 16)).fn("", ":", "", "")
		return a.fn("run", ":i", "", "i32.const 995 call 0").build()
	}
	schema := func(section string) func() []byte {
		return func() []byte {
			a := newAssembler()
			a.schema = []byte(section)
			return a.fn("run", ":i", "", "i32.const 0").build()
		}
	}
	return []bomb{
		// What takes a compiler long.
		{name: "ifs and locals", why: "4,000 ifs with 250 live locals", code: stdFunctions(1, repeat("i", 250), every(250)+repeat("local.get 0 if _ local.get 0 local.set 1 else local.get 1 local.set 2 end ", 4000)), refused: "locals × blocks of a function"},
		{name: "nested loops and locals", why: "10 KB of loops in loops took 135 s", code: stdFunctions(1, repeat("i", 250), repeat("loop _ ", 500)+repeat("end ", 500)), refused: "17 nested loops"},
		{name: "branches out of one block", why: "20 KB: each branch carries every local to the same place", code: stdFunctions(1, repeat("i", 250), "block _ "+every(250)+repeat("local.get 0 br_if 0 ", 5000)+every(250)+"end "+every(250)), refused: "4097 blocks and branches of a function"},
		{name: "branches below the limit of one function", why: "the same, spread over functions", code: stdFunctions(40, repeat("i", 60), "block _ "+every(60)+repeat("local.get 0 br_if 0 ", 1050)+every(60)+"end "+every(60)), refused: "branches to a label)², summed over functions"},
		{name: "growth and locals", why: "the metering of memory.grow has branches that the module does not show", code: stdFunctions(1, repeat("i", 250), every(250)+"i32.const 0 "+repeat("memory.grow ", 30_000)+"drop "+every(250)), refused: "4097 blocks and branches of a function"},
		{name: "conversions and locals", why: "so has the rewrite of an unsigned conversion", code: stdFunctions(1, repeat("l", 250), repeat("local.get 0 f64.convert_i64_u drop ", 20_000)), refused: "4097 blocks and branches of a function"},
		{name: "tables of branches", why: "ten tables of 4,000 entries to two places", code: stdFunctions(1, repeat("i", 250), "block _ "+every(250)+repeat("block _ local.get 0 br_table 4000 "+repeat("1 0 ", 2000)+"0 end ", 10)+every(250)+"end "+every(250)), refused: "branches to a label)², summed over functions"},
		{name: "a long table of branches", why: "5,000 targets", code: stdFunctions(1, "", "i32.const 0 br_table 5000 "+repeat("0 ", 5001)), refused: "5000 targets of a br_table"},
		{name: "loops after loops", why: "a compiler's time grows with the square of the blocks", code: stdFunctions(5, "i", repeat("loop _ local.get 0 br_if 0 end ", 1360)), refused: "summed over functions"},
		{name: "roots", why: "each byte becomes 18 of metering", code: stdFunctions(34, "d", "local.get 0 "+repeat("f64.sqrt ", 120_000)+"drop"), refused: "bytes of code with its metering"},
		{name: "blocks in blocks", why: "2,000 deep", code: stdFunctions(1, "", repeat("block _ ", 2000)+repeat("end ", 2000)), refused: "1025 nested blocks"},
		{name: "many functions", why: "20,001 of them", code: stdFunctions(20_001, "", ""), refused: "functions at offset"},
		{name: "many segments", why: "70,000 empty data segments", code: func() []byte { return segments(stdFunctions(1, "", "")(), 70_000, false) }, refused: "70000 data segments"},

		// What lies about its size.
		{name: "a section of 4 GB", why: "a length that no module has", code: raw([]byte{sectionType, 0xff, 0xff, 0xff, 0xff, 0x0f}), refused: "bytes announced"},
		{name: "four thousand million types", why: "a count that would be allocated", code: raw(section(sectionType, []byte{0xff, 0xff, 0xff, 0xff, 0x0f})), refused: "4294967295 types"},
		{name: "types that are not there", why: "a count within the limit, in three bytes", code: raw(section(sectionType, []byte{0xe8, 0x07, 0x60})), refused: "1000 types announced"},
		{name: "locals by the thousand million", why: "four bytes declare them", code: raw(section(sectionType, []byte{1, 0x60, 0, 0}), section(sectionFunction, []byte{1, 0}), section(sectionCode, append([]byte{1, 10, 1}, 0xff, 0xff, 0xff, 0xff, 0x0f, typeI64, opEnd, 0, 0))), refused: "4294967295 parameters and locals"},
		{name: "a number without end", why: "LEB128 of eleven bytes", code: raw(append([]byte{sectionType}, bytes.Repeat([]byte{0x80}, 10)...), []byte{0}), refused: "a number does not fit 32 bits"},
		{name: "an overlong number", why: "five bytes with bits beyond the 32nd", code: raw([]byte{sectionType, 0x80, 0x80, 0x80, 0x80, 0x7f}), refused: "a number does not fit 32 bits"},
		{name: "data beyond memory", why: "a segment at the last byte of 4 GB", code: func() []byte {
			return append(stdFunctions(1, "", "")(), section(sectionData, []byte{1, 0, opI32Const, 0x7f, opEnd, 1, 'x'})...)
		}, refused: "a data segment goes to byte 4294967296"},
		{name: "a table of 4 GB", why: "entries cost nothing to declare", code: raw(section(sectionTable, []byte{1, typeFunc, 0, 0xff, 0xff, 0xff, 0xff, 0x0f})), refused: "4294967295 table entries"},
		{name: "a memory of 4 GB", why: "so do pages", code: raw(section(sectionMemory, []byte{1, 0, 0x80, 0x80, 0x04})), refused: "65536 initial pages"},
		{name: "a name of 2 MB", why: "the refusal must not repeat it", code: func() []byte {
			name := append([]byte("\x04name\x01\x84\x80\x80\x01\x01\x00\x80\x80\x80\x01"), bytes.Repeat([]byte{'x'}, 2<<20)...)
			return append(stdFunctions(1, "", repeat("block _ ", 2000)+repeat("end ", 2000))(), section(sectionCustom, name)...)
		}, refused: "1025 nested blocks"},

		// What goes round the rules.
		{name: "its own gas", why: "an export under the name of the gas counter", code: func() []byte { return newAssembler().fn(gasExport, ":i", "", "i32.const 0").build() }, refused: "is reserved"},
		{name: "a global of the metering", why: "it sets a global that it has not: the rewriter's counter", code: func() []byte { return method("", "i64.const 0x7fffffff global.set 0 i32.const 0") }, refused: "no global has the number 0"},
		{name: "a start function", why: "it would run before anything is metered", code: raw(section(sectionType, []byte{1, 0x60, 0, 0}), section(sectionFunction, []byte{1, 0}), section(sectionStart, []byte{0})), refused: "a start function is not allowed"},
		{name: "an import of memory", why: "it would be shared", code: raw(section(sectionImport, []byte("\x01\x01a\x01b\x02\x00\x01"))), refused: "cannot be imported"},
		{name: "_initialize without end", why: "it runs on every node before anybody pays", code: initializes("loop _ br 0 end"), refused: "after 20000000 of 20000000 gas"},
		{name: "_initialize recurses", why: "the same, deeper", code: initializes("call 0"), refused: "_initialize ended with"},
		{name: "_initialize writes state", why: "what it leaves depends on the module alone", code: initializes("i32.const 0 i32.const 1 i32.const 0 i32.const 1 call %d", "set"), refused: "_initialize must not call set"},
		{name: "_initialize calls", why: "likewise", code: initializes("i32.const 0 i32.const 0 i32.const 0 i32.const 0 i32.const 0 i32.const 0 i64.const 0 i32.const 0 call %d drop", "call"), refused: "_initialize must not call call"},
		{name: "_initialize takes memory", why: "every instance would begin with it", code: initializes("i32.const 100 memory.grow drop"), status: ledger.OK},
		{name: "a schema of brackets", why: "CBOR nested 10,000 deep", code: schema(deep(10_000)), refused: "section fondaco.schema"},
		{name: "a schema of promises", why: "an array that announces 2^64-1 elements", code: schema("\x9b\xff\xff\xff\xff\xff\xff\xff\xff"), refused: "section fondaco.schema"},

		// What does not end.
		{name: "a loop", why: "the shortest bomb", code: storm("", ""), status: ledger.OutOfGas},
		{name: "a loop through a table of branches", why: "its back edge is an entry", code: once("loop _ i32.const 1 br_table 2 0 0 0 end"), status: ledger.OutOfGas},
		{name: "loops in loops", why: "sixteen deep, the innermost goes to the outermost", code: once(repeat("loop _ ", 16) + "br 15 " + repeat("end ", 16)), status: ledger.OutOfGas},
		{name: "recursion", why: "the interpreter allows 2,000 frames, the compiler 400 MB", code: func() []byte { return newAssembler().fn("run", ":i", "", "call 0").build() }, status: ledger.OutOfDepth},
		{name: "recursion through the table", why: "nobody sees it in the code", code: func() []byte {
			a := newAssembler()
			a.table = []uint32{0}
			return a.fn("run", ":i", "", "i32.const 0 call_indirect :i").build()
		}, status: ledger.OutOfDepth},
		{name: "mutual recursion with locals", why: "wide frames by 250 locals", code: func() []byte {
			return newAssembler().fn("run", ":i", repeat("l", 250), "call 1").fn("", ":i", repeat("l", 250), "call 0").build()
		}, status: ledger.OutOfDepth},
		{name: "recursion with frames of thousands of values", why: "overflowed the compiler's stack at a depth that the interpreter takes", code: wide, status: ledger.OutOfGas},
		{name: "a tree of calls", why: "2^30 of them, never deep", code: func() []byte {
			return newAssembler().fn("run", ":i", "", "i32.const 30 call 1 i32.const 0").fn("", "i:", "", "local.get 0 if _ local.get 0 i32.const 1 i32.sub call 1 local.get 0 i32.const 1 i32.sub call 1 end").build()
		}, status: ledger.OutOfGas},
		{name: "a call through a table of another type", why: "engines check it in their own ways", code: func() []byte {
			a := newAssembler()
			a.table = []uint32{0}
			return a.fn("run", ":i", "", "i64.const 0 i32.const 0 call_indirect l:i").build()
		}, status: ledger.Trapped},
		{name: "forty thousand operands", why: "a stack of values in one function", code: once(repeat("i32.const 1 ", 40_000) + repeat("i32.add ", 39_999) + "drop"), status: ledger.OK},

		// What takes memory.
		{name: "memory, page by page", why: "each growth copies what there is", code: storm("", "i32.const 1 memory.grow drop"), status: ledger.OutOfGas},
		{name: "all memory at once", why: "65,535 pages", code: once("i32.const 65535 memory.grow drop"), status: ledger.OutOfGas},
		{name: "memory to its maximum, then a trap", why: "the instance must not be kept", code: once("i32.const 500 memory.grow i32.const -1 i32.eq if _ unreachable end i32.const 33030143 i32.const 7 i32.store8 0 unreachable"), status: ledger.Trapped, gas: 100_000_000},
		{name: "a growth beyond the maximum, then a trap", why: "out of memory, says the receipt", code: once("i32.const 510 memory.grow drop unreachable"), status: ledger.OutOfMemory, gas: 100_000_000},
		{name: "fills", why: "256 KB with three instructions", code: storm("", "i32.const 0 i32.const 1 i32.const 0x40000 memory.fill"), status: ledger.OutOfGas},
		{name: "copies that overlap", why: "the slow direction", code: storm("", "i32.const 1 i32.const 0 i32.const 0x3ffff memory.copy"), status: ledger.OutOfGas},
		{name: "a fill of 4 GB", why: "pays before it traps", code: once("i32.const 0 i32.const 1 i32.const -1 memory.fill"), status: ledger.OutOfGas},
		{name: "initialisations", why: "memory.init of a passive segment", code: func() []byte {
			a := newAssembler()
			a.use("sched_yield")
			a.passive = []string{repeat("x", 60_000)}
			return a.fn("run", ":i", "", "loop _ i32.const 0 i32.const 0 i32.const 60000 memory.init 0 br 0 end i32.const 0").build()
		}, status: ledger.OutOfGas},

		// What storms the host.
		{name: "traps after writes", why: "each must be undone", code: once("i32.const 0 i32.const 3 i32.const 0 i32.const 0x20000 call %d unreachable", "set"), status: ledger.Trapped, gas: 100_000_000},
		{name: "a division by zero behind work", why: "the gas at a trap is equal, too", code: once("i32.const 1000 local.set 0 loop _ local.get 0 i32.const 1 i32.sub local.tee 0 br_if 0 end i32.const 1 local.get 0 i32.div_s drop"), status: ledger.Trapped},
		{name: "events", why: "the 65th is denied", code: storm("", "i32.const 0 i32.const 3 i32.const 16 i32.const 3 call %d", "emit"), status: ledger.Denied, denied: DeniedEvent},
		{name: "an event of 64 KB", why: "topic and data together are more", code: once("i32.const 0 i32.const 3 i32.const 16 i32.const 0xffff call %d", "emit"), status: ledger.Denied, denied: DeniedEvent},
		{name: "logs", why: "text is free of consensus and not of gas", code: storm("", "i32.const 3 i32.const 0 i32.const 0x40000 call %d", "log"), status: ledger.OutOfGas},
		{name: "short logs", why: "one byte each", code: storm("", "i32.const 3 i32.const 0 i32.const 1 call %d", "log"), status: ledger.OutOfGas},
		{name: "writes by vectors", why: "fd_write takes as many as it is told", code: once("i32.const 1 i32.const 0 i32.const -1 i32.const 0 call %d drop", "fd_write"), status: ledger.Trapped, gas: 100_000_000},
		{name: "waits", why: "poll_oneoff of 4,000 million subscriptions", code: once("i32.const 0 i32.const 0x20000 i32.const -1 i32.const 0 call %d drop", "poll_oneoff"), status: ledger.Trapped},
		{name: "sleeps", why: "time stands still, so it sleeps again", code: storm("", "i32.const 24 i64.const 1000 i64.store 0 i32.const 0 i32.const 0x20000 i32.const 1 i32.const 0x30000 call %d drop", "poll_oneoff"), status: ledger.Aborted},
		{name: "yields", why: "the scheduler has nobody else", code: storm("", "call %d drop", "sched_yield"), status: ledger.OutOfGas},
		{name: "random bytes", why: "256 KB at a time", code: storm("", "i32.const 0 i32.const 0x40000 call %d", "rand"), status: ledger.OutOfGas},
		{name: "random bytes by the gigabyte", why: "pays before it looks at memory", code: once("i32.const 0 i32.const -1 call %d", "rand"), status: ledger.OutOfGas},
		{name: "hashes", why: "of all memory", code: storm("", "i32.const 2 i32.const 0 i32.const 0x40000 i32.const 0 i32.const 32 call %d drop", "hash"), status: ledger.OutOfGas},
		{name: "hashes of nothing", why: "the fixed price", code: storm("", "i32.const 3 i32.const 0 i32.const 0 i32.const 64 i32.const 32 call %d drop", "hash"), status: ledger.OutOfGas},
		{name: "a hash of 4 GB", why: "pays before it looks at memory", code: once("i32.const 2 i32.const 0 i32.const -1 i32.const 0 i32.const 32 call %d drop", "hash"), status: ledger.OutOfGas},
		{name: "signatures", why: "each costs what checking a good one does", code: storm("", "i32.const 2 i32.const 0 i32.const 32 i32.const 0 i32.const 64 i32.const 0 i32.const 32 call %d drop", "verify"), status: ledger.OutOfGas},
		{name: "scans that stay open", why: "the ninth is denied", code: storm("", "i32.const 0 i32.const 0 i32.const 0 i32.const 0 i32.const 0 i32.const 1024 call %d drop", "scan"), status: ledger.Denied, denied: DeniedScan},
		{name: "scans of 1,024 keys, again and again", why: "the limit is paid, found or not", code: storm("", "i32.const 0 i32.const 0 i32.const 0 i32.const 0 i32.const 0 i32.const 1024 call %d call %d", "scan", "scan_close"), status: ledger.OutOfGas},
		{name: "a scan that was never opened", why: "a number from nowhere", code: once("i32.const -1 i32.const 0 i32.const 0 call %d drop", "scan_next"), status: ledger.Denied, denied: DeniedScan},
		{name: "writes of the largest value", why: "128 KB each, all kept until the end", code: storm("", "i32.const 0 local.get 0 i32.const 1 i32.add local.tee 0 i32.store 0 i32.const 0 i32.const 4 i32.const 0 i32.const 0x20000 call %d", "set"), status: ledger.OutOfGas},
		{name: "a value too large", why: "one byte more", code: once("i32.const 0 i32.const 4 i32.const 0 i32.const 0x20001 call %d", "set"), status: ledger.Denied, denied: DeniedValue},
		{name: "a key of 4 GB", why: "its length is looked at first", code: once("i32.const 0 i32.const -1 call %d drop", "has"), status: ledger.Denied, denied: DeniedKey},
		{name: "counters", why: "as many as gas pays for", code: storm("", "i32.const 0 local.get 0 i32.const 1 i32.add local.tee 0 i32.store 0 i32.const 0 i32.const 4 i64.const 1 i64.const -9223372036854775808 i64.const 9223372036854775807 call %d drop", "add"), status: ledger.OutOfGas},
		{name: "a counter over the edge", why: "the largest twice", code: once("i32.const 0 i32.const 1 i64.const 0x7fffffffffffffff i64.const 0 i64.const 0x7fffffffffffffff call %[1]d drop i32.const 0 i32.const 1 i64.const 0x7fffffffffffffff i64.const 0 i64.const 0x7fffffffffffffff call %[1]d i32.const -1 i32.ne if _ unreachable end", "add"), status: ledger.OK},
		{name: "reads of the result register", why: "a large value, over and over", code: storm("i32.const 0 i32.const 1 i32.const 0 i32.const 0x20000 call 0 i32.const 0 i32.const 1 i32.const 0 i32.const 0 call 1 drop", "i32.const 0 i32.const 0 i32.const 0x20000 call %[3]d drop call %[4]d drop", "set", "get", "result_read", "result_len"), status: ledger.OutOfGas},
		{name: "contexts", why: "a map is made for each", code: storm("", "i32.const 0 i32.const 0x10000 call %d drop", "ctx"), status: ledger.OutOfGas},
		{name: "attributes", why: "and a certificate read", code: storm("", "i32.const 1 i32.const 0 i32.const 64 call %d drop", "caller_attr"), status: ledger.OutOfGas},
		{name: "calls of itself", why: "16 deep, each with 63/64 of the gas", code: func() []byte {
			a := newAssembler()
			ctx, call := a.use("ctx"), a.use("call")
			a.data = map[uint32]string{600: "run"}
			// The map of ctx begins with self: its address is at 7.
			return a.fn("run", ":i", "", fmt.Sprintf("i32.const 0 i32.const 512 call %d drop loop _ i32.const 7 i32.const 20 i32.const 600 i32.const 3 i32.const 0 i32.const 0 i64.const 0 i32.const 2 call %d drop br 0 end i32.const 0", ctx, call)).build()
		}, status: ledger.OutOfGas},
		{name: "calls of nobody", why: "an address that holds nothing", code: storm("", "i32.const 1000 i32.const 20 i32.const 0 i32.const 3 i32.const 0 i32.const 0 i64.const 0 i32.const 0 call %d drop", "call"), status: ledger.OutOfGas},
		{name: "a name that is no text", why: "by name, with bytes that are not UTF-8", code: once("i32.const 0 i32.const -1 i32.store 0 i32.const 0 i32.const 4 i32.const 8 i32.const 1 i32.const 0 i32.const 0 i64.const 0 i32.const 4 call %d drop", "call"), status: ledger.Denied, denied: DeniedCall},
		{name: "a method that is no text", why: "in bytes that are not UTF-8, which no receipt may hold", code: once("i32.const 0 i32.const -1 i32.store 0 i32.const 8 i32.const 20 i32.const 0 i32.const 1 i32.const 0 i32.const 0 i64.const 0 i32.const 0 call %d drop", "call"), status: ledger.Denied, denied: DeniedCall},
		{name: "arguments of 4 GB", why: "for another contract", code: once("i32.const 0 i32.const 20 i32.const 0 i32.const 3 i32.const 0 i32.const -1 i64.const 0 i32.const 0 call %d drop", "call"), status: ledger.Denied, denied: DeniedInput},

		// What it says at the end.
		{name: "output of brackets", why: "CBOR nested 60,000 deep", code: answers(deep(60_000)), status: ledger.BadOutput},
		{name: "output of promises", why: "an array that announces 2^64-1 elements", code: answers("\x9b\xff\xff\xff\xff\xff\xff\xff\xff"), status: ledger.BadOutput},
		{name: "output of an unsorted map", why: "two orders would be two receipts", code: answers("\xa2\x02\x00\x01\x00"), status: ledger.BadOutput},
		{name: "output without end", why: "indefinite lengths", code: answers("\x9f" + repeat("\x00", 50_000)), status: ledger.BadOutput},
		{name: "output one byte too long", why: "128 KB and one", code: once("i32.const 0 i32.const -50331815 i32.store 0 i32.const 0 i32.const 0x20001 call %d", "output"), status: ledger.BadOutput},
		{name: "outputs", why: "only the last counts, all are paid", code: storm("", "i32.const 0 i32.const 0x20000 call %d", "output"), status: ledger.OutOfGas},
		{name: "an abort with all of memory", why: "data of 256 KB", code: once("i32.const 7 i32.const 0 i32.const 0x40000 call %d", "abort"), status: ledger.BadOutput, gas: 10_000_000},
		{name: "an abort with 4 GB", why: "pays before it looks at memory", code: once("i32.const 7 i32.const 0 i32.const -1 call %d", "abort"), status: ledger.OutOfGas},
		{name: "arguments of brackets", why: "CBOR nested 60,000 deep, given back", code: func() []byte {
			a := newAssembler()
			length, read, output := a.use("input_len"), a.use("input_read"), a.use("output")
			return a.fn("run", ":i", "", fmt.Sprintf("i32.const 0 i32.const 0 call %d call %d drop i32.const 0 call %d call %d i32.const 0", length, read, length, output)).build()
		}, args: []byte(deep(60_000)), status: ledger.BadOutput},
		{name: "reads of the arguments", why: "64 KB of them, for ever", code: storm("", "i32.const 0 i32.const 0 i32.const 0x10000 call %d drop", "input_read"), args: bytes.Repeat([]byte{0x80}, MaxInput), status: ledger.OutOfGas},
	}
}

// allocated runs f and returns how many bytes it allocated, freed ones included.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// cpu returns the processor time that f takes in this process: other programs do not count, the compiler's and the garbage
// collector's goroutines do.
func cpu(t *testing.T, f func()) time.Duration {
	t.Helper()
	used := func() time.Duration {
		var r syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
			t.Fatal(err)
		}
		return time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	before := used()
	f()
	return used() - before
}

// shortest returns the processor time that f takes, the least of three.
func shortest(t *testing.T, f func()) time.Duration {
	t.Helper()
	return min(cpu(t, f), cpu(t, f), cpu(t, f))
}

// TestBombs sets off each bomb in both engines: it is refused with the same words, or ends with the same outcome within its gas, has
// taken no more processor time and memory than its gas or size explain, and afterwards the VM serves a call as before. Times are
// measured by what harmless modules take in the same run, the least of three; not under the race detector.
func TestBombs(t *testing.T) {
	var machines [2]*VM
	var good [2]*Module
	var calling, compiling [2]time.Duration // a loop with bombGas, and a function at the limit of locals × blocks
	for i, e := range []Engine{Compiler, Interpreter} {
		v, err := New(t.Context(), Config{Engine: e, Wait: true})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { v.Close(t.Context()) })
		machines[i] = v
		if good[i], err = v.Compile(t.Context(), storm("", "local.get 0 i32.const 1 i32.add local.tee 0 i32.const 1000 i32.lt_u br_if 0 i32.const 5 return")()); err != nil {
			t.Fatal(err)
		}
		loop := mustCompile(t, v, storm("", "local.get 0 i32.const 1 i32.add local.set 0")())
		calling[i] = shortest(t, func() { _, err = loop.Call(t.Context(), newHost(), "run", nil, bombGas) })
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		compiling[i] = shortest(t, func() {
			n++ // another module each time
			mustCompile(t, v, newAssembler().fn("", ":", strings.Repeat("i", 120), strings.Repeat("local.get 0 if _ local.get 1 local.set 0 end ", 250)+fmt.Sprintf("i32.const %d drop", n)).fn("run", ":i", "", "i32.const 0").build())
		})
	}
	all := bombs()
	for _, b := range all {
		t.Run(b.name, func(t *testing.T) {
			code, limit := b.code(), cmp.Or(b.gas, bombGas)
			var outcomes [2]Outcome
			var refusals [2]error
			var hosts [2]*mapHost
			for i, v := range machines {
				var m *Module
				var n uint64
				took := cpu(t, func() { n = allocated(func() { m, refusals[i] = v.Compile(t.Context(), code) }) })
				if n > 96<<20+64*uint64(len(code)) {
					t.Errorf("admitting %d bytes allocates %d MB", len(code), n>>20)
				}
				most := 100*compiling[i] + 20*MaxInitGas/bombGas*(calling[0]+calling[1]) // _initialize runs in both
				if timed && took > most {
					t.Errorf("the %s takes %v to admit %d bytes, at most %v are expected", v.Engine(), took, len(code), most)
				}
				if refusals[i] == nil {
					if m.engine() != v.Engine() {
						t.Errorf("the %s serves, want the %s", m.engine(), v.Engine())
					}
					hosts[i] = bombHost(m, 0)
					var err error
					took := cpu(t, func() {
						n = allocated(func() { outcomes[i], err = m.Call(t.Context(), hosts[i], "run", b.args, limit) })
					})
					if n > 96<<20 {
						t.Errorf("a call with %d gas allocates %d MB", limit, n>>20)
					}
					most := time.Duration(20 * (1 + float64(outcomes[i].Gas)/bombGas) * float64(calling[i]))
					if timed && took > most { // garbage of those before may have been collected
						took = shortest(t, func() { _, err = m.Call(t.Context(), bombHost(m, 0), "run", b.args, limit) })
						if took > most {
							t.Errorf("%d gas take the %s %v, at most %v are expected", outcomes[i].Gas, v.Engine(), took, most)
						}
					}
					if err != nil {
						t.Fatal(err)
					}
					if outcomes[i].Gas > limit {
						t.Errorf("%d gas used of %d", outcomes[i].Gas, limit)
					}
					if n := len(outcomes[i].Trace); n > maxTrace {
						t.Errorf("a trace of %d bytes", n)
					}
					outcomes[i].Trace = ""
				}
				if o, err := good[i].Call(t.Context(), newHost(), "run", nil, bombGas); err != nil || o.Code != 5 {
					t.Errorf("afterwards %+v, %v, want code 5", o, err)
				}
			}
			if b.refused != "" {
				for i, err := range refusals {
					if err == nil || !strings.Contains(err.Error(), b.refused) || len(err.Error()) > 1000 || err.Error() != refusals[0].Error() && !strings.HasPrefix(b.refused, "_initialize") && !strings.HasPrefix(b.refused, "after") {
						t.Errorf("%s: %.300v, want refused: %s", machines[i].Engine(), err, b.refused)
					}
				}
				return
			}
			if refusals[0] != nil || refusals[1] != nil {
				t.Fatal(refusals)
			}
			if o := outcomes[0]; o.Status != b.status || (b.denied != 0 && o.Code != b.denied) {
				t.Errorf("%v %d, want %v %d", o.Status, o.Code, b.status, b.denied)
			}
			if !reflect.DeepEqual(outcomes[0], outcomes[1]) {
				t.Errorf("compiler: %+v\ninterpreter: %+v", outcomes[0], outcomes[1])
			}
			if !maps.EqualFunc(hosts[0].state, hosts[1].state, bytes.Equal) || !slices.Equal(hosts[0].events, hosts[1].events) || !slices.Equal(hosts[0].lines, hosts[1].lines) {
				t.Error("compiler and interpreter leave different states, events or logs")
			}
			size := 0
			for _, l := range hosts[0].lines {
				size += len(l)
			}
			if size > 3*MaxLogBytes { // what is not UTF-8 becomes three bytes
				t.Errorf("%d bytes of log", size)
			}
		})
	}
	t.Logf("%d bombs", len(all))
	if len(all) < 30 {
		t.Error("want at least 30 bombs")
	}
}

// bombHost is a host on which calls of other contracts reach m itself.
func bombHost(m *Module, depth int) *mapHost {
	h := newHost()
	h.calls = func(to ledger.Target, method string, args []byte, limit ledger.Gas, _ CallFlags) (Outcome, error) {
		if to.Address != h.context.Self {
			return Outcome{Status: ledger.NotFound}, nil
		}
		if depth == 16 {
			return Outcome{Status: ledger.OutOfDepth}, nil
		}
		return m.Call(context.Background(), bombHost(m, depth+1), method, args, limit)
	}
	return h
}

// TestBombFiles keeps the smaller bombs that are admitted as files, for tests of nodes. Run with -rewrite after a change.
func TestBombFiles(t *testing.T) {
	type entry struct {
		Name, Why string
		Code      []byte
	}
	var all []entry
	for _, b := range bombs() {
		if code := b.code(); b.refused == "" && b.args == nil && len(code) < 2000 {
			all = append(all, entry{Name: b.name, Why: b.why, Code: code})
		}
	}
	got, err := json.MarshalIndent(all, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("testdata", "bombs.json")
	if *rewriteGoldens {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not the corpus: go test -run BombFiles -rewrite", file)
	}
}
