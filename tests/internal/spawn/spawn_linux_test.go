package spawn

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// parentEnv makes the test binary a parent that starts a child, prints its id, and panics when its standard input ends.
const parentEnv = "HEADWATER_TEST_SPAWN"

func TestMain(m *testing.M) {
	if os.Getenv(parentEnv) == "" {
		os.Exit(m.Run())
	}
	child := exec.Command("sleep", "1000")
	if err := Start(child); err != nil {
		panic(err)
	}
	os.Stdout.WriteString(strconv.Itoa(child.Process.Pid) + "\n")
	os.Stdin.Read(make([]byte, 1)) // returns when the input ends, with or without an error
	panic("as a test may")
}

// TestPanic: a child does not outlive a parent that panics.
func TestPanic(t *testing.T) {
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), parentEnv+"=1")
	in, err := parent.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(line[:len(line)-1])
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(child, 0); err != nil {
		t.Fatalf("there is no child: %v", err)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if err := parent.Wait(); err == nil {
		t.Error("the parent did not panic")
	}
	there := func() bool { return !errors.Is(syscall.Kill(child, 0), syscall.ESRCH) && !zombie(child) }
	for end := time.Now().Add(2 * time.Minute); there(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			_ = syscall.Kill(child, syscall.SIGKILL) // it may have ended meanwhile
			t.Fatal("the child is still there")
		}
	}
}

// zombie reports whether a process has ended but nobody has waited for it. The process that has adopted it may never
// wait.
func zombie(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return errors.Is(err, os.ErrNotExist)
	}
	for i := len(stat) - 1; i > 1; i-- {
		if stat[i] == ')' {
			return stat[i+2] == 'Z'
		}
	}
	return false
}

// TestStop: after Stop the processes that were started before are gone, and Start works again.
func TestStop(t *testing.T) {
	first, second := exec.Command("sleep", "1000"), exec.Command("true")
	if err := Start(first); err != nil {
		t.Fatal(err)
	}
	Stop()
	if err := first.Wait(); err == nil {
		t.Error("it ended without being stopped")
	}
	Stop()
	if err := Start(second); err != nil {
		t.Fatal(err)
	}
	if err := second.Wait(); err != nil {
		t.Error(err)
	}
	Stop()
}
