package server

// Methods returns the full names of all methods of all registered services, such as /etcdserverpb.KV/Range.
func (g *GRPC) Methods() []string {
	names := make([]string, 0, len(g.methods))
	for _, m := range g.methods {
		names = append(names, "/"+m.service+"/"+m.name)
	}
	return names
}
