package backup

import (
	"context"
	"errors"
	"strings"
	"time"
)

// Expired returns the backups that retention does not keep, in the order in which they have to be removed.
func (r *Repository) Expired(ctx context.Context, k Keep, now time.Time) ([]Manifest, error) {
	ms, _, err := r.List(ctx)
	if err != nil {
		return nil, err
	}
	return expired(ms, k, now), nil
}

// Remove removes a backup. It removes the manifest first, so that half a backup does not count.
func (r *Repository) Remove(ctx context.Context, m Manifest) error {
	if err := r.place.Remove(ctx, m.ID+manifestSuffix); err != nil {
		return err
	}
	return r.place.Remove(ctx, m.Object)
}

// Sweep removes what an interrupted backup or removal has left behind, once it is a day old: objects without a
// manifest, and files that were being written. It returns their names.
func (r *Repository) Sweep(ctx context.Context, now time.Time) (gone []string, err error) {
	objects, err := r.place.List(ctx)
	if err != nil {
		return nil, err
	}
	manifests := map[string]bool{}
	for _, o := range objects {
		if id, ok := strings.CutSuffix(o.Name, manifestSuffix); ok {
			manifests[id] = true
		}
	}
	for _, o := range objects {
		id, _, _ := strings.Cut(o.Name, objectSuffix)
		part := strings.HasSuffix(o.Name, partSuffix)
		if !isOurs(o.Name) || now.Sub(o.Modified) < orphanAge || !part && (manifests[id] || id == o.Name) {
			continue
		}
		if err := r.place.Remove(ctx, o.Name); err != nil {
			return gone, errors.Join(err, ctx.Err())
		}
		gone = append(gone, o.Name)
	}
	return gone, nil
}
