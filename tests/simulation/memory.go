package simulation

import (
	"sync"
	"syscall"

	"github.com/tetratelabs/wazero/experimental"
)

// memories are the memories of programs, which grow where they are: a runtime that is left to itself copies a memory
// whenever it grows. Those of runs that have ended are used again, so that the system need not give, and clear, each of
// their pages anew. It may be used from any goroutine.
type memories struct {
	mu   sync.Mutex
	free [][]byte // all zero
}

// freeMax is how many memories wait to be used again; as many runs at a time lose nothing.
const freeMax = 4

// Allocate implements experimental.MemoryAllocator. Where there is no room, it panics, as a program's memory must be
// there.
func (m *memories) Allocate(_, most uint64) experimental.LinearMemory {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := len(m.free); n > 0 && uint64(len(m.free[n-1])) >= most {
		all := m.free[n-1]
		m.free = m.free[:n-1]
		return &memory{m: m, all: all}
	}
	// Address space only, until it is used.
	all, err := syscall.Mmap(-1, 0, int(most), syscall.PROT_READ|syscall.PROT_WRITE,
		syscall.MAP_ANON|syscall.MAP_PRIVATE|syscall.MAP_NORESERVE)
	if err != nil {
		panic(err)
	}
	return &memory{m: m, all: all}
}

// memory is that of one run.
type memory struct {
	m    *memories
	all  []byte
	used uint64
}

// Reallocate implements experimental.LinearMemory.
func (m *memory) Reallocate(size uint64) []byte {
	if size > uint64(len(m.all)) {
		return nil
	}
	m.used = max(m.used, size)
	return m.all[:size:size]
}

// Free implements experimental.LinearMemory. Nobody uses the memory any more.
func (m *memory) Free() {
	clear(m.all[:m.used])
	m.m.mu.Lock()
	defer m.m.mu.Unlock()
	if len(m.m.free) < freeMax {
		m.m.free = append(m.m.free, m.all)
	} else {
		_ = syscall.Munmap(m.all)
	}
	m.all = nil
}

// close gives back what waits to be used again. No run is under way.
func (m *memories) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, all := range m.free {
		_ = syscall.Munmap(all)
	}
	m.free = nil
}
