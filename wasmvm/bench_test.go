package wasmvm

import (
	"bytes"
	"context"
	"testing"

	"github.com/fondaco/fondaco/state/ledger"
)

func BenchmarkCall(b *testing.B) {
	for _, e := range []Engine{Compiler, Interpreter} {
		b.Run("contract=go/engine="+string(e), func(b *testing.B) {
			v := newVM(b, e)
			m, err := v.Compile(context.Background(), buildGoToken(b))
			if err != nil {
				b.Fatal(err)
			}
			h := newHost()
			input := transferInput(1, 2, 0)
			b.ReportAllocs()
			for b.Loop() {
				h.events = h.events[:0]
				if o, err := m.Call(context.Background(), h, "transfer", input, 10_000_000); err != nil || o.Status != ledger.OK {
					b.Fatal(o, err)
				}
			}
		})
	}
}

func BenchmarkRestore(b *testing.B) {
	v := newVM(b, Compiler)
	m, err := v.Compile(context.Background(), buildGoToken(b))
	if err != nil {
		b.Fatal(err)
	}
	image := m.program.memory
	memory := bytes.Clone(image)
	dirty := func() {
		for i := range 15 {
			memory[i*150_000]++
		}
	}
	b.Run("copy", func(b *testing.B) {
		for b.Loop() {
			dirty()
			copy(memory, image)
		}
	})
	for _, page := range []int{256, 1024, 4096, 16384} {
		b.Run("compare", func(b *testing.B) {
			for b.Loop() {
				dirty()
				for i := 0; i < len(image); i += page {
					if !bytes.Equal(memory[i:i+page], image[i:i+page]) {
						copy(memory[i:i+page], image[i:i+page])
					}
				}
			}
		})
	}
	zero := make([]byte, 4096)
	var zeros []bool
	n := 0
	for i := 0; i < len(image); i += 4096 {
		z := bytes.Equal(image[i:i+4096], zero)
		if z {
			n++
		}
		zeros = append(zeros, z)
	}
	b.Logf("%d of %d pages are zero", n, len(zeros))
	b.Run("comparezero", func(b *testing.B) {
		for b.Loop() {
			dirty()
			for k, z := range zeros {
				i := k * 4096
				from := image[i : i+4096]
				if z {
					from = zero
				}
				if !bytes.Equal(memory[i:i+4096], from) {
					copy(memory[i:i+4096], from)
				}
			}
		}
	})
}
