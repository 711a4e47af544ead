package compare

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/headwaterdb/headwater/bench/proc"
)

// busyLoadAverage is the load average above which the runner warns before it starts.
const busyLoadAverage = 1

// MachineInfo describes the machine and the moment, one line each.
func (c *Config) MachineInfo(ctx context.Context) []string {
	lines := []string{
		fmt.Sprintf("%s, %d CPUs (%s), %s memory, Linux %s", time.Now().UTC().Format("2006-01-02 15:04 UTC"),
			runtime.NumCPU(),
			procField("/proc/cpuinfo", "model name"), procField("/proc/meminfo", "MemTotal"), kernel()),
		fmt.Sprintf("Data on %s (%s); 4 KiB append + fdatasync: %s", c.Dir, filesystem(c.Dir), syncTime(c.Dir)),
	}
	if out, err := exec.CommandContext(ctx, "git", "-C", c.Root, "describe", "--always",
		"--dirty").Output(); err == nil {
		lines = append(lines, "Headwater tree: "+strings.TrimSpace(string(out)))
	}
	if l, err := proc.LoadAverage(); err == nil {
		line := fmt.Sprintf("Load average before: %.2f", l)
		if l > busyLoadAverage {
			line += ". **The machine was busy: rates are too low and noisy.**"
		}
		lines = append(lines, line)
	}
	return lines
}

func procField(file, name string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return "unknown"
}

func kernel() string {
	b, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}

// filesystem names the file system of dir. On a RAM disk fsync costs nothing, and the comparison means nothing.
func filesystem(dir string) string {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return "unknown file system"
	}
	switch int64(st.Type) { //nolint:unconvert // not an int64 on every platform
	case unix.TMPFS_MAGIC, unix.RAMFS_MAGIC:
		return "**a RAM disk: fsync costs nothing here, use --dir**"
	case unix.EXT4_SUPER_MAGIC:
		return "ext4"
	case unix.XFS_SUPER_MAGIC:
		return "xfs"
	case unix.BTRFS_SUPER_MAGIC:
		return "btrfs"
	case unix.OVERLAYFS_SUPER_MAGIC:
		return "overlayfs"
	}
	return fmt.Sprintf("file system type %#x", st.Type)
}

// freeBytes returns how much can still be written below dir.
func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// syncTime measures what an appended and synced block costs on the disk of dir.
func syncTime(dir string) string {
	const blocks, size = 200, 4096
	f, err := os.CreateTemp(dir, "headwater-bench-sync-")
	if err != nil {
		return err.Error()
	}
	defer os.Remove(f.Name())
	defer f.Close()
	var times []float64
	block := make([]byte, size)
	for range blocks {
		start := time.Now()
		if _, err := f.Write(block); err != nil {
			return err.Error()
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return err.Error()
		}
		times = append(times, float64(time.Since(start))/float64(time.Millisecond))
	}
	return fmt.Sprintf("median %.2f ms", Median(times))
}

// diskUse returns the bytes that the files below dir take on disk.
func diskUse(dir string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		const statBlock = 512 // st_blocks is in these units whatever the file system
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		n += st.Blocks * statBlock
		return nil
	})
	return n, err
}
