package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
)

// inspect runs f with a client of the inspection service, without a time limit.
func (c *ctl) inspect(cmd *cobra.Command, f func(context.Context, adminv1.InspectionClient) error) error {
	return c.stream(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
		return f(ctx, adminv1.NewInspectionClient(conn))
	})
}

// keyspaceFlag adds the flag that names a keyspace to a command.
func (c *ctl) keyspaceFlag(cmd *cobra.Command, name *string) *cobra.Command {
	cmd.Flags().StringVarP(name, "keyspace", "k", "default", "the keyspace")
	_ = cmd.RegisterFlagCompletionFunc("keyspace",
		func(cmd *cobra.Command, _ []string, start string) ([]string, cobra.ShellCompDirective) {
			return c.completeNames(cmd, nil, start)
		})
	return cmd
}

// receive calls f for each message of a stream.
func receive[T any](s grpc.ServerStreamingClient[T], f func(*T) error) error {
	for {
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := f(m); err != nil {
			return err
		}
	}
}

// logCommand is the command log with its subcommands.
func (c *ctl) logCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "log", Short: "Show the revision log of a keyspace, decoded", Args: args(cobra.NoArgs), RunE: help,
	}
	cmd.AddCommand(c.tailCommand(), c.showCommand())
	return cmd
}

func (c *ctl) tailCommand() *cobra.Command {
	var keyspace string
	var lines uint32
	var follow bool
	cmd := &cobra.Command{
		Use: "tail", Short: "Show the last entries", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r := &adminv1.LogRequest{Keyspace: keyspace, Last: lines, Follow: follow}
			return c.inspect(cmd, func(ctx context.Context, i adminv1.InspectionClient) error {
				s, err := i.Log(ctx, r)
				if err != nil {
					return err
				}
				err = receive(s, c.printEntry)
				if follow && cmd.Context().Err() != nil {
					return nil //nolint:nilerr // an interrupt is the normal end
				}
				return err
			})
		},
	}
	cmd.Flags().Uint32VarP(&lines, "lines", "n", 10, "number of entries to show, up to the newest")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on, and show new entries as they are written")
	return c.keyspaceFlag(cmd, &keyspace)
}

func (c *ctl) showCommand() *cobra.Command {
	var keyspace string
	cmd := &cobra.Command{
		Use: "show REV", Short: "Show the entry of a revision", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, given []string) error {
			rev, err := strconv.ParseInt(given[0], 10, 64)
			if err != nil || rev < 1 {
				return usageError{fmt.Errorf("%q is not a revision", given[0])}
			}
			r := &adminv1.LogRequest{Keyspace: keyspace, From: rev, Limit: 1}
			found := false
			err = c.inspect(cmd, func(ctx context.Context, i adminv1.InspectionClient) error {
				s, err := i.Log(ctx, r)
				if err != nil {
					return err
				}
				return receive(s, func(e *adminv1.LogEntry) error {
					if found = e.GetRevision() == rev; !found {
						return nil
					}
					return c.printEntry(e)
				})
			})
			if err == nil && !found {
				err = fmt.Errorf("the log has no entry of revision %d", rev)
			}
			return err
		},
	}
	return c.keyspaceFlag(cmd, &keyspace)
}

// printEntry prints an entry of the log. As a table it prints one line per event, without a header, because more
// entries may follow.
func (c *ctl) printEntry(e *adminv1.LogEntry) error {
	if c.format == formatTable {
		for _, ev := range e.GetEvents() {
			if _, err := fmt.Fprintln(c.out, eventText(e.GetRevision(), ev)); err != nil {
				return err
			}
		}
		return nil
	}
	var records []record
	for _, ev := range e.GetEvents() {
		v, prev := ev.GetVersion(), ev.GetPrevious()
		records = append(records, record{
			{"revision", e.GetRevision()},
			{"type", eventType(ev)},
			{"key", string(v.GetKey())},
			{"value", string(v.GetValue())},
			{"valueSize", v.GetValueSize()},
			{"createRevision", v.GetCreateRevision()},
			{"version", v.GetVersion()},
			{"lease", v.GetLease()},
			{"previousModRevision", prev.GetModRevision()},
		})
	}
	return c.print(e, records...)
}

func eventType(ev *adminv1.Event) string {
	if ev.GetDelete() {
		return "DELETE"
	}
	return "PUT"
}

func eventText(rev int64, ev *adminv1.Event) string {
	v := ev.GetVersion()
	var b strings.Builder
	fmt.Fprintf(&b, "%d %-6s %q", rev, eventType(ev), v.GetKey())
	if !ev.GetDelete() {
		if v.GetValueElsewhere() {
			fmt.Fprintf(&b, " = %d bytes", v.GetValueSize())
		} else {
			fmt.Fprintf(&b, " = %q", v.GetValue())
		}
		fmt.Fprintf(&b, " (version %d, create %d", v.GetVersion(), v.GetCreateRevision())
		if v.GetLease() != 0 {
			fmt.Fprintf(&b, ", lease %x", uint64(v.GetLease()))
		}
		b.WriteString(")")
	}
	if prev := ev.GetPrevious(); prev != nil {
		fmt.Fprintf(&b, ", was of revision %d", prev.GetModRevision())
	}
	return b.String()
}

// rowsCommand is the command rows.
func (c *ctl) rowsCommand() *cobra.Command {
	var keyspace, table string
	var limit uint64
	cmd := &cobra.Command{
		Use: "rows", Short: "Show the raw rows of a keyspace, and what each means (docs/formats.md)",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r := &adminv1.RowsRequest{Keyspace: keyspace, Limit: limit}
			if len(table) > 1 || table > "z" {
				return usageError{fmt.Errorf("--table %q: need the byte before the rows of a table, such as i", table)}
			}
			if table != "" {
				r.Begin, r.End = []byte(table), []byte{table[0] + 1}
			}
			return c.inspect(cmd, func(ctx context.Context, i adminv1.InspectionClient) error {
				s, err := i.Rows(ctx, r)
				if err != nil {
					return err
				}
				return receive(s, c.printRow)
			})
		},
	}
	cmd.Flags().Uint64VarP(&limit, "limit", "n", 0, "number of rows to show (0: all)")
	cmd.Flags().StringVar(&table, "table", "", "show the rows of one table: b, c, d, e, h, i, k, l, m, n or v")
	return c.keyspaceFlag(cmd, &keyspace)
}

func (c *ctl) printRow(r *adminv1.Row) error {
	if c.format == formatTable {
		_, err := fmt.Fprintf(c.out, "%-8s %x = %d bytes: %s\n",
			r.GetTable(), r.GetKey(), r.GetValueSize(), r.GetMeaning())
		return err
	}
	return c.print(r, record{
		{"table", r.GetTable()},
		{"key", fmt.Sprintf("%x", r.GetKey())},
		{"value", fmt.Sprintf("%x", r.GetValue())},
		{"valueSize", r.GetValueSize()},
		{"meaning", r.GetMeaning()},
	})
}

// fsckCommand is the command fsck.
func (c *ctl) fsckCommand() *cobra.Command {
	var keyspace string
	cmd := &cobra.Command{
		Use: "fsck", Short: "Check that all rows of a keyspace agree with one another, while it is served",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var report *adminv1.FsckReport
			bar := newProgress(c.errOut)
			err := c.inspect(cmd, func(ctx context.Context, i adminv1.InspectionClient) error {
				s, err := i.Fsck(ctx, &adminv1.FsckRequest{Keyspace: keyspace})
				if err != nil {
					return err
				}
				return receive(s, func(m *adminv1.FsckResponse) error {
					bar.show(m.GetProgress())
					report = m.GetReport()
					return nil
				})
			})
			bar.end()
			if err == nil && report == nil {
				err = errors.New("the server sent no report")
			}
			if err != nil {
				return err
			}
			return c.printReport(report)
		},
	}
	return c.keyspaceFlag(cmd, &keyspace)
}

// printReport prints the findings and a summary line. Findings are an error.
func (c *ctl) printReport(r *adminv1.FsckReport) error {
	if c.format == formatTable {
		for _, line := range append(r.GetFindings(), r.GetSummary()) {
			if _, err := fmt.Fprintln(c.out, line); err != nil {
				return err
			}
		}
	} else if err := c.print(r, record{
		{"revision", r.GetRevision()},
		{"findings", int64(len(r.GetFindings())) + r.GetMoreFindings()},
		{"summary", r.GetSummary()},
	}); err != nil {
		return err
	}
	if len(r.GetFindings()) > 0 {
		return errors.New("the rows do not agree with one another")
	}
	return nil
}

// progress is a line on a terminal that shows how far something is.
type progress struct {
	w     io.Writer // nil: the output is not a terminal
	shown bool
}

func newProgress(w io.Writer) *progress {
	if f, ok := w.(*os.File); ok {
		if fi, err := f.Stat(); err == nil && fi.Mode()&os.ModeCharDevice != 0 {
			return &progress{w: w}
		}
	}
	return &progress{}
}

// barWidth is the width of the bar in columns.
const barWidth = 30

func (p *progress) show(m *adminv1.FsckProgress) {
	if p.w == nil || m == nil {
		return
	}
	p.shown = true
	bar := ""
	if total := m.GetTotalBytes(); total > 0 {
		full := int(min(m.GetBytes(), total) * barWidth / total)
		bar = "[" + strings.Repeat("#", full) + strings.Repeat(".", barWidth-full) + "] "
	}
	fmt.Fprintf(p.w, "\r%s%-7s %d rows ", bar, m.GetPart(), m.GetRows())
}

func (p *progress) end() {
	if p.shown {
		fmt.Fprintln(p.w)
	}
}
