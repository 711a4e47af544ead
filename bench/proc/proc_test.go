package proc

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseStat(t *testing.T) {
	const line = "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 5 0 100 1000 10 18446744073709551615\n"
	got, err := parseStat(line)
	if err != nil || got != 3*time.Second {
		t.Fatalf("parseStat = %v, %v; want 3s", got, err)
	}
	for _, bad := range []string{"", "42 (a", "42 (a) S 1 2", "1 (a) S 1 1 1 0 -1 1 1 0 0 0 x 5 0"} {
		if _, err := parseStat(bad); !errors.Is(err, errFormat) {
			t.Errorf("parseStat(%q) error = %v", bad, err)
		}
	}
}

func TestParseStatus(t *testing.T) {
	const text = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nRssAnon:\t     512 kB\nRssFile:\t     256 " +
		"kB\nRssShmem:\t 0 kB\n"
	got, err := parseStatus(text)
	if err != nil {
		t.Fatal(err)
	}
	want := Memory{RSS: 1 << 20, Peak: 2 << 20, Anon: 512 << 10, File: 256 << 10}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
	for _, bad := range []string{"", "VmHWM: 1 kB\n", "VmHWM: x kB\n"} {
		if _, err := parseStatus(bad); !errors.Is(err, errFormat) {
			t.Errorf("parseStatus(%q) error = %v", bad, err)
		}
	}
}

func TestParseSleeps(t *testing.T) {
	const text = "Name:\tx\nvoluntary_ctxt_switches:\t17\nnonvoluntary_ctxt_switches:\t3\n"
	if n, err := parseSleeps(text); err != nil || n != 17 {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := parseSleeps("Name:\tx\n"); !errors.Is(err, errFormat) {
		t.Errorf("error = %v", err)
	}
}

func TestOwnProcess(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("no /proc here")
	}
	if _, err := CPU(os.Getpid()); err != nil {
		t.Error(err)
	}
	m, err := ReadMemory(os.Getpid())
	if err != nil || m.RSS <= 0 || m.Peak < m.Anon {
		t.Errorf("ReadMemory = %+v, %v", m, err)
	}
	if err := ResetPeak(os.Getpid()); err != nil {
		t.Error(err)
	}
	before, err := Sleeps(os.Getpid())
	if err != nil {
		t.Error(err)
	}
	time.Sleep(20 * time.Millisecond)
	if after, err := Sleeps(os.Getpid()); err != nil || after <= before {
		t.Errorf("%d sleeps, then %d, %v", before, after, err)
	}
	if n, err := ReadIO(os.Getpid()); err != nil || n.Calls < 0 || n.Disk < 0 {
		t.Errorf("ReadIO = %v, %v", n, err)
	}
	if l, err := LoadAverage(); err != nil || l < 0 {
		t.Errorf("LoadAverage = %v, %v", l, err)
	}
	const noSuchPID = 1 << 30
	if _, err := CPU(noSuchPID); err == nil {
		t.Error("CPU of no process: no error")
	}
}

func TestParseBusy(t *testing.T) {
	got, err := parseBusy("cpu  100 20 30 4000 500 6 7 8 0 0\ncpu0 1 2 3\n")
	if err != nil || got != 1710*time.Millisecond {
		t.Fatalf("parseBusy = %v, %v; want 1.71s", got, err)
	}
	for _, bad := range []string{"", "intr 1 2 3 4 5 6 7 8 9", "cpu 1 2 3", "cpu 1 2 3 4 5 6 x 8 0 0"} {
		if _, err := parseBusy(bad); !errors.Is(err, errFormat) {
			t.Errorf("parseBusy(%q) error = %v", bad, err)
		}
	}
}

func TestParseIO(t *testing.T) {
	got, err := parseIO("rchar: 1\nwchar: 2\nread_bytes: 3\nwrite_bytes: 4096\ncancelled_write_bytes: 5\n")
	if want := (IO{Calls: 2, Disk: 4096}); err != nil || got != want {
		t.Fatalf("parseIO = %+v, %v", got, err)
	}
	for _, bad := range []string{"", "wchar: 2\n", "wchar: 1\nwrite_bytes: x\n"} {
		if _, err := parseIO(bad); err == nil {
			t.Errorf("parseIO(%q): no error", bad)
		}
	}
}
