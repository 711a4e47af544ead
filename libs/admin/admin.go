package admin

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/headwaterdb/headwater/libs/engine"
	"github.com/headwaterdb/headwater/libs/fsck"
	"github.com/headwaterdb/headwater/libs/keyspace"
	"github.com/headwaterdb/headwater/libs/mvcc"
	"github.com/headwaterdb/headwater/libs/snapshot"
	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
)

// Limits.
const (
	// pageMax bounds the keyspaces of one answer, and pageBytes their rows. gRPC's clients take 4 MiB by default.
	pageMax   = 1000
	pageBytes = 2 << 20
	// logEntries and logBytes bound one read of a log.
	logEntries = 256
	logBytes   = 4 << 20
	// valueMax bounds the bytes of a row's value that are shown.
	valueMax = 64 << 10
	// lastMax bounds how many entries before the head a log is shown from.
	lastMax = 10_000
)

// Activity is what a process does for a keyspace: whether the keyspace is open, the calls under way, how many of them
// are streams, the open watches, and what the process has done since it opened the keyspace.
type Activity struct {
	Open                    bool
	Calls, Streams, Watches int
	Reads, Writes, Refused  uint64
}

// Host is the process that serves the keyspaces. Its methods may be called from any goroutine.
type Host interface {
	// First returns the name of the keyspace that has no row in the table; "": all have one.
	First() string
	// Own is the name of the keyspace that the process has been started with.
	Own() string
	// FirstAccess is who may enter First; nil: everybody.
	FirstAccess() *keyspacev1.AccessRule
	// Restrict changes who may enter Own, by what change writes, and obeys that. restricts says that not everybody may
	// by then.
	Restrict(ctx context.Context, restricts bool, change func(context.Context) error) error
	// Prepare is called before a keyspace is put into the table.
	Prepare(ctx context.Context) error
	// Activity returns what the process does for the keyspace of an id; 0: the first.
	Activity(id uint64) Activity
	// Visit opens a keyspace. The process keeps it open until leave is called. Errors: gRPC's.
	Visit(ctx context.Context, name string) (store *mvcc.Store, leave func(), err error)
	// KnowsClients says whether clients must have certificates. New keyspaces are then closed.
	KnowsClients() bool
	// About describes the process.
	About() About
	// Alone describes a process that serves alone. nil: it is a pod, and the rows of the deployment describe it.
	Alone() *keyspacev1.Pod
	// Coordination returns where the elections are in which the process may take part.
	Coordination() []Coordination
	// Beside are the rows beside the keyspace of an id; nil: the process serves alone.
	Beside(id uint64) *mvcc.Beside
	// Enforces tells whether a setting is obeyed; it is called as in Settings: limits.bytes, weight.
	Enforces(setting string) bool
	// RestoreDir returns the directory for a received file from which a keyspace is restored, and how many bytes must
	// stay free there. Errors: gRPC's, for example that the process cannot restore.
	RestoreDir() (dir string, reserve int64, err error)
}

// Options are what the services need.
type Options struct {
	Engine engine.Store
	Root   []byte // of the table of keyspaces
	Host   Host
}

// Services are the admin API. Their methods may be called from any goroutine, also within the process.
type Services struct {
	Keyspaces  adminv1.KeyspacesServer
	Migration  adminv1.MigrationServer
	Inspection adminv1.InspectionServer
	Deployment adminv1.DeploymentServer
}

// New returns the services.
func New(o Options) Services {
	return Services{
		&keyspaces{Options: o}, newMigration(o), &inspection{Options: o}, &deployment{Options: o, now: time.Now},
	}
}

// Register registers the admin API on r.
func (s Services) Register(r grpc.ServiceRegistrar) {
	adminv1.RegisterKeyspacesServer(r, s.Keyspaces)
	adminv1.RegisterMigrationServer(r, s.Migration)
	adminv1.RegisterInspectionServer(r, s.Inspection)
	adminv1.RegisterDeploymentServer(r, s.Deployment)
}

// codesOf are the codes of errors that are not gRPC's. If an error wraps several, the first in this list counts.
var codesOf = []struct {
	err  error
	code codes.Code
}{
	{keyspace.ErrNotFound, codes.NotFound},
	{keyspace.ErrExists, codes.AlreadyExists},
	{keyspace.ErrName, codes.InvalidArgument},
	{keyspace.ErrSettings, codes.InvalidArgument},
	{keyspace.ErrFormat, codes.FailedPrecondition},
	{mvcc.ErrNewerFormat, codes.FailedPrecondition},
	{mvcc.ErrCompacted, codes.OutOfRange},
	{mvcc.ErrSetBack, codes.FailedPrecondition},
	{mvcc.ErrFollowing, codes.Unavailable},
	{mvcc.ErrUnfinished, codes.Unavailable},
	{mvcc.ErrUnfollowable, codes.OutOfRange},
	{mvcc.ErrNotFollowing, codes.FailedPrecondition},
	{mvcc.ErrGap, codes.FailedPrecondition},
	{mvcc.ErrDiverged, codes.FailedPrecondition},
	{mvcc.ErrAhead, codes.Unavailable},
	{mvcc.ErrOvertaken, codes.Aborted},
	{mvcc.ErrTooLarge, codes.InvalidArgument},
	{mvcc.ErrTwice, codes.InvalidArgument},
	{snapshot.ErrForeign, codes.InvalidArgument},
	{snapshot.ErrDamaged, codes.InvalidArgument},
	{snapshot.ErrNoSum, codes.InvalidArgument},
	{snapshot.ErrNoSpace, codes.ResourceExhausted},
	{mvcc.ErrCorrupt, codes.DataLoss},
	{mvcc.ErrNoSpace, codes.ResourceExhausted},
	{mvcc.ErrUnavailable, codes.Unavailable},
	{mvcc.ErrClosed, codes.Unavailable},
	{fsck.ErrNoKeyspace, codes.NotFound},
	{fsck.ErrUnfinished, codes.Unavailable},
	{context.Canceled, codes.Canceled},
	{context.DeadlineExceeded, codes.DeadlineExceeded},
}

// codesOfClasses are the codes of the engine's errors.
var codesOfClasses = map[engine.Class]codes.Code{
	engine.Closed:         codes.Unavailable,
	engine.Damaged:        codes.DataLoss,
	engine.TooLarge:       codes.InvalidArgument,
	engine.NoSpace:        codes.ResourceExhausted,
	engine.UnknownOutcome: codes.Unavailable, // package keyspace has tried again and given up
	engine.Unavailable:    codes.Unavailable,
	engine.Conflict:       codes.Unavailable,
	engine.TooOld:         codes.Unavailable,
}

// grpcErr returns err in the form that clients get.
func grpcErr(err error) error {
	if err == nil {
		return nil
	}
	for _, c := range codesOf {
		if errors.Is(err, c.err) {
			return status.Error(c.code, err.Error())
		}
	}
	if code, ok := codesOfClasses[engine.ClassOf(err)]; ok {
		return status.Error(code, err.Error())
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	return status.Error(codes.Unknown, err.Error())
}

// refuseFirst refuses to change the first keyspace.
func (o *Options) refuseFirst(name, what string) error {
	if name == "" || name != o.Host.First() {
		return nil
	}
	return status.Errorf(codes.FailedPrecondition,
		"the keyspace %s is built in and has no row in the table: it cannot be %s", name, what)
}

// place returns where the rows of a keyspace are. "" means the first.
func (o *Options) place(ctx context.Context, name string) (prefix []byte, err error) {
	if first := o.Host.First(); first != "" && (name == "" || name == first) {
		return nil, nil
	}
	info, err := keyspace.Show(ctx, o.Engine, o.Root, name)
	return info.Prefix, err
}
