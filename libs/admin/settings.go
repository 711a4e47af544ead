package admin

import (
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	adminv1 "github.com/headwaterdb/headwater/protos/headwater/admin/v1"
	keyspacev1 "github.com/headwaterdb/headwater/protos/headwater/keyspace/v1"
)

// checkEnforced refuses settings that nothing would apply.
func (o *Options) checkEnforced(s *adminv1.Settings) error {
	if w := s.GetWeight(); w > 1 && !o.Host.Enforces("weight") {
		return notEnforced("weight")
	}
	var err error
	s.GetLimits().ProtoReflect().Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		name := "limits." + string(f.Name())
		if !o.Host.Enforces(name) {
			err = notEnforced(name)
		}
		return err == nil
	})
	return err
}

func notEnforced(setting string) error {
	return status.Errorf(codes.InvalidArgument, "this release does not enforce %s, so it cannot be set", setting)
}

// settingsOf returns the settings in a row.
func settingsOf(row *keyspacev1.Keyspace) *adminv1.Settings {
	return &adminv1.Settings{
		Limits: row.GetLimits(),
		Weight: row.GetWeight(),
		Labels: row.GetLabels(),
		Access: row.GetAccess(),
	}
}

// take copies to row the field of s that a mask names. Errors: InvalidArgument.
func take(row *keyspacev1.Keyspace, s *adminv1.Settings, path string) error {
	head, rest, part := strings.Cut(path, ".")
	switch {
	case path == "weight":
		row.Weight = s.GetWeight()
	case path == "access":
		row.Access = proto.CloneOf(s.GetAccess())
	case path == "labels":
		row.Labels = s.GetLabels()
	case path == "limits":
		row.Limits = proto.CloneOf(s.GetLimits())
	case head == "labels" && part:
		takeLabel(row, s, rest)
	case head == "limits" && part:
		return takeLimit(row, s, rest)
	default:
		return status.Errorf(codes.InvalidArgument, "there is no setting %q", path)
	}
	return nil
}

func takeLabel(row *keyspacev1.Keyspace, s *adminv1.Settings, key string) {
	value, ok := s.GetLabels()[key]
	if !ok {
		delete(row.Labels, key)
		return
	}
	if row.Labels == nil {
		row.Labels = make(map[string]string)
	}
	row.Labels[key] = value
}

func takeLimit(row *keyspacev1.Keyspace, s *adminv1.Settings, name string) error {
	f := (*keyspacev1.Limits)(nil).ProtoReflect().Descriptor().Fields().ByName(protoreflect.Name(name))
	if f == nil {
		return status.Errorf(codes.InvalidArgument, "there is no limit %q", name)
	}
	if row.Limits == nil {
		row.Limits = new(keyspacev1.Limits)
	}
	row.Limits.ProtoReflect().Set(f, s.GetLimits().ProtoReflect().Get(f))
	if proto.Size(row.Limits) == 0 {
		row.Limits = nil // all limits are the defaults again
	}
	return nil
}
