package stack

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
)

// spawn starts a command from a thread that lives as long as the program: the kernel sends a child its death signal
// when the thread that made it ends, not only when the whole process does.
func spawn(cmd *exec.Cmd) error {
	spawner.Do(func() {
		go func() {
			runtime.LockOSThread()
			for r := range spawns {
				r.err <- r.cmd.Start()
			}
		}()
	})
	r := spawnRequest{cmd, make(chan error)}
	spawns <- r
	return <-r.err
}

type spawnRequest struct {
	cmd *exec.Cmd
	err chan error
}

var (
	spawner sync.Once
	spawns  = make(chan spawnRequest)
)

// cleanEnv is the environment without variables that configure what is started.
func cleanEnv() []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "ETCD_") && !strings.HasPrefix(kv, "HEADWATER_") && !strings.HasPrefix(kv, "FDB_") {
			env = append(env, kv)
		}
	}
	return env
}
