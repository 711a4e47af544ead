package spawn

import "syscall"

// attributes keep a child from Ctrl-C, which is for the parent to handle, and from outliving it.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// onFirstThread says that the caller runs on the thread that the process began with.
func onFirstThread() bool { return syscall.Gettid() == syscall.Getpid() }
