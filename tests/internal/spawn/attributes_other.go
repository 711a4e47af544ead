//go:build !linux

package spawn

import "syscall"

// attributes keep a child from Ctrl-C, which is for the parent to handle.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
