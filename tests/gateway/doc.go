// Package gateway holds the JSON gateway against etcd's own: the same HTTP requests to both, and the same answers but
// for what names a server. It also looks at what only Headwater has behind it: keyspaces, and limits by client.
package gateway
