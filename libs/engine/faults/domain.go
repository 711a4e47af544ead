package faults

import (
	"context"

	"github.com/headwaterdb/headwater/libs/engine"
)

var (
	_ engine.Domains    = (*Store)(nil)
	_ engine.Parts      = (*txn)(nil)
	_ engine.PartStamps = (*pending)(nil)
)

// Domain implements engine.Domains: faults, crashes and damage are those of the whole store. On an engine that has one
// numbering for all, its transactions use that.
func (s *Store) Domain(prefix []byte) engine.Store { return &domain{s, string(prefix)} }

// domain is the store as one of its domains sees it.
type domain struct {
	*Store
	prefix string
}

// Begin implements engine.Store.
func (d *domain) Begin(ctx context.Context) (engine.Txn, error) {
	t, err := d.Store.Begin(ctx)
	if err != nil {
		return nil, err
	}
	return engine.Part(t, []byte(d.prefix)), nil
}

// BeginRecent implements engine.RecentBeginner.
func (d *domain) BeginRecent(ctx context.Context) (engine.Txn, bool, error) {
	t, ok, err := d.Store.BeginRecent(ctx)
	if !ok || err != nil {
		return nil, ok, err
	}
	return engine.Part(t, []byte(d.prefix)), true, nil
}

// Close implements engine.Store: it does nothing.
func (d *domain) Close() error { return nil }

// Part implements engine.Parts.
func (t *txn) Part(prefix []byte) engine.Txn { return &part{t, engine.Part(t.Txn, prefix)} }

// part is a transaction as one of its domains sees it.
type part struct {
	*txn
	in engine.Txn
}

// UseStamps implements engine.Txn.
func (p *part) UseStamps(n int) { p.in.UseStamps(n) }

// SetStampedKey implements engine.Txn.
func (p *part) SetStampedKey(key []byte, at int, value []byte) {
	p.size.StampedKey(len(key), len(value))
	p.in.SetStampedKey(key, at, value)
}

// SetStampedValue implements engine.Txn.
func (p *part) SetStampedValue(key, value []byte, at int) {
	p.size.StampedValue(len(key), len(value))
	p.in.SetStampedValue(key, value, at)
}

// Commit implements engine.Txn.
func (p *part) Commit(ctx context.Context) (engine.Pending, error) { return p.commit(ctx, p.in) }

// First implements engine.PartStamps.
func (p *pending) First(prefix []byte) engine.Stamp { return engine.FirstOf(p.in, p.first, prefix) }
