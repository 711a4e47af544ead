package stack

import "syscall"

// attributes keep a child from Ctrl-C, which is for the stack to handle, and from outliving the stack.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
