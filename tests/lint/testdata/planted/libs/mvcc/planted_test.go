package mvcc

import (
	"fmt"
	"os"
	"testing"
)

func TestPlanted(t *testing.T) {
	dir, err := os.MkdirTemp("", "planted") // want usetesting
	if err != nil {
		t.Fatal(fmt.Errorf("no directory: %v", err)) // errorlint is switched off in tests
	}
	t.Log(dir)
}
