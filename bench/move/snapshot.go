package move

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"
)

// Options say what is measured, and with which binaries.
type Options struct {
	Headwater, Ctl, Etcd, Etcdutl string
	Dir                           string // for data; "": the system's directory for temporary files
	MiB                           int    // of values
	ValueBytes                    int
	Rounds                        int
	// History keeps all revisions; a snapshot then reads the values one by one, in the order of revisions. Without
	// it everything up to the head is compacted before, as in most keyspaces, and a snapshot reads in the order of
	// keys.
	History bool
	Log     func(format string, args ...any)
}

// Snapshots measures snapshots of equal content, and restores of their files, and writes rows of a table.
func Snapshots(ctx context.Context, o Options, w io.Writer) (err error) {
	dir, err := os.MkdirTemp(o.Dir, "bench-move-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	sides := []side{headwater(o.Headwater), etcd(o.Etcd)}
	saved := map[string][]cost{}
	for _, s := range sides {
		costs, err := s.snapshots(ctx, o, dir)
		if err != nil {
			return err
		}
		saved[s.name] = costs
	}
	what := "compacted"
	if o.History {
		what = "not compacted"
	}
	row(w, fmt.Sprintf("snapshot of %d MiB, values of %d bytes, %s: the server", o.MiB, o.ValueBytes, what), saved)
	restored := map[string][]cost{}
	for n := range o.Rounds {
		file := filepath.Join(dir, "etcd.db")
		for _, s := range []struct{ name, binary string }{{"headwater", o.Ctl}, {"etcd", o.Etcdutl}} {
			to := filepath.Join(dir, fmt.Sprint("restored-", s.name, n))
			c, err := command(ctx, s.binary, "snapshot", "restore", file, "--data-dir", to)
			if err != nil {
				return err
			}
			restored[s.name] = append(restored[s.name], c)
			if err := os.RemoveAll(to); err != nil {
				return err
			}
		}
	}
	row(w, "restore of etcd's file: headwaterctl, etcdutl", restored)
	return nil
}

// row writes the medians of both, and their ratios.
func row(w io.Writer, what string, costs map[string][]cost) {
	h, e := median(costs["headwater"]), median(costs["etcd"])
	fmt.Fprintf(w, "| %s | %s | %s | time %.2f ×, CPU %.2f × |\n", what, h, e,
		float64(h.wall)/float64(e.wall), float64(h.cpu)/float64(e.cpu))
}

func (c cost) String() string {
	text := fmt.Sprintf("%.2f s, %.2f s of CPU, %d MiB", c.wall.Seconds(), c.cpu.Seconds(), c.peak>>20)
	if c.before > 0 {
		text += fmt.Sprintf(" (%d before)", c.before>>20)
	}
	return text
}

// median returns the median of the times, and the highest peak.
func median(all []cost) (m cost) {
	var wall, cpu []time.Duration
	for _, c := range all {
		wall, cpu, m.peak = append(wall, c.wall), append(cpu, c.cpu), max(m.peak, c.peak)
	}
	m.before = all[0].before
	slices.Sort(wall)
	slices.Sort(cpu)
	m.wall, m.cpu = wall[len(wall)/2], cpu[len(cpu)/2]
	return m
}

// snapshots fills a server, and fetches snapshots of it. It leaves the file of the last one.
func (s side) snapshots(ctx context.Context, o Options, dir string) (costs []cost, err error) {
	r, err := s.start(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	o.Log("%s: writing %d MiB", s.name, o.MiB)
	if err := fill(ctx, r.client, o.MiB<<20/o.ValueBytes, o.ValueBytes); err != nil {
		return nil, err
	}
	if !o.History {
		if err := compact(ctx, r.client); err != nil {
			return nil, err
		}
	}
	for range o.Rounds {
		c, err := r.meter(func() error { return save(ctx, r.client, filepath.Join(dir, s.name+".db")) })
		if err != nil {
			return nil, err
		}
		o.Log("%s: snapshot %s", s.name, c)
		costs = append(costs, c)
	}
	return costs, nil
}

const writers = 64

// fill puts n keys in random order.
func fill(ctx context.Context, c *clientv3.Client, n, size int) error {
	order := rand.New(rand.NewPCG(1, 1)).Perm(n)
	g, ctx := errgroup.WithContext(ctx)
	for w := range writers {
		g.Go(func() error {
			r := rand.NewChaCha8([32]byte{byte(w)})
			value := make([]byte, size)
			for i := w; i < n; i += writers {
				r.Read(value)
				if _, err := c.Put(ctx, fmt.Sprintf("/registry/pods/%08d", order[i]), string(value)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// compact compacts up to the head.
func compact(ctx context.Context, c *clientv3.Client) error {
	now, err := c.Get(ctx, "k")
	if err != nil {
		return err
	}
	_, err = c.Compact(ctx, now.Header.Revision, clientv3.WithCompactPhysical())
	return err
}

// save fetches a snapshot into a file.
func save(ctx context.Context, c *clientv3.Client, path string) error {
	r, err := c.Snapshot(ctx)
	if err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return errors.Join(err, r.Close())
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, r.Close(), f.Close())
}
