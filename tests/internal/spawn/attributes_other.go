//go:build !linux

package spawn

import "syscall"

// attributes keep a child from Ctrl-C, which is for the parent to handle.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// onFirstThread does not matter where no child ends with the thread that made it.
func onFirstThread() bool { return false }
