//go:build !linux

package bench

import "errors"

func settle(string) {}

func forgetFiles(string) error {
	return errors.New("the page cache can be emptied file by file on Linux only")
}
