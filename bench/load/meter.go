package load

import (
	"errors"
	"os"
	"time"

	"github.com/headwaterdb/headwater/bench/proc"
)

// Meter measures what a server process, this process and the machine did between Start and Stop. The zero value is
// ready; one goroutine uses it.
type Meter struct {
	pid     int
	at      time.Time
	elapsed time.Duration
	before  cpuTimes
	result  Server
}

// cpuTimes are readings of one moment.
type cpuTimes struct{ server, self, machine time.Duration }

func readCPU(pid int) (t cpuTimes, err error) {
	var errs [3]error
	t.server, errs[0] = proc.CPU(pid)
	t.self, errs[1] = proc.CPU(os.Getpid())
	t.machine, errs[2] = proc.Busy()
	return t, errors.Join(errs[:]...)
}

// Start begins to measure the process pid of this machine; zero measures nothing.
func (m *Meter) Start(pid int) (err error) {
	if m.pid = pid; pid == 0 {
		return nil
	}
	m.at = time.Now()
	m.before, err = readCPU(pid)
	return err
}

// Stop ends what Start began.
func (m *Meter) Stop() error {
	if m.pid == 0 {
		return nil
	}
	end, err := readCPU(m.pid)
	if err != nil {
		return err
	}
	m.elapsed = time.Since(m.at)
	secs := m.elapsed.Seconds()
	server, self := end.server-m.before.server, end.self-m.before.self
	m.result.CPUPerSecond = server.Seconds() / secs
	m.result.Others = max(0, (end.machine-m.before.machine-server-self).Seconds()/secs)
	m.result.Memory, err = proc.ReadMemory(m.pid)
	return err
}

// Used returns what the process used, given its units of work per second; nil if no process was measured.
func (m *Meter) Used(unitsPerSecond float64) *Server {
	if m.pid == 0 {
		return nil
	}
	s := m.result
	if unitsPerSecond > 0 {
		s.CPUPerUnit = s.CPUPerSecond / unitsPerSecond
	}
	return &s
}

// UsedFor is Used for so many units of work done between Start and Stop.
func (m *Meter) UsedFor(units int64) *Server { return m.Used(perSecond(units, m.elapsed)) }
