package ranks

import (
	"bytes"
	"errors"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// requests are requests with ranks, and the same requests with the revisions of the book.
var requests = []struct {
	path        string
	kind        proto.Message
	ranks, revs string
}{
	{
		"/etcdserverpb.KV/Range",
		&pb.RangeRequest{},
		"key:'a' limit:3 revision:3 min_mod_revision:1 max_mod_revision:4 min_create_revision:2 max_create_revision:5",
		"key:'a' limit:3 revision:101 min_mod_revision:32 max_mod_revision:700 min_create_revision:100 " +
			"max_create_revision:701",
	},
	{"/etcdserverpb.KV/Put", &pb.PutRequest{}, "key:'a' lease:3", "key:'a' lease:3"},
	{"/etcdserverpb.KV/Compact", &pb.CompactionRequest{}, "revision:2 physical:true", "revision:100 physical:true"},
	{
		"/etcdserverpb.KV/Txn",
		&pb.TxnRequest{},
		`compare:{target:MOD key:'a' mod_revision:2} compare:{target:CREATE mod_revision:0} compare:{target:CREATE create_revision:4} compare:{version:2}
		success:{request_txn:{compare:{target:MOD mod_revision:3} failure:{request_range:{revision:2 limit:2}}}}`,
		`compare:{target:MOD key:'a' mod_revision:100} compare:{target:CREATE mod_revision:0} compare:{target:CREATE create_revision:700} compare:{version:2}
		success:{request_txn:{compare:{target:MOD mod_revision:101} failure:{request_range:{revision:100 limit:2}}}}`,
	},
	{
		"/etcdserverpb.Watch/Watch",
		&pb.WatchRequest{},
		"create_request:{start_revision:5 watch_id:3}",
		"create_request:{start_revision:701 watch_id:3}",
	},
	{"/etcdserverpb.Watch/Watch", &pb.WatchRequest{}, "cancel_request:{watch_id:3}", "cancel_request:{watch_id:3}"},
	{"/etcdserverpb.Maintenance/HashKV", &pb.HashKVRequest{}, "revision:4", "revision:700"},
}

// answers are answers with revisions, and the same answers with ranks.
var answers = []struct {
	path        string
	kind        proto.Message
	revs, ranks string
}{
	{
		"/etcdserverpb.KV/Range",
		&pb.RangeResponse{},
		"header:{cluster_id:101 revision:700 raft_term:32} kvs:{create_revision:100 mod_revision:101 version:32 " +
			"lease:700} count:100",
		"header:{cluster_id:101 revision:4 raft_term:32} kvs:{create_revision:2 mod_revision:3 version:32 lease:700} " +
			"count:100",
	},
	{
		"/etcdserverpb.KV/Txn",
		&pb.TxnResponse{},
		"header:{revision:101} responses:{response_put:{header:{revision:101} prev_kv:{mod_revision:100}}} " +
			"responses:{response_txn:{responses:{response_range:{kvs:{mod_revision:32}}}}}",
		"header:{revision:3} responses:{response_put:{header:{revision:3} prev_kv:{mod_revision:2}}} " +
			"responses:{response_txn:{responses:{response_range:{kvs:{mod_revision:1}}}}}",
	},
	{
		"/etcdserverpb.Watch/Watch", &pb.WatchResponse{},
		"header:{revision:700} compact_revision:100 events:{kv:{mod_revision:101} prev_kv:{create_revision:100}}",
		"header:{revision:4} compact_revision:2 events:{kv:{mod_revision:3} prev_kv:{create_revision:2}}",
	},
	{
		"/etcdserverpb.Maintenance/HashKV",
		&pb.HashKVResponse{},
		"compact_revision:-1 hash_revision:700 hash:5",
		"compact_revision:-1 hash_revision:4 hash:5",
	},
	{"/etcdserverpb.Auth/AuthStatus", &pb.AuthStatusResponse{}, "authRevision:5", "authRevision:5"},
	{"/etcdserverpb.Cluster/MemberList", &pb.MemberListResponse{}, "header:{cluster_id:5}", "header:{cluster_id:5}"},
}

func parse(t *testing.T, kind proto.Message, text string) proto.Message {
	t.Helper()
	m := kind.ProtoReflect().New().Interface()
	if err := prototext.Unmarshal([]byte(text), m); err != nil {
		t.Fatal(err)
	}
	return m
}

func encode(t *testing.T, m proto.Message) []byte {
	t.Helper()
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestRequests(t *testing.T) {
	tr := Translator{book(t)}
	for _, c := range requests {
		m, want := parse(t, c.kind, c.ranks), parse(t, c.kind, c.revs)
		before := proto.Clone(m)
		got, err := tr.request(c.path, m)
		if err != nil || !proto.Equal(got.(proto.Message), want) {
			t.Errorf("%v became %v (%v), want %v", m, got, err, want)
		}
		if !proto.Equal(m, before) {
			t.Errorf("the caller's %v was changed to %v", before, m)
		}
		data := encode(t, m)
		got, err = tr.request(c.path, &data)
		if err != nil || !bytes.Equal(*got.(*[]byte), encode(t, want)) {
			t.Errorf("%v as bytes: %v", m, err)
		}
		if !bytes.Equal(data, encode(t, m)) {
			t.Errorf("the caller's bytes of %v were changed", m)
		}
	}
	if _, err := tr.request("/etcdserverpb.Watch/Watch",
		parse(t, &pb.WatchRequest{}, "create_request:{start_revision:6}")); err == nil {
		t.Error("a watch starts at a rank that has no revision")
	}
}

func TestAnswers(t *testing.T) {
	b := book(t)
	b.patience = time.Millisecond
	tr := Translator{b}
	for _, c := range answers {
		m, want := parse(t, c.kind, c.revs), parse(t, c.kind, c.ranks)
		data := encode(t, m)
		if err := tr.answer(t.Context(), c.path, m); err != nil || !proto.Equal(m, want) {
			t.Errorf("%s became %v (%v), want %v", c.revs, m, err, want)
		}
		if err := tr.answer(t.Context(), c.path, &data); err != nil || !bytes.Equal(data, encode(t, want)) {
			t.Errorf("%s as bytes: %v", c.revs, err)
		}
	}
	for _, text := range []string{
		"header:{revision:99}", "header:{revision:701}", "kvs:{mod_revision:699}", "kvs:{create_revision:31}",
	} {
		if err := tr.answer(t.Context(), "", parse(t, &pb.RangeResponse{}, text)); !errors.Is(err, ErrUnknown) {
			t.Errorf("%s is no answer: %v", text, err)
		}
	}
}

// TestOddBytes: the translation keeps the oddities of an encoding.
func TestOddBytes(t *testing.T) {
	long := []byte{0x83, 0x80, 0x00} // 3 in three bytes
	revision := protowire.AppendTag(nil, 4, protowire.VarintType)
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	unknown := protowire.AppendBytes(protowire.AppendTag(nil, 900, protowire.BytesType), []byte{32, 3})
	limit := join(protowire.AppendTag(nil, 3, protowire.VarintType), long)
	otherType := protowire.AppendFixed64(protowire.AppendTag(nil, 4, protowire.Fixed64Type), 3)
	tr := Translator{book(t)}
	for _, c := range []struct {
		name     string
		in, want []byte
	}{
		{"an unknown field", join(unknown, revision, []byte{3}), join(unknown, revision, []byte{101})},
		{"a field twice", join(revision, []byte{2}, revision, []byte{3}), join(revision, []byte{100}, revision, []byte{101})},
		{"a long number", join(revision, long, limit), join(revision, []byte{101}, limit)},
		{"another wire type", otherType, otherType},
		{"cut short", join(revision, []byte{3}, limit[:2]), join(revision, []byte{3}, limit[:2])},
		{"no field", []byte{0}, []byte{0}},
		{"nothing", nil, nil},
	} {
		got, err := tr.request("/etcdserverpb.KV/Range", &c.in)
		if err != nil || !bytes.Equal(*got.(*[]byte), c.want) {
			t.Errorf("%s: % x became % x (%v), want % x", c.name, c.in, *got.(*[]byte), err, c.want)
		}
	}
	in := []byte{1, 2, 3}
	if got, err := tr.request("/etcdserverpb.KV/Nope", &in); err != nil || !bytes.Equal(*got.(*[]byte), in) {
		t.Error("a request to a method that is not known was changed:", err)
	}
	if _, err := tr.request("/etcdserverpb.KV/Range", "text"); err == nil {
		t.Error("a request of a type that nobody sends")
	}
}
