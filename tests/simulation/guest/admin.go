//go:build wasip1

package main

import (
	"context"
	"errors"

	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
	"github.com/headwaterdb/headwater/tests/internal/leases"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// adminAddr is where the first life of the first kv pod has the admin API.
const adminAddr = "127.0.0.1:9901"

// createKeyspaces creates the keyspaces beside the pods' own, as an operator does.
func (w *world) createKeyspaces(ctx context.Context) error {
	conn, err := grpc.NewClient(adminAddr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	admin := adminv1.NewKeyspacesClient(conn)
	for _, name := range w.c.keyspaces[1:] {
		err = errors.Join(err, leases.Retry(ctx, func(ctx context.Context) error {
			_, err := admin.Create(ctx, &adminv1.CreateRequest{Name: name})
			if status.Code(err) == codes.AlreadyExists { // an attempt whose answer was lost
				return nil
			}
			return err
		}))
	}
	return errors.Join(err, conn.Close())
}
