//go:build !linux

package stack

import "syscall"

// attributes keep a child from Ctrl-C, which is for the stack to handle.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
