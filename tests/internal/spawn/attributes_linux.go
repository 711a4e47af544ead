package spawn

import "syscall"

// attributes protect a child from Ctrl-C, which the parent handles, and make it end with the parent.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// onFirstThread reports whether the caller runs on the first thread of the process.
func onFirstThread() bool { return syscall.Gettid() == syscall.Getpid() }
