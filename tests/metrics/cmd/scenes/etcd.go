package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/headwaterdb/headwater/libs/porttest"
)

// etcdScenes plays the scenes on a real etcd. Its metrics are those of the process, so the scenes come one after the
// other.
func etcdScenes(ctx context.Context, s stage) (err error) {
	dir, err := os.MkdirTemp("", "scenes-etcd-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	one, err := startEtcds(dir, "one")
	if err != nil {
		return err
	}
	at := "http://" + one[0].Clients[0].Addr().String()
	err = playAll(ctx, s, "etcd", at)
	one[0].Close()
	if err != nil {
		return err
	}
	return etcdAway(ctx, s, dir)
}

// playAll plays the scenes of a server that has its store.
func playAll(ctx context.Context, s stage, server, at string) error {
	if err := leader(ctx, at, true); err != nil {
		return err
	}
	for _, scene := range []struct {
		name string
		do   func(context.Context, string) error
	}{{"idle", idle}, {"load", load}, {"failing", failing}} {
		if err := s.play(ctx, server, scene.name, at, scene.do); err != nil {
			return err
		}
	}
	return nil
}

// etcdAway plays an etcd that has lost its quorum: one of two members, after the other has ended.
func etcdAway(ctx context.Context, s stage, dir string) error {
	two, err := startEtcds(dir, "a", "b")
	if err != nil {
		return err
	}
	defer two[0].Close()
	at := "http://" + two[0].Clients[0].Addr().String()
	err = leader(ctx, at, true)
	two[1].Close()
	if err != nil {
		return err
	}
	if err := leader(ctx, at, false); err != nil {
		return err
	}
	return s.play(ctx, "etcd", "away", at, refused)
}

// startEtcds starts the members of a cluster and returns when all are ready.
func startEtcds(dir string, names ...string) (members []*embed.Etcd, err error) {
	peers := make([]url.URL, len(names))
	cluster := ""
	for i, name := range names {
		addr, _, err := porttest.Reserve() // a peer's address must be known before it listens
		if err != nil {
			return nil, err
		}
		peers[i] = url.URL{Scheme: "http", Host: addr}
		cluster += fmt.Sprintf(",%s=%s", name, &peers[i])
	}
	for i, name := range names {
		c := embed.NewConfig()
		c.Name, c.Dir, c.InitialCluster = name, filepath.Join(dir, name), cluster[1:]
		c.ListenPeerUrls, c.AdvertisePeerUrls = peers[i:i+1], peers[i:i+1]
		free := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
		c.ListenClientUrls, c.AdvertiseClientUrls = free, free
		c.UnsafeNoFsync, c.Metrics = true, "extensive"
		c.TickMs, c.ElectionMs = 20, 200
		c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
		e, err := embed.StartEtcd(c)
		if err != nil {
			return nil, err
		}
		members = append(members, e)
	}
	for _, e := range members {
		<-e.Server.ReadyNotify()
	}
	return members, nil
}
