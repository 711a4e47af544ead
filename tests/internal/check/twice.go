package check

import (
	"fmt"

	"github.com/headwaterdb/headwater/libs/revlog"
	"go.etcd.io/etcd/tests/v3/robustness/model"
	"go.etcd.io/etcd/tests/v3/robustness/report"
)

// once checks that no request was executed twice, and that none was executed and answered as if it had not been. It can
// tell because values of puts are unique. Such a history is not linearizable either, but once names the request.
func once(reports []report.ClientReport, log []revlog.Entry) error {
	written := map[version]int64{}
	for _, entry := range log {
		for _, e := range entry.Events {
			if e.Delete {
				continue
			}
			v := version{string(e.KV.Key), model.ToValueOrHash(string(e.KV.Value))}
			if rev, ok := written[v]; ok {
				return fmt.Errorf("check: %q got the value %v at two revisions, %d and %d", v.key, v.value, rev,
					entry.Rev)
			}
			written[v] = entry.Rev
		}
	}
	for _, r := range reports {
		for _, op := range r.KeyValue {
			req, resp := op.Input.(model.EtcdRequest), op.Output.(model.MaybeEtcdResponse)
			if req.Type != model.Txn || resp.Error != "" || resp.Txn == nil || !resp.Txn.Failure {
				continue
			}
			for _, o := range req.Txn.OperationsOnSuccess {
				if o.Type != model.PutOperation {
					continue
				}
				if rev, ok := written[version{o.Put.Key, o.Put.Value}]; ok {
					return fmt.Errorf("check: client %d: a transaction on %q was answered as failed at revision %d, "+
						"but the log has its put at %d (called at %d ns, answered at %d ns)",
						r.ClientID, o.Put.Key, resp.Revision, rev, op.Call, op.Return)
				}
			}
		}
	}
	return nil
}
