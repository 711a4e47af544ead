package sidebyside

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/embed"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/headwaterdb/headwater/tests/internal/hw"
	"github.com/headwaterdb/headwater/tests/internal/refetcd"
)

const (
	callTimeout     = 2 * time.Minute // bounds one request
	receiveBytesMax = 1 << 30         // answers of any size are taken
)

// server is a process or an embedded server that a Target talks to.
type server interface {
	Addr() string
	Remove()
}

// Target is one server as a client sees it. It is used from one goroutine at a time.
type Target struct {
	name        string
	server      server
	restart     func() error
	dialOptions []grpc.DialOption
	ranked      bool   // its revisions have gaps, and are translated to ranks
	noSpace     bool   // the alarm is raised
	token       string // the token that its calls send; "": none

	conn     *grpc.ClientConn
	clients  clients
	identity *pb.ResponseHeader // ids of the first header seen: they must never change

	head       int64           // largest header revision seen
	leases     []int64         // server-picked lease ids of the sequence, in grant order
	leaseNames map[int64]int64 // the reverse: id to autoLease+k

	streams map[int]*stream
	tap     *stream // a watch of everything
}

// NewEtcd starts a real etcd.
func NewEtcd(name string, dial ...grpc.DialOption) (*Target, error) {
	return newEtcd(name, nil, dial)
}

func newEtcd(name string, configure []func(*embed.Config), dial []grpc.DialOption) (*Target, error) {
	s, err := refetcd.Start(configure...)
	if err != nil {
		return nil, err
	}
	return newTarget(name, s, func() error { s.Stop(); return s.Restart() }, dial)
}

// NewHeadwater starts a headwater process. What still runs at the end of the test is killed.
func NewHeadwater(tb testing.TB, program hw.Program) (*Target, error) {
	tb.Helper()
	p := process{Server: hw.New(tb, program, tb.TempDir())}
	if err := p.Start(); err != nil {
		return nil, err
	}
	// A crash rather than a clean stop: everything that was answered must survive it.
	return newTarget("headwater", p, func() error { return errors.Join(p.Kill(), p.Start()) }, nil)
}

// process is a headwater process as a server.
type process struct{ *hw.Server }

func (p process) Addr() string { return p.Endpoint() }

func (p process) Remove() {
	p.Kill() // if the server has ended by itself, its answers have shown it
}

// dialServer returns a connection to addr, a host:port or a target with a scheme, which takes answers of any size.
func dialServer(addr string, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	opts = append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(receiveBytesMax)),
	}, opts...)
	if !strings.Contains(addr, ":///") {
		addr = "passthrough:///" + addr
	}
	return grpc.NewClient(addr, opts...)
}

func newTarget(name string, s server, restart func() error, dial []grpc.DialOption) (*Target, error) {
	t := &Target{name: name, server: s, restart: restart, dialOptions: dial, head: 1, leaseNames: map[int64]int64{}}
	t.forget()
	if err := t.connect(0); err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

// forget drops the state of the last sequence.
func (t *Target) forget() {
	t.leases, t.streams = nil, map[int]*stream{}
	for id := range t.leaseNames { // a watch may still show the last event before the sequence
		t.leaseNames[id] = pastLease
	}
}

// connect dials the server and starts the tap at revision from (0: now).
func (t *Target) connect(from int64) error {
	conn, err := dialServer(t.server.Addr(), t.dialOptions...)
	if err != nil {
		return err
	}
	t.conn = conn
	t.clients = clients{
		kv: pb.NewKVClient(conn), watch: pb.NewWatchClient(conn), lease: pb.NewLeaseClient(conn),
		cluster: pb.NewClusterClient(conn), maint: pb.NewMaintenanceClient(conn), auth: pb.NewAuthClient(conn),
		conn: conn,
	}
	t.tap, err = openStream(t.clients.watch)
	if err != nil {
		return err
	}
	// No prev_kv here: etcd 3.7.3 shares events between watchers and would show it to all of them.
	everything := &pb.WatchCreateRequest{Key: []byte{0}, RangeEnd: []byte{0}, StartRevision: from}
	if t.tap.create(everything) == nil {
		return fmt.Errorf("%s does not answer a watch: %w", t.name, t.tap.err())
	}
	return nil
}

// Close ends the connection and the server.
func (t *Target) Close() {
	t.disconnect()
	t.server.Remove()
}

func (t *Target) disconnect() {
	for _, s := range t.streams {
		s.close()
	}
	if t.tap != nil {
		t.tap.close()
	}
	if t.conn != nil {
		t.conn.Close()
	}
}

// reopen restarts the server and connects again, with the tap from a revision on.
func (t *Target) reopen(from int64) error {
	t.disconnect()
	t.streams = map[int]*stream{}
	if err := t.restart(); err != nil {
		return err
	}
	return t.connect(from)
}

// outcome is what one operation gave: a response or an error.
type outcome struct {
	msg proto.Message
	err string // "Code: text", empty if there is a response
}

func failed(err error) outcome {
	s := status.Convert(err)
	return outcome{err: fmt.Sprintf("%s: %s", s.Code(), s.Message())}
}

// call sends the request of a plain operation, written for this target, and records what its answer says.
func (t *Target) call(op Op, req proto.Message) outcome {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	if t.token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "token", t.token)
	}
	res, err := kinds[op.Kind].call(ctx, &t.clients, req)
	if err != nil {
		return failed(err)
	}
	if grant, ok := res.(*pb.LeaseGrantResponse); ok && op.Req.(*pb.LeaseGrantRequest).GetID() == 0 {
		if grant.GetID() <= 0 {
			return outcome{err: fmt.Sprintf("server-picked lease id %d is not positive", grant.GetID())}
		}
		t.leaseNames[grant.GetID()] = autoLease + int64(len(t.leases))
		t.leases = append(t.leases, grant.GetID())
	}
	_, alive := res.(*pb.LeaseKeepAliveResponse)
	if problem := t.checkHeader(headerOf(res), alive && t.ranked); problem != "" {
		return outcome{err: problem}
	}
	if alarm, ok := req.(*pb.AlarmRequest); ok && alarm.GetAction() != pb.AlarmRequest_GET {
		if err := t.obey(ctx, alarm); err != nil {
			return failed(err)
		}
	}
	nameLeases(res, t.leaseNames)
	return outcome{msg: res}
}

// obey waits until the server obeys a change of the alarm, if that takes time (T21).
func (t *Target) obey(ctx context.Context, alarm *pb.AlarmRequest) error {
	s, ok := t.server.(obeyer)
	raised := alarm.GetAction() == pb.AlarmRequest_ACTIVATE
	if !ok || alarm.GetAlarm() != pb.AlarmType_NOSPACE || raised == t.noSpace {
		return nil
	}
	t.noSpace = raised
	return s.obeys(ctx, raised)
}

// checkHeader follows the revision, and checks that ids never change and revisions never go back. With late the
// revision may be what another pod knew a second ago, as in the header of a relayed keep-alive.
func (t *Target) checkHeader(h *pb.ResponseHeader, late bool) string {
	if h == nil {
		return ""
	}
	if t.identity == nil {
		t.identity = h
	}
	if h.GetClusterId() != t.identity.GetClusterId() || h.GetMemberId() != t.identity.GetMemberId() {
		return fmt.Sprintf("header ids changed from %v to %v", t.identity, h)
	}
	if h.GetRevision() == 0 { // responses of Member* methods have none
		return ""
	}
	if late && h.GetRevision() < t.head {
		return ""
	}
	if h.GetRevision() < t.head {
		return fmt.Sprintf("header revision went back from %d to %d", t.head, h.GetRevision())
	}
	t.head = h.GetRevision()
	return ""
}
