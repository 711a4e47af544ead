package stack

import (
	"os"
	"strings"
)

// cleanEnv is the environment without variables that configure what is started.
func cleanEnv() []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "ETCD_") && !strings.HasPrefix(kv, "HEADWATER_") && !strings.HasPrefix(kv, "FDB_") {
			env = append(env, kv)
		}
	}
	return env
}
