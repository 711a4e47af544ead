package compare

import "syscall"

// childAttr puts a child in its own process group, so that Ctrl-C reaches only the runner, which then ends its
// children in order, and makes the kernel kill it if the runner dies without doing so.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
