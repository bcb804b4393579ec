//go:build !linux

package wasmvm

import "errors"

// imageFile is not offered on this system: memories are reset by copying.
type imageFile struct{ image []byte }

// Prepare does nothing on this system.
func Prepare() error { return nil }

func newImageFile([]byte) (*imageFile, error) { return nil, errors.ErrUnsupported }

func (f *imageFile) close() error         { return nil }
func (f *imageFile) attach([]byte) error  { return errors.ErrUnsupported }
func (f *imageFile) restore([]byte) error { return errors.ErrUnsupported }

func (f *imageFile) reserve(int) (linear, error) {
	return nil, errors.ErrUnsupported
}
