package compare

import "slices"

// The shape of the reference numbers: 20 connections, 200 closed-loop clients, 256-byte values.
var manyClients = []string{"--conns=20", "--clients=200"}

// manyKeys is the key space of the loads that count it.
const manyKeys = "--key-space-size=1000000"

const (
	unitPerSecond = "/s"
	unitKeys      = " keys/s"
)

// goal is what Headwater must reach. A zero field is no goal.
type goal struct {
	rate    float64 // at least, times etcd's
	ceiling float64 // at least, times the null server's rate
	cpu     float64 // at most, times etcd's CPU per request
	p50     float64 // at most, times etcd's median latency
}

// row is one load of the comparison.
type row struct {
	id       string
	work     string   // as the table names it
	args     []string // of hwbench
	fill     bool     // fill the key space first
	fillArgs []string // of the fill, beside what all have
	null     bool     // the null server can answer it
	tls      bool     // over TLS, with a certificate that the server makes by itself
	auth     bool     // with users and roles: the load is sent by a user who is not root
	unit     string
	p50      bool // the table shows the median latency in place of the rate
	goal     goal
}

// rows are the loads of small values, and of lists.
func rows() []row {
	load := func(args ...string) []string { return append(args, manyClients...) }
	return []row{
		{
			id:   "put",
			work: "put, fresh keys",
			args: load("put", "--sequential-keys"),
			null: true,
			unit: unitPerSecond,
			goal: goal{rate: 1.5, ceiling: 0.65, cpu: 0.65},
		},
		{
			id:   "create",
			work: "create (txn: mod_revision = 0, put)",
			args: load("create"),
			null: true,
			unit: unitPerSecond,
			goal: goal{rate: 1.7, cpu: 0.55},
		},
		{
			id:   "update",
			work: "update (txn: mod_revision = r, put, else get)",
			args: load("update"),
			fill: true,
			null: true,
			unit: unitPerSecond,
			goal: goal{rate: 1.7, cpu: 0.55},
		},
		{
			id:   "put-tls",
			work: "put, fresh keys, over TLS",
			args: load("put", "--sequential-keys"),
			tls:  true,
			unit: unitPerSecond,
			goal: goal{rate: 1.5, cpu: 0.65},
		},
		{
			id:   "range-tls",
			work: "range, one key, linearizable, over TLS",
			args: load("range"),
			fill: true,
			tls:  true,
			unit: unitPerSecond,
			goal: goal{rate: 1.4, cpu: 0.6},
		},
		{
			id:   "put-auth",
			work: "put, fresh keys, by a user with a role",
			args: load("put", "--sequential-keys"),
			auth: true,
			unit: unitPerSecond,
			goal: goal{rate: 1.5, cpu: 0.65},
		},
		{
			id:   "range-auth",
			work: "range, one key, linearizable, by a user with a role",
			args: load("range"),
			fill: true,
			auth: true,
			unit: unitPerSecond,
			goal: goal{rate: 1.4, cpu: 0.6},
		},
		{
			id:   "put-tls-auth",
			work: "put, fresh keys, by a user with a role, over TLS",
			args: load("put", "--sequential-keys"),
			tls:  true,
			auth: true,
			unit: unitPerSecond,
			goal: goal{rate: 1.5, cpu: 0.65},
		},
		{
			id:   "range-tls-auth",
			work: "range, one key, linearizable, by a user with a role, over TLS",
			args: load("range"),
			fill: true,
			tls:  true,
			auth: true,
			unit: unitPerSecond,
			goal: goal{rate: 1.4, cpu: 0.6},
		},
		{
			id:   "put1",
			work: "put, 1 client: p50",
			args: []string{"put", "--sequential-keys"},
			null: true,
			unit: unitPerSecond,
			p50:  true,
			goal: goal{p50: 1},
		},
		{
			id:   "range",
			work: "range, one key, linearizable",
			args: load("range"),
			fill: true,
			null: true,
			unit: unitPerSecond,
			goal: goal{rate: 1.4, ceiling: 0.8, cpu: 0.6},
		},
		{
			id:   "list",
			work: "list 10,000 keys by 1,000, 4 clients",
			args: []string{"list", "--conns=4", "--clients=4"},
			fill: true,
			unit: unitKeys,
			goal: goal{rate: 1.5, cpu: 0.65},
		},
		{
			id:       "list-4k",
			work:     "the same with values of 4 KiB, 1,000 keys by 100",
			args:     []string{"list", "--conns=4", "--clients=4", "--key-space-size=1000", "--limit=100"},
			fill:     true,
			fillArgs: []string{"--key-space-size=1000", "--val-size=4096"},
			unit:     unitKeys,
		},
		{
			id:       "count",
			work:     "count of 1,000,000 keys, 4 clients",
			args:     []string{"count", "--conns=4", "--clients=4", manyKeys},
			fill:     true,
			fillArgs: []string{manyKeys},
			unit:     unitPerSecond,
		},
		{
			id: "first-page", work: "first page of 500 of 1,000,000 keys, with its count, 4 clients",
			args: []string{"count", "--limit=500", "--conns=4", "--clients=4", manyKeys},
			fill: true, fillArgs: []string{manyKeys}, unit: unitPerSecond,
		},
		{
			id:   "mixed",
			work: "mixed 4:1 range:put",
			args: load("mixed"),
			fill: true,
			null: true,
			unit: unitPerSecond,
			goal: goal{rate: 1.5},
		},
		{
			id:   "lease",
			work: "lease keep-alive",
			args: load("lease-keepalive"),
			null: true,
			unit: unitPerSecond,
			goal: goal{rate: 1.2},
		},
	}
}

func rowIDs() (ids []string) {
	for _, r := range rows() {
		ids = append(ids, r.id)
	}
	return ids
}

func rowByID(id string) (row, bool) {
	all := rows()
	i := slices.IndexFunc(all, func(r row) bool { return r.id == id })
	if i < 0 {
		return row{}, false
	}
	return all[i], true
}
