package mvcc

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestScheduleScript runs testdata/lanes, which tells in which order requests go to the lanes. The commands:
//
//	new lanes=N                   an empty schedule
//	put NAME key=K                a request that touches one key
//	put NAME key=(K,L) range=A-B  one that touches two keys and the range [A, B)
//	pick lane=N [limit=N]         the lane takes its next group, and has it in flight
//	back lane=N NAME …            the lane returns requests of its group, before it lands
//	land lane=N                   the group has been committed
//	cancel NAME                   the request's client has gone
//
// The output is what the lane takes, or what still waits.
func TestScheduleScript(t *testing.T) {
	var s *schedule
	named := map[string]*request{}
	names := map[*request]string{}
	datadriven.RunTest(t, "testdata/lanes", func(t *testing.T, d *datadriven.TestData) string {
		var lane int
		d.MaybeScanArgs(t, "lane", &lane)
		switch d.Cmd {
		case "new":
			var lanes int
			d.ScanArgs(t, "lanes", &lanes)
			s = newSchedule(lanes, spansMax)
		case "put":
			r, name := newRequest(&PutRequest{}, 1), d.CmdArgs[0].Key
			named[name], names[r] = r, name
			r.turn = s.put(r, scriptedConflictSet(t, d))
		case "pick":
			limit := 100
			d.MaybeScanArgs(t, "limit", &limit)
			group := make([]string, 0, limit)
			for _, r := range s.pick(lane, limit, 100, anyCost) {
				group = append(group, names[r])
			}
			return fmt.Sprintf("lane %d takes %v\n", lane, group)
		case "back":
			var back []*request
			for _, arg := range d.CmdArgs[1:] {
				back = append(back, named[arg.Key])
			}
			s.putBack(back)
		case "land":
			s.landed(lane)
		case "cancel":
			if !s.remove(named[d.CmdArgs[0].Key].turn) {
				return "a lane has it already\n"
			}
		default:
			d.Fatalf(t, "unknown command %s", d.Cmd)
		}
		return fmt.Sprintf("%d wait\n", s.waiting)
	})
}

func scriptedConflictSet(t *testing.T, d *datadriven.TestData) (f conflictSet) {
	for _, arg := range d.CmdArgs[1:] {
		for _, val := range arg.Vals {
			from, to, isRange := strings.Cut(val, "-")
			switch {
			case arg.Key == "key" && !isRange:
				f.addRange([]byte(from), nil)
			case arg.Key == "range" && isRange:
				f.addRange([]byte(from), []byte(to))
			default:
				d.Fatalf(t, "%s=%s", arg.Key, val)
			}
		}
	}
	return f
}
