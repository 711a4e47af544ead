//go:build wasip1 || headwater_simulation

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/headwaterdb/headwater/libs/config"
	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
	"github.com/headwaterdb/headwater/tests/internal/leases"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// adminPort and adminLives say where each life of a kv pod has the admin API: the end of a killed one may still be
// under way when the next begins.
const (
	adminPort  = 9000
	adminLives = 1000
)

// adminAddr is where a life of a pod has the admin API; only kv pods have it.
func (p *pod) adminAddr() string {
	for i, q := range p.w.of(config.KV) {
		if q == p {
			return fmt.Sprint("127.0.0.1:", adminPort+i*adminLives+p.attempts%adminLives)
		}
	}
	return ""
}

// admin calls the admin API as an operator does: of one kv pod after the other, until one answers.
func (w *world) admin(ctx context.Context, call func(context.Context, adminv1.KeyspacesClient) error) error {
	n := 0
	return leases.Retry(ctx, func(ctx context.Context) error {
		pods := w.of(config.KV)
		p := pods[n%len(pods)]
		n++
		if p.life == nil {
			return fmt.Errorf("%s is down", p.name)
		}
		conn, err := grpc.NewClient(p.adminAddr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return err
		}
		return errors.Join(call(ctx, adminv1.NewKeyspacesClient(conn)), conn.Close())
	})
}

// createKeyspaces creates the keyspaces beside the pods' own.
func (w *world) createKeyspaces(ctx context.Context) (err error) {
	for _, name := range w.c.keyspaces[1:] {
		err = errors.Join(err, w.createKeyspace(ctx, name, nil))
	}
	return err
}
