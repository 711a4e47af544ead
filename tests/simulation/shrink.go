package simulation

import (
	"context"
	"strings"
	"time"
)

const (
	// shrinkRuns bounds the runs that making one smaller may take.
	shrinkRuns = 40
	// shortest is the least time that a plan is made to have: leases and faults begin at random moments of it.
	shortest = 250 * time.Millisecond
)

// shrink looks for a smaller plan that fails as well: fewer faults, less time, fewer clients. It returns the smallest
// that was found, with its run.
func (p *Program) shrink(ctx context.Context, plan Plan, r *Result, v Verdict) (Plan, *Result, Verdict) {
	runs := 0
	try := func(change func(*Plan)) bool {
		smaller := plan
		change(&smaller)
		if smaller == plan || runs >= shrinkRuns || ctx.Err() != nil {
			return false
		}
		runs++
		r2, v2, err := p.Execute(ctx, smaller)
		if err != nil || v2.Good {
			return false
		}
		plan, r, v = smaller, r2, v2
		return true
	}
	try(func(p *Plan) { p.Calm = true })
	try(func(p *Plan) { p.Backups = false })
	try(func(p *Plan) { p.Archive = false })
	try(func(p *Plan) { p.SetBack = false })
	try(func(p *Plan) { p.Old = false })
	try(func(p *Plan) { p.Moves = false })
	if !try(func(p *Plan) { p.Limited, p.Limits = 0, "" }) && plan.Limited > 0 {
		for _, name := range limitNames {
			if try(func(p *Plan) { p.Limits = name }) {
				break
			}
		}
	}
	try(func(p *Plan) { p.Users = 0 })
	try(func(p *Plan) { p.Counts = 0 })
	try(func(p *Plan) { p.Leases = 0 })
	try(func(p *Plan) { p.Watchers = 0 })
	if !try(func(p *Plan) { p.Clients, p.Watchers = 0, 0 }) {
		try(func(p *Plan) { p.Clients = min(p.Clients, 1) })
	}
	for try(func(p *Plan) { p.Duration = min(p.Duration, max(p.Duration/2, shortest)) }) {
	}
	// No more faults than the run has time for.
	for n := r.faults() / 2; n >= 0; n /= 2 {
		if !try(func(p *Plan) { p.Faults = n }) || n == 0 {
			break
		}
	}
	for plan.Faults <= r.faults() && plan.Faults > 0 && try(func(p *Plan) { p.Faults-- }) {
	}
	for try(func(p *Plan) { p.Watchers /= 2 }) {
	}
	for try(func(p *Plan) { p.Clients = max(min(p.Clients, 1), p.Clients/2) }) {
	}
	for try(func(p *Plan) { p.Leases /= 2 }) {
	}
	return plan, r, v
}

// faults is how many there were in a run.
func (r *Result) faults() (n int) {
	v, err := r.Verdict()
	if err != nil {
		return 0
	}
	for what, times := range v.Seen {
		if strings.HasPrefix(what, "fault: ") {
			n += times
		}
	}
	return n
}
