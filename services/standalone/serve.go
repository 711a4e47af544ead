package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/headwaterdb/headwater/libs/etcdapi"
	"github.com/headwaterdb/headwater/libs/server"
)

// storeDir is the engine's directory within the data directory.
const storeDir = "store"

// serve opens everything, serves until ctx ends or the store fails, and closes everything.
func serve(ctx context.Context, p server.Parsed, stdout, stderr io.Writer) (err error) {
	begin := time.Now()
	c := p.Config
	log, closeLog, err := server.NewLogger(c, stdout, stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeLog()) }()
	logStart(log, p)

	if err := checkDir(c.Dir()); err != nil {
		return err
	}
	warnReadable(log, c.Dir())
	srv, err := server.Listen(ctx, c)
	if err != nil {
		return err
	}
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	n, err := open(ctx, c, srv.AdvertisedURLs(), log, fail)
	if err != nil {
		srv.Close()
		return err
	}
	log.Info("opened", "data-dir", c.Dir(), "took", time.Since(begin).String(), "revision", n.startRevision,
		"cluster-id", fmt.Sprintf("%x", n.header.ClusterID), "member-id", fmt.Sprintf("%x", n.header.MemberID))
	err = srv.Serve(ctx, server.Options{GRPC: n.grpc, HTTP: n.httpOptions(c), Drain: n.drain, Log: log})
	return ended(log, errors.Join(err, failure(ctx)), closeWithin(server.CloseGrace, n.close))
}

// ended is how the process ends that was served until why (nil: it was told to stop) and closed with the error closing.
func ended(log *slog.Logger, why, closing error) error {
	if errors.Is(closing, errStillClosing) {
		log.Warn("the store takes long to close; the next start reads its log again, as after a crash")
		return why
	}
	err := errors.Join(why, closing)
	if err == nil {
		log.Info("stopped")
	}
	return err
}

// errStillClosing says that the process ends before its store is closed. Nothing that was acknowledged is lost by that.
var errStillClosing = errors.New("the store is still being closed")

// closeWithin calls closeAll and does not wait for it longer than d.
func closeWithin(d time.Duration, closeAll func() error) error {
	done := make(chan error, 1)
	go func() { done <- closeAll() }()
	select {
	case err := <-done:
		return err
	case <-time.After(d):
		return errStillClosing
	}
}

// failure is why ctx has ended, if that was not a signal.
func failure(ctx context.Context) error {
	var f storeError
	if errors.As(context.Cause(ctx), &f) {
		return f.error
	}
	return nil
}

// logStart writes down what the process has been told.
func logStart(log *slog.Logger, p server.Parsed) {
	log.Info("starting headwater", "headwater-version", server.Version, "etcd-version", etcdapi.EmulatedVersion,
		"name", p.Config.Name, "data-dir", p.Config.Dir(), "pid", os.Getpid())
	p.Log(log)
}

// warnReadable says so when others may look into the data directory, as after it was made by hand.
func warnReadable(log *slog.Logger, dir string) {
	for _, d := range []string{dir, filepath.Join(dir, storeDir)} {
		if fi, err := os.Stat(d); err == nil && fi.Mode().Perm()&0o077 != 0 {
			log.Warn("others may read the data directory", "directory", d, "permissions", fi.Mode().Perm().String(), "recommended", os.FileMode(0o700).String())
			return
		}
	}
}

// checkDir refuses a data directory that belongs to an etcd.
func checkDir(dir string) error {
	_, err := os.Stat(filepath.Join(dir, "member"))
	switch {
	case err == nil:
		return fmt.Errorf("data directory %s holds the data of an etcd (member/), which Headwater neither reads nor overwrites; choose another --data-dir", dir)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return fmt.Errorf("data directory: %w", err)
}
