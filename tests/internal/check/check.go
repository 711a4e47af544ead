package check

import (
	"errors"
	"fmt"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/headwaterdb/headwater/libs/revlog"
	"github.com/headwaterdb/headwater/tests/internal/load"
	"go.etcd.io/etcd/tests/v3/robustness/model"
	"go.etcd.io/etcd/tests/v3/robustness/report"
	"go.etcd.io/etcd/tests/v3/robustness/validate"
	"go.uber.org/zap"
)

// History is a finished run and the server's log of it.
type History struct {
	load.History
	// Log is the server's whole log, from the first write on.
	Log []revlog.Entry
	// Requests are the persisted requests. Function Requests rebuilds them from Log, if there is no better source.
	Requests []model.EtcdRequest
	// OneKeyPerRevision says that the traffic never changed two keys in one revision; etcd's validators then expect it.
	OneKeyPerRevision bool
	// PrevMayMiss says that the server may leave out previous records around compactions, as etcd does; the log
	// is then not checked in itself.
	PrevMayMiss bool
}

// Result is what Run found.
type Result struct {
	validate.RobustnessResult
	Coverage Coverage
}

// ErrSkipped says that a judge did not run, so that there is no verdict.
var ErrSkipped = errors.New("check: skipped")

// Run judges a history. The error is nil only if every judge ran and none objected. timeout bounds the check of
// linearizability; running into it is an error.
func Run(lg *zap.Logger, h History, timeout time.Duration) (Result, error) {
	res := Result{Coverage: cover(h)}
	if err := own(h); err != nil {
		return res, err
	}
	reports, open := Resolve(h.Reports, h.Log)
	res.Coverage.Open = open
	res.RobustnessResult = validate.ValidateAndReturnVisualize(lg,
		validate.Config{ExpectRevisionUnique: h.OneKeyPerRevision},
		reports, h.Requests, timeout)
	if err := res.Error(); err != nil {
		return res, err
	}
	for name, r := range map[string]validate.Result{
		"assumptions":   res.Assumptions,
		"linearization": res.Linearization.Result,
		"watch":         res.Watch,
		"serializable":  res.RobustnessResult.Serializable,
	} {
		if r.Status != validate.Success {
			return res, fmt.Errorf("%w: %s", ErrSkipped, name)
		}
	}
	return res, nil
}

// own makes the checks that upstream does not have.
func own(h History) error {
	if len(h.Requests) == 0 {
		return fmt.Errorf("%w: no persisted requests", ErrSkipped)
	}
	if err := sameLog(FromEvents(h.Events), h.Log); err != nil {
		return err
	}
	if err := once(h.Reports, h.Log); err != nil {
		return err
	}
	if !h.PrevMayMiss {
		if err := Log(h.Log, true); err != nil {
			return err
		}
	}
	if n := len(h.Log); n == 0 || h.Log[n-1].Rev < h.Last {
		return fmt.Errorf("check: the log does not reach the last acknowledged write at revision %d", h.Last)
	}
	replay := model.NewReplay(h.Requests)
	if err := replayed(replay, h.Log); err != nil {
		return err
	}
	return serializable(replay, h.Serializable)
}

// serializable checks that every serializable read shows the state at its header's revision.
func serializable(replay *model.EtcdReplay, reads []load.SerializableRead) error {
	for _, read := range reads {
		rev := read.Response.Header.GetRevision()
		state, err := replay.StateForRevision(rev)
		if err != nil {
			return fmt.Errorf("check: serializable read: %w", err)
		}
		_, resp := state.Step(model.EtcdRequest{
			Type:  model.Range,
			Range: &model.RangeRequest{RangeOptions: model.RangeOptions{Start: read.Start, End: read.End}},
		})
		got := model.RangeResponse{KVs: []model.KeyValue{}, Count: read.Response.Count}
		for _, kv := range read.Response.Kvs {
			got.KVs = append(got.KVs, model.KeyValue{Key: string(kv.Key), ValueRevision: model.ValueRevision{
				Value:       model.ToValueOrHash(string(kv.Value)),
				ModRevision: kv.ModRevision,
				Version:     kv.Version,
			}})
		}
		if diff := cmp.Diff(*resp.Range, got); diff != "" {
			return fmt.Errorf("check: serializable read of %q at revision %d (-want +got):\n%s", read.Start, rev, diff)
		}
	}
	return nil
}

// Coverage counts what a history holds, so that a test can require that the history has what the test is about.
type Coverage struct {
	Operations, Unknown   int // recorded requests, and the writes among them with a lost answer
	Open                  int // of the latter, those that Resolve could not settle
	OldReads              int // answered reads at given revisions
	Leases, Revocations   int // answered
	Compactions           int // answered
	Serializable          int
	Watches, Resumable    int // all, and those with a start revision that got events
	Events, Creates, Prev int // delivered to watches; creates and those with prev_kv among them
	Several               int // responses with several events of one revision
	Progress              int
}

func cover(h History) Coverage {
	c := Coverage{Serializable: len(h.Serializable)}
	for _, r := range h.Reports {
		coverOperations(&c, r)
		for _, w := range r.Watch {
			c.Watches++
			coverWatch(&c, w)
		}
	}
	return c
}

func coverOperations(c *Coverage, r report.ClientReport) {
	for _, op := range r.KeyValue {
		c.Operations++
		req, resp := op.Input.(model.EtcdRequest), op.Output.(model.MaybeEtcdResponse)
		if resp.Error != "" {
			if !req.IsRead() {
				c.Unknown++
			}
			continue
		}
		switch {
		case req.Type == model.Range && req.Range.Revision != 0:
			c.OldReads++
		case req.Type == model.LeaseGrant:
			c.Leases++
		case req.Type == model.LeaseRevoke:
			c.Revocations++
		case req.Type == model.Compact && resp.ClientError == "":
			c.Compactions++
		}
	}
}

func coverWatch(c *Coverage, w model.WatchOperation) {
	var events int
	for _, resp := range w.Responses {
		if resp.IsProgressNotify {
			c.Progress++
		}
		events += len(resp.Events)
		for i, e := range resp.Events {
			if e.IsCreate {
				c.Creates++
			}
			if e.PrevValue != nil {
				c.Prev++
			}
			if i == 1 && e.Revision == resp.Events[0].Revision {
				c.Several++
			}
		}
	}
	c.Events += events
	if events > 0 && w.Request.Revision != 0 {
		c.Resumable++
	}
}
