//go:build !linux

package spawn

import "syscall"

// attributes protect a child from Ctrl-C, which the parent handles.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// onFirstThread returns false: on this system children do not end with the thread that made them.
func onFirstThread() bool { return false }
