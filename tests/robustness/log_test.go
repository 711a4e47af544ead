package robustness

import (
	"errors"

	"github.com/headwaterdb/headwater/libs/revlog"
	"github.com/headwaterdb/headwater/tests/internal/load"
	"go.etcd.io/etcd/tests/v3/robustness/model"
	"go.uber.org/zap"
)

func headwaterPersisted(lg *zap.Logger, dataDir string, h load.History) ([]revlog.Entry, []model.EtcdRequest, error) {
	return nil, nil, errors.New("mvcc is not there yet")
}
