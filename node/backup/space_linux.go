package backup

import "syscall"

// FreeSpace returns how many bytes may still be written on the disk of a folder, if that is known.
func FreeSpace(dir string) (bytes int64, known bool, err error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, false, err
	}
	return int64(s.Bavail) * s.Bsize, true, nil
}
