package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/headwaterdb/headwater/libs/migrate"
)

// defaultURL is where etcd's clients look for a server.
const defaultURL = "http://" + defaultClient

// standardFile is the name that stands for standard input or output.
const standardFile = "-"

// exportCommand is export.
func (c *ctl) exportCommand() *cobra.Command {
	var from remote
	var prefix string
	var o migrate.ExportOptions
	cmd := &cobra.Command{
		Use:   "export [FILE]",
		Short: "Write the current keys and leases as JSON lines, for people and scripts",
		Long: "Writes the current keys and leases, all of one revision, as JSON lines. It leaves out history, users " +
			"and roles (snapshot save has those). FILE gets its name only when it is complete. Without FILE the " +
			"lines go to standard output.",
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, given []string) error {
			source, err := from.dial(cmd.Context(), c.dialTimeout)
			if err != nil {
				return err
			}
			defer source.Close()
			w := newProgressLine(c.errOut)
			defer w.end()
			o.Prefix = []byte(prefix)
			o.Report = func(n int64) { w.report(fmt.Sprintf("%d keys", n)) }
			export := func(out io.Writer) (int64, error) {
				return migrate.NewSource(source).Export(cmd.Context(), out, o)
			}
			if len(given) == 0 || given[0] == standardFile {
				_, err := export(c.out)
				return err
			}
			keys, err := writeWhole(given[0], export)
			if err != nil {
				return err
			}
			w.line(fmt.Sprintf("exported %d keys to %s", keys, given[0]))
			return nil
		},
	}
	from.flags(cmd, "from", defaultURL)
	from.keyspaceFlag(cmd)
	f := cmd.Flags()
	f.StringVar(&prefix, "prefix", "", "only keys that begin with this, and the leases attached to them")
	f.Int64Var(&o.Revision, "revision", 0, "a past revision that has not been compacted (0: the newest)")
	f.BoolVar(&o.Base64, "base64", false, "write all keys and values in base64, not only those that are not text")
	return cmd
}

// writeWhole writes a file. The file gets its name when it is complete.
func writeWhole(path string, write func(io.Writer) (int64, error)) (n int64, err error) {
	part := path + partSuffix
	f, err := os.OpenFile(part, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	n, err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(part, path)
	}
	if err != nil {
		_ = os.Remove(part)
	}
	return n, err
}

// importCommand is import.
func (c *ctl) importCommand() *cobra.Command {
	var to remote
	cmd := &cobra.Command{
		Use:   "import [FILE]",
		Short: "Put the keys and leases of an export",
		Long: "Grants the leases of an export, and puts its keys. It replaces keys that exist, and leaves other keys " +
			"alone. The keys get new revisions. Without FILE it reads standard input. You may repeat it.",
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, given []string) error {
			in := io.Reader(os.Stdin)
			if len(given) > 0 && given[0] != standardFile {
				f, err := os.Open(given[0])
				if err != nil {
					return err
				}
				defer f.Close()
				in = f
			}
			target, err := to.dial(cmd.Context(), c.dialTimeout)
			if err != nil {
				return err
			}
			defer target.Close()
			w := newProgressLine(c.errOut)
			done, err := migrate.Import(cmd.Context(), target, in,
				func(n int64) { w.report(fmt.Sprintf("%d keys", n)) })
			w.end()
			if err != nil {
				return fmt.Errorf("%w; %d keys and %d leases were put before that", err, done.Keys, done.Leases)
			}
			_, err = fmt.Fprintf(c.out, "imported %d keys and %d leases, up to revision %d\n",
				done.Keys, done.Leases, done.Revision)
			return err
		},
	}
	to.flags(cmd, "to", defaultURL)
	to.keyspaceFlag(cmd)
	return cmd
}
