package spawn

import (
	"os/exec"
	"runtime"
	"sync"
)

// thread starts processes, one at a time.
var thread struct {
	mu       sync.Mutex
	requests chan request // nil: there is no thread
	ended    chan struct{}
}

type request struct {
	cmd *exec.Cmd
	err chan error
}

// Start is cmd.Start for a process in a group of its own, which Ctrl-C does not reach. It starts the process from a
// thread that lives until Stop or the end of the program. That is necessary because the kernel sends a child its death
// signal when the thread that made it ends, not only when the whole process does.
func Start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = attributes()
	thread.mu.Lock()
	if thread.requests == nil {
		thread.requests, thread.ended = make(chan request), make(chan struct{})
		go serve(thread.requests, thread.ended)
	}
	requests := thread.requests
	thread.mu.Unlock()
	r := request{cmd, make(chan error)}
	requests <- r
	return <-r.err
}

// serve never unlocks its thread, so that the thread ends with the goroutine. Only the first thread of the process
// would not end, because Go keeps it until the process ends. If the goroutine runs on the first thread, it stays there,
// and another goroutine does the work on another thread.
func serve(requests chan request, ended chan struct{}) {
	runtime.LockOSThread()
	if onFirstThread() {
		elsewhere := make(chan struct{})
		go func() {
			defer close(elsewhere)
			serve(requests, ended)
		}()
		<-elsewhere
		runtime.UnlockOSThread()
		return
	}
	defer close(ended)
	for r := range requests {
		r.err <- r.cmd.Start()
	}
}

// Stop ends the thread. On Linux the kernel then kills the processes that the thread has started. A later Start makes a
// new thread.
func Stop() {
	thread.mu.Lock()
	defer thread.mu.Unlock()
	if thread.requests != nil {
		close(thread.requests)
		<-thread.ended
		thread.requests = nil
	}
}
