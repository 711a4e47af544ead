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

// Start is cmd.Start for a process that is in a group of its own, away from Ctrl-C. It starts from a thread that
// lives as long as the program, or until Stop: the kernel sends a child its death signal when the thread that made it
// ends, not only when the whole process does.
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

// serve never gives its thread back, so that it ends with the goroutine. Only the first thread of the process would
// not: Go keeps it until the process ends. A goroutine that finds itself there stays there, so that another one is
// elsewhere.
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

// Stop ends the thread; what it has started and is still there is killed where the kernel does so. Start begins anew.
func Stop() {
	thread.mu.Lock()
	defer thread.mu.Unlock()
	if thread.requests != nil {
		close(thread.requests)
		<-thread.ended
		thread.requests = nil
	}
}
