package pebble
import ("testing";"context";"fmt";"os";"strings";"time";"math/rand/v2";"encoding/binary";"github.com/headwaterdb/headwater/libs/engine";"runtime")
func rss() string { b,_ := os.ReadFile("/proc/self/status"); var o []string; for _, l := range strings.Split(string(b),"\n") { if strings.HasPrefix(l,"VmRSS")||strings.HasPrefix(l,"VmHWM")||strings.HasPrefix(l,"RssAnon") { o = append(o, strings.Join(strings.Fields(l)," ")) } }; var m runtime.MemStats; runtime.ReadMemStats(&m); return fmt.Sprint(o, " heap ", m.HeapAlloc>>20, " sys ", m.Sys>>20) }
func TestMillion(t *testing.T) {
	dir := os.Getenv("MILLION"); if dir == "" { t.Skip() }
	t0 := time.Now()
	s, err := Open(dir, Options{}); if err != nil { t.Fatal(err) }
	fmt.Println("open empty/after", time.Since(t0), rss())
	ctx := context.Background()
	if s.Stats().Version == 0 {
		r := rand.NewChaCha8([32]byte{1}); value := make([]byte, 1024)
		waits := make(chan engine.Pending, 4); done := make(chan struct{})
		go func(){ defer close(done); for p := range waits { if _, err := p.Wait(ctx); err != nil { panic(err) } } }()
		c0 := cpu(); t1 := time.Now()
		for n := 0; n < 1000000; n += 100 {
			x, _ := s.Begin(ctx)
			var keys [][]byte
			for i := range 100 { keys = append(keys, append([]byte("ks/i/"), benchKey(uint64(n+i))...)) }
			if _, err := x.GetMany(ctx, keys); err != nil { t.Fatal(err) }
			x.UseStamps(100)
			for i := range keys {
				r.Read(value[:512])
				log := append([]byte("ks/l/"), make([]byte, engine.StampLen)...)
				binary.BigEndian.PutUint16(log[len(log)-2:], uint16(i))
				x.SetStampedKey(log, 5, value)
				rec := make([]byte, 40); binary.BigEndian.PutUint16(rec[10:], uint16(i))
				x.SetStampedValue(keys[i], rec, 0)
				x.Set(append([]byte("ks/v/"), keys[i][5:]...), value)
			}
			x.SetStampedValue([]byte("ks/head"), make([]byte, engine.StampLen), 0)
			p, err := x.Commit(ctx); if err != nil { t.Fatal(err) }
			waits <- p
			if n%200000 == 0 { fmt.Println(n, time.Since(t1), rss()) }
		}
		close(waits); <-done
		fmt.Println("loaded", time.Since(t1), "cpu us/put", (cpu()-c0)/1e9, rss()); fmt.Printf("%+v\n", s.Stats())
	}
	// list all keys in pages
	for range 2 {
	t2 := time.Now(); c2 := cpu(); rows := 0; from := []byte("ks/i/")
	for { sn, _ := s.Snapshot(ctx); it := sn.Scan(ctx, engine.Range{Begin: from, End: []byte("ks/i0"), Limit: 1000}); iv := sn.Scan(ctx, engine.Range{Begin: append([]byte("ks/v/"), from[5:]...), End: []byte("ks/v0"), Limit: 1000}); n := 0
		for it.Next() { if !iv.Next() { t.Fatal("val") }; n++; from = append(from[:0], it.Key()...) }
		if err := it.Err(); err != nil { t.Fatal(err) }
		it.Close(); iv.Close(); sn.Close(); rows += n; from = append(from, 0); if n < 1000 { break } }
	fmt.Println("list", rows, time.Since(t2), "cpu ns/row", (cpu()-c2)/float64(rows), rss())
	}
	t3 := time.Now(); if err := s.Close(); err != nil { t.Fatal(err) }
	fmt.Println("close", time.Since(t3))
	runtime.GC()
	t4 := time.Now(); s, err = Open(dir, Options{}); if err != nil { t.Fatal(err) }
	fmt.Println("reopen", time.Since(t4), rss())
	s.Close()
}
