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
