package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
)

// keyspaceCommand is the command keyspace with its subcommands.
func (c *ctl) keyspaceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "keyspace", Aliases: []string{"ks"}, Short: "Manage the table of keyspaces",
		Args: args(cobra.NoArgs), RunE: help,
	}
	cmd.AddCommand(
		c.createCommand(), c.listCommand(),
		c.nameCommand("show NAME", "Show a keyspace",
			func(ctx context.Context, k adminv1.KeyspacesClient, name string) error {
				info, err := k.Show(ctx, &adminv1.ShowRequest{Name: name})
				return c.printKeyspace(info, err)
			}),
		c.setCommand(),
		c.nameCommand("delete NAME", "Delete a keyspace and everything in it, for good",
			func(ctx context.Context, k adminv1.KeyspacesClient, name string) error {
				answer, err := k.Delete(ctx, &adminv1.DeleteRequest{Name: name})
				if err != nil {
					return err
				}
				return c.print(answer, record{{"name", name}, {"state", "deleting"}})
			}),
		c.renameCommand(),
	)
	return cmd
}

// nameCommand is a command that takes the name of a keyspace.
func (c *ctl) nameCommand(
	use, short string, f func(context.Context, adminv1.KeyspacesClient, string) error,
) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: args(cobra.ExactArgs(1)), ValidArgsFunction: c.completeNames,
		RunE: func(cmd *cobra.Command, given []string) error {
			return c.keyspaces(cmd, func(ctx context.Context, k adminv1.KeyspacesClient) error {
				return f(ctx, k, given[0])
			})
		},
	}
}

// keyspaces runs f with a client of the service for keyspaces.
func (c *ctl) keyspaces(cmd *cobra.Command, f func(context.Context, adminv1.KeyspacesClient) error) error {
	return c.call(cmd, func(ctx context.Context, conn *grpc.ClientConn) error {
		return f(ctx, adminv1.NewKeyspacesClient(conn))
	})
}

// completeNames completes the name of a keyspace.
func (c *ctl) completeNames(cmd *cobra.Command, given []string, _ string) (names []string, _ cobra.ShellCompDirective) {
	if len(given) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	err := c.keyspaces(cmd, func(ctx context.Context, k adminv1.KeyspacesClient) error {
		a, err := k.List(ctx, &adminv1.ListRequest{})
		for _, info := range a.GetKeyspaces() {
			names = append(names, info.GetName())
		}
		return err
	})
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (c *ctl) createCommand() *cobra.Command {
	var s settings
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Create a keyspace", Args: args(cobra.ExactArgs(1)),
		Example: "  headwaterctl keyspace create team-a --limit bytes=2GiB --limit writes_per_second=500 " +
			"--label owner=web",
		RunE: func(cmd *cobra.Command, given []string) error {
			wanted, _, err := s.parse(cmd)
			if err != nil {
				return err
			}
			return c.keyspaces(cmd, func(ctx context.Context, k adminv1.KeyspacesClient) error {
				info, err := k.Create(ctx, &adminv1.CreateRequest{Name: given[0], Settings: wanted})
				if err == nil && wanted.GetAccess() != nil && info.GetSettings().GetAccess() == nil {
					err = fmt.Errorf("keyspace %s is open to all: the server's release has no access rules", given[0])
				}
				return c.printKeyspace(info, err)
			})
		},
	}
	s.flags(cmd)
	return cmd
}

func (c *ctl) setCommand() *cobra.Command {
	var s settings
	cmd := &cobra.Command{
		Use: "set NAME", Short: "Change settings of a keyspace; those that you do not name stay as they are",
		Example: "  headwaterctl keyspace set team-a --limit watches=1000 --limit bytes=0 --unlabel owner",
		Args:    args(cobra.ExactArgs(1)), ValidArgsFunction: c.completeNames,
		RunE: func(cmd *cobra.Command, given []string) error {
			wanted, mask, err := s.parse(cmd)
			if err == nil && len(mask) == 0 {
				err = usageError{fmt.Errorf("nothing to set: give --limit, --weight, --label, --unlabel, " +
					"--allow, --open or --closed")}
			}
			if err != nil {
				return err
			}
			r := &adminv1.ChangeRequest{Name: given[0], Settings: wanted, Mask: &fieldmaskpb.FieldMask{Paths: mask}}
			return c.keyspaces(cmd, func(ctx context.Context, k adminv1.KeyspacesClient) error {
				info, err := k.Change(ctx, r)
				return c.printKeyspace(info, err)
			})
		},
	}
	s.flags(cmd)
	cmd.Flags().StringArrayVar(&s.unlabels, "unlabel", nil, "key of a label to remove (may be repeated)")
	return cmd
}

func (c *ctl) renameCommand() *cobra.Command {
	return &cobra.Command{
		Use: "rename NAME TO", Short: "Give a keyspace another name; clients that use the old name no longer find it",
		Args: args(cobra.ExactArgs(2)), ValidArgsFunction: c.completeNames,
		RunE: func(cmd *cobra.Command, given []string) error {
			return c.keyspaces(cmd, func(ctx context.Context, k adminv1.KeyspacesClient) error {
				info, err := k.Rename(ctx, &adminv1.RenameRequest{Name: given[0], To: given[1]})
				return c.printKeyspace(info, err)
			})
		},
	}
}

func (c *ctl) listCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the keyspaces by name", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all := &adminv1.ListResponse{}
			err := c.keyspaces(cmd, func(ctx context.Context, k adminv1.KeyspacesClient) error {
				for r := (&adminv1.ListRequest{}); ; {
					page, err := k.List(ctx, r)
					if err != nil {
						return err
					}
					all.Keyspaces = append(all.Keyspaces, page.GetKeyspaces()...)
					if r.After = page.GetNext(); r.After == "" {
						return nil
					}
				}
			})
			if err != nil {
				return err
			}
			var records []record
			for _, info := range all.GetKeyspaces() {
				records = append(records, keyspaceRecord(info))
			}
			return c.print(all, records...)
		},
	}
}

func (c *ctl) printKeyspace(info *adminv1.Keyspace, err error) error {
	if err != nil {
		return err
	}
	return c.print(info, keyspaceRecord(info))
}

func keyspaceRecord(info *adminv1.Keyspace) record {
	created := ""
	if t := info.GetCreated(); t != nil {
		created = t.AsTime().UTC().Format(time.RFC3339)
	}
	state := strings.ToLower(strings.TrimPrefix(info.GetState().String(), "STATE_"))
	return record{
		{"name", info.GetName()},
		{"id", info.GetId()},
		{"state", state},
		{"created", created},
		{"access", accessText(info)},
		{"limits", limitsText(info.GetSettings().GetLimits())},
		{"labels", labelsText(info.GetSettings().GetLabels())},
	}
}

func limitsText(l *keyspacev1.Limits) string {
	var parts []string
	m := l.ProtoReflect()
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		if v := m.Get(fields.Get(i)).Uint(); v > 0 {
			parts = append(parts, fmt.Sprintf("%s=%d", fields.Get(i).Name(), v))
		}
	}
	return strings.Join(parts, ",")
}

func labelsText(labels map[string]string) string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		parts = append(parts, key+"="+labels[key])
	}
	return strings.Join(parts, ",")
}

// settings is the flags for settings.
type settings struct {
	limits, labels, unlabels []string
	weight                   uint32
	access
}

func (s *settings) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVar(&s.limits, "limit", nil,
		"NAME=NUMBER, such as bytes=2GiB, watches, streams, reads_per_second or writes_per_second; "+
			"0 means the server's default (may be repeated)")
	f.StringArrayVar(&s.labels, "label", nil, "KEY=VALUE (may be repeated)")
	f.Uint32Var(&s.weight, "weight", 0,
		"share of the server's work that the keyspace gets while others wait, in proportion to their weights")
	s.access.flags(cmd)
}

// parse reads the flags. mask names the settings that they set.
func (s *settings) parse(cmd *cobra.Command) (wanted *adminv1.Settings, mask []string, err error) {
	wanted = &adminv1.Settings{Limits: &keyspacev1.Limits{}, Labels: make(map[string]string), Weight: s.weight}
	if cmd.Flags().Changed("weight") {
		mask = append(mask, "weight")
	}
	if wanted.Access, err = s.access.parse(); err != nil {
		return nil, nil, usageError{err}
	}
	if wanted.Access != nil {
		mask = append(mask, "access")
	}
	for _, l := range s.limits {
		name, err := setLimit(wanted.Limits, l)
		if err != nil {
			return nil, nil, usageError{err}
		}
		mask = append(mask, "limits."+name)
	}
	for _, l := range s.labels {
		key, value, ok := strings.Cut(l, "=")
		if !ok || key == "" {
			return nil, nil, usageError{fmt.Errorf("--label %q: need KEY=VALUE", l)}
		}
		wanted.Labels[key] = value
		mask = append(mask, "labels."+key)
	}
	for _, key := range s.unlabels {
		if _, ok := wanted.Labels[key]; ok || key == "" {
			return nil, nil, usageError{fmt.Errorf("--unlabel %q: need a key that --label does not set", key)}
		}
		mask = append(mask, "labels."+key)
	}
	return wanted, mask, nil
}

// setLimit sets the limit of a flag, and returns its name.
func setLimit(l *keyspacev1.Limits, flag string) (name string, err error) {
	name, value, ok := strings.Cut(flag, "=")
	f := l.ProtoReflect().Descriptor().Fields().ByName(protoreflect.Name(name))
	if !ok || f == nil {
		return "", fmt.Errorf("--limit %q: need NAME=NUMBER, and there is no limit %q", flag, name)
	}
	n, err := number(value)
	if err != nil {
		return "", fmt.Errorf("--limit %q: %w", flag, err)
	}
	l.ProtoReflect().Set(f, protoreflect.ValueOfUint64(n))
	return name, nil
}

// units are the suffixes that a number may have.
var units = []struct {
	name  string
	shift uint
}{{"KiB", 10}, {"MiB", 20}, {"GiB", 30}, {"TiB", 40}}

// number reads a whole number, with or without a unit.
func number(s string) (uint64, error) {
	shift := uint(0)
	for _, u := range units {
		if rest, ok := strings.CutSuffix(s, u.name); ok {
			s, shift = rest, u.shift
		}
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n<<shift>>shift != n {
		return 0, fmt.Errorf("%q is not a whole number, with KiB, MiB, GiB, TiB or without", s)
	}
	return n << shift, nil
}
