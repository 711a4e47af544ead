package clients

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/headwaterdb/headwater/tests/internal/refetcd"
)

// command is one call of etcdctl.
type command struct {
	args  string // split at spaces; LEASE is the last lease granted, MEMBER the member's id, NUL a zero byte
	stdin string
}

// scripts run on a fresh etcd and on a fresh headwater. etcdctl must print the same on both.
var scripts = map[string][]command{
	"put and get": {
		{args: "put a 1"},
		{args: "put a 2 --prev-kv"},
		{args: "put b", stdin: "from stdin\n"},
		{args: "put a --ignore-value --prev-kv"},
		{args: "put nope --ignore-value"},
		{args: "put a x --ignore-lease"},
		{args: "put -- -dash -value"},
		{args: "put d 1 --lease=1234abcd"},
		{args: "get a"},
		{args: "get a -w json"},
		{args: "get a -w fields"},
		{args: "get a --hex"},
		{args: "get a b"},
		{args: "get a c -w json"},
		{args: "get --prefix a"},
		{args: "get --from-key b"},
		{args: "get  --prefix --keys-only -w simple a"},
		{args: "get a --print-value-only"},
		{args: "get a z --count-only -w fields"},
		{args: "get a z --limit 1"},
		{args: "get a z --order DESCEND"},
		{args: "get a z --order ASCEND --sort-by VALUE"},
		{args: "get a z --order DESCEND --sort-by MODIFY --limit 1"},
		{args: "get a z --sort-by VERSION"},
		{args: "get a z --sort-by CREATE --order DESCEND"},
		{args: "get a --rev 2"},
		{args: "get a --rev 99"},
		{args: "get a z --min-mod-rev 3"},
		{args: "get a z --max-mod-rev 3"},
		{args: "get a z --min-create-rev 3 --max-create-rev 4"},
		{args: "get a --consistency=s"},
		{args: "get --stream a z"},
		{args: "get --stream --prefix a -w json"},
		{args: "get nothing"},
		{args: "get nothing -w json"},
	},
	"del": {
		{args: "put a 1"},
		{args: "put b 2"},
		{args: "put c 3"},
		{args: "put k/1 x"},
		{args: "put k/2 y"},
		{args: "del zz"},
		{args: "del a --prev-kv"},
		{args: "del --prefix k/ --prev-kv"},
		{args: "del b c"},
		{args: "del --from-key a"},
		{args: "del a -w json"},
		{args: "get --from-key a"},
	},
	"txn": {
		{args: "put a 1"},
		{args: "txn", stdin: "value(\"a\") = \"1\"\n\nput b 2\nget a\n\nput b 3\n\n"},
		{args: "txn", stdin: "mod(\"a\") > \"5\"\n\nput b 4\n\nget b\ndel a\n\n"},
		{args: "txn -w json", stdin: "version(\"zz\") = \"0\"\ncreate(\"zz\") = \"0\"\n\nput zz 1\n\n\n"},
		{args: "txn -i", stdin: "mod(\"a\") != \"9\"\n\nput a 9\n\nget a\n\n"},
		{args: "txn", stdin: "value(\"a\") = \"1\"\n\nput a 1\nput a 2\n\n\n"},
		{args: "get --from-key a"},
	},
	"compaction": {
		{args: "put a 1"},
		{args: "put a 2"},
		{args: "put a 3"},
		{args: "compaction 3"},
		{args: "compaction 3"},
		{args: "compaction 99"},
		{args: "get a --rev 2"},
		{args: "get a --rev 3"},
		{args: "compaction 4 --physical"},
		{args: "compaction x"},
	},
	"lease": {
		{args: "lease grant 300"},
		{args: "lease list"},
		{args: "put a 1 --lease=LEASE"},
		{args: "get a -w fields"},
		{args: "lease timetolive LEASE"},
		{args: "lease timetolive LEASE --keys"},
		{args: "lease keep-alive LEASE --once"},
		{args: "lease revoke LEASE"},
		{args: "lease revoke LEASE"},
		{args: "lease timetolive LEASE"},
		{args: "lease keep-alive LEASE --once"},
		{args: "get a"},
		{args: "lease list"},
		{args: "lease grant 9000000001"},
		{args: "put a --lease=77 1"},
	},
	"cluster and maintenance": {
		{args: "put a 1"},
		{args: "member list -w fields"},
		{args: "endpoint health"},
		{args: "endpoint hashkv -w fields"},
		{args: "alarm list"},
		{args: "alarm disarm"},
		{args: "defrag"},
		{args: "move-leader 1234"},
		{args: "move-leader MEMBER"},
		{args: "version"},
		{args: "auth status"},
		{args: "check perf --nonsense"},
	},
}

// TestEtcdctl compares the output of etcdctl's commands.
func TestEtcdctl(t *testing.T) {
	bin := etcdctl(t)
	for name, script := range scripts {
		t.Run(name, func(t *testing.T) {
			ref, err := refetcd.Start()
			if err != nil {
				t.Fatal(err)
			}
			defer ref.Remove()
			s := start(t)
			want, got := &shell{bin: bin, addr: ref.Addr()}, &shell{bin: bin, addr: s.Endpoint()}
			for _, c := range script {
				if diff := cmp.Diff(want.run(c), got.run(c)); diff != "" {
					t.Errorf("etcdctl %s\n(-etcd +headwater)\n%s", c.args, diff)
				}
			}
		})
	}
}

// shell runs etcdctl against one server.
type shell struct {
	bin, addr     string
	lease, member string
}

var (
	leaseID   = regexp.MustCompile(`\b[0-9a-f]{15,16}\b`)
	bigNumber = regexp.MustCompile(
		`("?(?:cluster_id|member_id|raft_term|ClusterID|MemberID|RaftTerm|Term|ID|Lease|Hash|HashRevision|hash)"? ?: ` +
			`?)"?[0-9a-f]+"?`,
	)
	took      = regexp.MustCompile(`took(?: =)? [0-9.]+[mµn]?s`)
	remaining = regexp.MustCompile(`remaining\(\d+s\)`)
	clients   = regexp.MustCompile(`"ClientURL" : "http://127.0.0.1:\d+"`)
	peers     = regexp.MustCompile(`"PeerURL" : "[^"]*"\n`)
	names     = regexp.MustCompile(`"Name" : "[^"]+"`)
	granted   = regexp.MustCompile(`lease ([0-9a-f]+) granted`)
	members   = regexp.MustCompile(`(?m)^([0-9a-f]+), started`)
)

// normalise replaces addresses, ids and times.
func (s *shell) normalise(out string) string {
	out = clients.ReplaceAllString(out, `"ClientURL" : "http://ADDRESS"`)
	out = strings.ReplaceAll(out, s.addr, "ADDRESS")
	out = peers.ReplaceAllString(out, "")
	out = names.ReplaceAllString(out, `"Name" : "NAME"`)
	out = took.ReplaceAllString(out, "took TIME")
	out = remaining.ReplaceAllString(out, "remaining(TIME)")
	out = bigNumber.ReplaceAllString(out, "${1}ID")
	out = leaseID.ReplaceAllString(out, "ID")
	// etcdctl logs failed requests to standard error with times and stack positions.
	var kept []string
	for line := range strings.Lines(out) {
		if !strings.HasPrefix(line, "{") || !strings.Contains(line, `"logger":"etcd-client"`) {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

func (s *shell) run(c command) string {
	var args []string
	for _, a := range strings.Fields(c.args) {
		a = strings.ReplaceAll(strings.ReplaceAll(a, "LEASE", s.lease), "NUL", "\x00")
		if strings.Contains(a, "MEMBER") {
			a = s.memberID()
		}
		args = append(args, a)
	}
	out, code := s.exec(c.stdin, args...)
	if m := granted.FindStringSubmatch(out); m != nil {
		s.lease = m[1]
	}
	return fmt.Sprintf("exit %d\n%s", code, s.normalise(out))
}

// globalFlags are the flags of every call. etcdctl's default timeouts are a few seconds, which is too short on a busy
// machine.
func globalFlags(addr string) []string {
	return []string{"--endpoints=" + addr, "--dial-timeout=60s", "--command-timeout=60s"}
}

func (s *shell) exec(stdin string, args ...string) (string, int) {
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.bin, append(globalFlags(s.addr), args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return err.Error(), -1
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func (s *shell) memberID() string {
	if s.member == "" {
		out, _ := s.exec("", "member", "list")
		if m := members.FindStringSubmatch(out); m != nil {
			s.member = m[1]
		}
	}
	return s.member
}

// running is an etcdctl that goes on until it is told to stop.
type running struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines *bufio.Reader
	errs  *bytes.Buffer
	stdin io.WriteCloser
}

func startEtcdctl(t *testing.T, s *server, args ...string) *running {
	t.Helper()
	r := &running{
		t: t, cmd: exec.Command(etcdctl(t), append(globalFlags(s.Endpoint()), args...)...), errs: &bytes.Buffer{},
	}
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if r.stdin, err = r.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	r.lines, r.cmd.Stderr = bufio.NewReader(out), r.errs
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if r.cmd.ProcessState == nil {
			r.cmd.Process.Kill()
			r.cmd.Wait()
		}
	})
	return r
}

// expect reads a line for each of want. The lines must come in that order, without others in between.
func (r *running) expect(want ...string) {
	r.t.Helper()
	for _, w := range want {
		line, err := r.lines.ReadString('\n')
		if err != nil || strings.TrimSuffix(line, "\n") != w {
			r.t.Fatalf("etcdctl printed %q (%v), want %q; standard error:\n%s", line, err, w, r.errs)
		}
	}
}

// stop tells it to end and waits for that. An interrupt would not do: programs that a shell has started in the
// background ignore it.
func (r *running) stop() {
	r.t.Helper()
	r.cmd.Process.Signal(syscall.SIGTERM)
	r.cmd.Wait() // the exit code differs by command
}

// TestEtcdctlWatch: etcdctl watches from a revision on, with previous values, and interactively.
func TestEtcdctlWatch(t *testing.T) {
	s := start(t)
	ctl := &shell{bin: etcdctl(t), addr: s.Endpoint()}
	ctl.exec("", "put", "k1", "old")
	w := startEtcdctl(t, s, "watch", "k", "--prefix", "--rev=1", "--prev-kv")
	w.expect("PUT", "k1", "old")
	ctl.exec("", "put", "k1", "new")
	w.expect("PUT", "k1", "old", "k1", "new")
	ctl.exec("", "del", "k1")
	w.expect("DELETE", "k1", "new", "k1", "")
	w.stop()

	i := startEtcdctl(t, s, "watch", "-i")
	fmt.Fprintln(i.stdin, "watch a --rev=5")
	ctl.exec("", "put", "a", "1")
	i.expect("PUT", "a", "1")
	fmt.Fprintln(i.stdin, "progress")
	i.expect("progress notify: 5")
	i.stop()
}

// TestEtcdctlLock: etcdctl lock runs a command while it holds the lock, and then releases it.
func TestEtcdctlLock(t *testing.T) {
	s := start(t)
	holder := startEtcdctl(t, s, "lock", "l")
	key, err := holder.lines.ReadString('\n')
	if err != nil || !strings.HasPrefix(key, "l/") {
		t.Fatalf("lock printed %q, %v", key, err)
	}
	waiter := startEtcdctl(t, s, "lock", "l", "echo", "locked")
	c, ctx := client(t, s), timeout(t)
	eventually(t, "the waiter's key", func() bool {
		res, err := c.Get(ctx, "l/", clientv3.WithPrefix(), clientv3.WithCountOnly())
		return err == nil && res.Count == 2
	})
	holder.stop()
	waiter.expect("locked")
	if err := waiter.cmd.Wait(); err != nil {
		t.Errorf("lock with a command: %v\n%s", err, waiter.errs)
	}
}

// TestEtcdctlElect: etcdctl elect with candidates and listeners.
func TestEtcdctlElect(t *testing.T) {
	s := start(t)
	first := startEtcdctl(t, s, "elect", "e", "one")
	if key, err := first.lines.ReadString('\n'); err != nil || !strings.HasPrefix(key, "e/") {
		t.Fatalf("elect printed %q, %v", key, err)
	}
	first.expect("one")
	listener := startEtcdctl(t, s, "elect", "-l", "e")
	if _, err := listener.lines.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	listener.expect("one")
	second := startEtcdctl(t, s, "elect", "e", "two")
	first.stop()
	if key, err := second.lines.ReadString('\n'); err != nil || !strings.HasPrefix(key, "e/") {
		t.Fatalf("elect printed %q, %v", key, err)
	}
	second.stop()
	listener.stop()
}

// TestEtcdctlMakeMirror: etcdctl make-mirror copies one server's keys to another: first the existing keys, then all
// changes.
func TestEtcdctlMakeMirror(t *testing.T) {
	src, dst := start(t), start(t)
	from, to, ctx := client(t, src), client(t, dst), timeout(t)
	if _, err := from.Put(ctx, "k/before", "1"); err != nil {
		t.Fatal(err)
	}
	m := startEtcdctl(t, src, "make-mirror", "--prefix=k/", dst.Endpoint())
	copied := func(key, value string) func() bool {
		return func() bool {
			res, err := to.Get(ctx, key)
			return err == nil && (len(res.Kvs) == 1) == (value != "") &&
				(value == "" || string(res.Kvs[0].Value) == value)
		}
	}
	eventually(t, "the base", copied("k/before", "1"))
	if _, err := from.Txn(ctx).Then(clientv3.OpPut("k/a", "1"), clientv3.OpPut("k/b", "2")).Commit(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "an update", copied("k/b", "2"))
	if _, err := from.Delete(ctx, "k/before"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a delete", copied("k/before", ""))
	m.stop()
}

// TestEtcdctlStatus: the columns of etcdctl endpoint status have values that make sense.
func TestEtcdctlStatus(t *testing.T) {
	s := start(t)
	ctl := &shell{bin: etcdctl(t), addr: s.Endpoint()}
	out, code := ctl.exec("", "endpoint", "status", "-w", "fields")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
	fields := map[string]string{}
	for line := range strings.Lines(out) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " : "); ok {
			fields[strings.Trim(name, `"`)] = strings.Trim(value, `"`)
		}
	}
	if fields["Leader"] == "0" || fields["Leader"] != fields["MemberID"] || fields["Revision"] != "1" ||
		fields["IsLearner"] != "false" {
		t.Errorf("status: %v", fields)
	}
}
