package watchload

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestCatchUp stops a process that has nothing to do with the watch. So the events come before it goes on, which is an
// error. The test checks that the process does go on.
func TestCatchUp(t *testing.T) {
	other := exec.Command("cat")
	in, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = other.Process.Kill() // it may have ended
		_ = other.Wait()         // the error says that it was killed
	})
	o := smallOptions(startEtcd(t))
	o.Pause = []int{other.Process.Pid}
	res, err := CatchUp(t.Context(), o)
	if err != nil && !strings.Contains(err.Error(), "before the processes went on") {
		t.Error(err)
	}
	if err == nil && (res.Values[EventsPerSecond] <= 0 || res.Values[HistoryRate] <= 0) {
		t.Error(res.Values)
	}
	if _, err := in.Write([]byte("awake\n")); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "awake\n" {
		t.Errorf("%q %v", line, err)
	}
}

// TestCatchUpErrors checks that a process which is not there is an error, and that a catch-up needs something to
// catch up with.
func TestCatchUpErrors(t *testing.T) {
	const noSuchPID = 1 << 30
	o := smallOptions("127.0.0.1:1")
	o.Pause = []int{os.Getpid() + noSuchPID}
	if _, err := o.whilePaused(func() error { t.Error("called"); return nil }); err == nil {
		t.Error("no error for a process that does not exist")
	}
	o.History = 0
	if _, err := CatchUp(t.Context(), o); err == nil || !strings.Contains(err.Error(), "takes watchers") {
		t.Error(err)
	}
}
