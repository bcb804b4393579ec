//go:build !linux

package chaos

import "errors"

func mountSmallDisk(string, int64) error { return errors.ErrUnsupported }

func unmountSmallDisk(string) error { return errors.ErrUnsupported }
