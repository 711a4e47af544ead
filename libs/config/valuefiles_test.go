package config

import (
	"strings"
	"testing"
)

// TestValueFiles: --value-files takes what a boolean flag takes, and its default, on the command line, in the
// environment and in a file.
func TestValueFiles(t *testing.T) {
	for _, c := range []struct {
		flag, line string
		want       ValueFiles
	}{
		{"", "name: x", ValueFilesNew},
		{"--value-files=new", "value-files: new", ValueFilesNew},
		{"--value-files", "value-files: true", ValueFilesAll},
		{"--value-files=true", "value-files: yes", ValueFilesAll},
		{"--value-files=false", "value-files: false", ValueFilesNone},
	} {
		args := []string{c.flag}
		if c.flag == "" {
			args = nil
		}
		for _, args := range [][]string{args, {"--config-file=" + writeFile(t, c.line)}} {
			p, err := Standalone.Parse(args, nil)
			if err != nil || p.Config.ValueFiles != c.want {
				t.Errorf("%q, %q: %v, %v", args, c.line, p.Config.ValueFiles, err)
			}
		}
	}
	for variable, want := range map[string]ValueFiles{
		"HEADWATER_VALUE_FILES=false": ValueFilesNone, "ETCD_VALUE_FILES=true": ValueFilesAll,
		"HEADWATER_VALUE_FILES=": ValueFilesNew,
	} {
		p, err := Standalone.Parse(nil, []string{variable})
		if err != nil || p.Config.ValueFiles != want {
			t.Errorf("%s: %v, %v", variable, p.Config.ValueFiles, err)
		}
	}
	for _, args := range [][]string{{"--value-files=old"}, {"--config-file=" + writeFile(t, "value-files: old")}} {
		if _, err := Standalone.Parse(args, nil); err == nil || !strings.Contains(err.Error(), "new") {
			t.Errorf("%q: %v, which does not say what is taken", args, err)
		}
	}
}
