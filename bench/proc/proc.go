package proc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// clockTick is the length of a tick in /proc/<pid>/stat. USER_HZ is 100 on every Linux that Go runs on.
const clockTick = 10 * time.Millisecond

var errFormat = errors.New("proc: unexpected format")

// CPU returns the CPU time (user + system, all threads) that the process has used since its start, in steps of 10 ms.
func CPU(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return parseStat(string(b))
}

// parseStat takes utime and stime (fields 14 and 15 of proc(5)) out of a stat line. The command name may hold spaces
// and brackets, so fields are counted from the last bracket.
func parseStat(s string) (time.Duration, error) {
	const utimeAfterName, stimeAfterName = 11, 12
	i := strings.LastIndexByte(s, ')')
	if i < 0 {
		return 0, errFormat
	}
	f := strings.Fields(s[i+1:])
	if len(f) <= stimeAfterName {
		return 0, errFormat
	}
	utime, err := strconv.ParseInt(f[utimeAfterName], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: utime: %w", errFormat, err)
	}
	stime, err := strconv.ParseInt(f[stimeAfterName], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: stime: %w", errFormat, err)
	}
	return time.Duration(utime+stime) * clockTick, nil
}

// Sleeps returns how often the threads that a process has now have gone to sleep since they started, which is how often
// they have been woken up.
func Sleeps(pid int) (n int64, err error) {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil {
		return 0, err
	}
	for _, path := range threads {
		b, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it has ended
		}
		if err != nil {
			return 0, err
		}
		of, err := parseSleeps(string(b))
		if err != nil {
			return 0, err
		}
		n += of
	}
	return n, nil
}

// parseSleeps takes the voluntary context switches out of the status of a thread.
func parseSleeps(s string) (int64, error) {
	for line := range strings.Lines(s) {
		if name, rest, _ := strings.Cut(line, ":"); name == "voluntary_ctxt_switches" {
			return strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
		}
	}
	return 0, fmt.Errorf("%w: no voluntary_ctxt_switches", errFormat)
}

// Memory is the resident memory of a process, in bytes.
type Memory struct {
	RSS  int64 `json:"rss"`  // all resident pages now
	Peak int64 `json:"peak"` // highest RSS since the process started
	Anon int64 `json:"anon"` // heap and stacks: cannot be dropped without swap
	File int64 `json:"file"` // mapped files, as bbolt's: the kernel may drop clean ones
}

// ReadMemory returns the resident memory of the process.
func ReadMemory(pid int) (Memory, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return Memory{}, err
	}
	return parseStatus(string(b))
}

func parseStatus(s string) (Memory, error) {
	var m Memory
	want := map[string]*int64{"VmRSS": &m.RSS, "VmHWM": &m.Peak, "RssAnon": &m.Anon, "RssFile": &m.File}
	for line := range strings.Lines(s) {
		name, rest, _ := strings.Cut(line, ":")
		dst, ok := want[name]
		if !ok {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		if err != nil {
			return Memory{}, fmt.Errorf("%w: %s: %w", errFormat, name, err)
		}
		*dst = kib << 10
		delete(want, name)
	}
	if len(want) > 0 {
		return Memory{}, fmt.Errorf("%w: not all memory lines present", errFormat)
	}
	return m, nil
}

// LoadAverage returns the machine's load average of the last minute.
func LoadAverage() (float64, error) {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(b), " ")
	return strconv.ParseFloat(first, 64)
}

// Busy returns the CPU time that all processors together have spent at work (not idle, not waiting for I/O) since
// boot, with the time that a hypervisor took away (steal).
func Busy() (time.Duration, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	return parseBusy(string(b))
}

// parseBusy sums user, nice, system, irq, softirq and steal of the first line of /proc/stat; guest time is part of
// user time.
func parseBusy(s string) (time.Duration, error) {
	const idle, iowait, guest = 3, 4, 8
	line, _, _ := strings.Cut(s, "\n")
	f := strings.Fields(line)
	if len(f) <= guest || f[0] != "cpu" {
		return 0, errFormat
	}
	var busy time.Duration
	for i, v := range f[1 : guest+1] {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%w: %w", errFormat, err)
		}
		if i != idle && i != iowait {
			busy += time.Duration(n) * clockTick
		}
	}
	return busy, nil
}

// IO is what a process has written since its start, in bytes.
type IO struct {
	// Calls were handed to write(2) and its like, whatever the file: sockets count too.
	Calls int64
	// Disk were to be written to disks by the kernel, which counts a page, or the larger folio that it is part of,
	// when it becomes dirty: a few bytes that are appended and synced count as a whole one each time. Pages that are
	// truncated before they reach the disk are not taken off.
	Disk int64
}

// ReadIO returns what the process has written. The caller must be allowed to trace it.
func ReadIO(pid int) (IO, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return IO{}, err
	}
	return parseIO(string(b))
}

func parseIO(s string) (IO, error) {
	var io IO
	want := map[string]*int64{"wchar": &io.Calls, "write_bytes": &io.Disk}
	for line := range strings.Lines(s) {
		name, rest, _ := strings.Cut(line, ":")
		dst, ok := want[name]
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
		if err != nil {
			return IO{}, fmt.Errorf("%w: %s: %w", errFormat, name, err)
		}
		*dst = n
		delete(want, name)
	}
	if len(want) > 0 {
		return IO{}, fmt.Errorf("%w: not all lines of written bytes present", errFormat)
	}
	return io, nil
}

// ResetPeak makes Memory.Peak of the process start again from its present RSS.
func ResetPeak(pid int) error {
	const resetPeak = "5" // clear_refs of proc(5)
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte(resetPeak), 0)
}
