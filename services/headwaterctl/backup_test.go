package main

import (
	"testing"
	"time"
)

// TestAgeOfNewest: a backup that a wrong clock has dated into the future is not taken for a young one for years.
func TestAgeOfNewest(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for age, ok := range map[time.Duration]bool{
		0: true, time.Hour: true, time.Hour + time.Second: false, -time.Second: true, -skewMax: true,
		-skewMax - time.Second: false, -24 * 365 * time.Hour: false,
	} {
		if err := checkAge(now.Add(-age), now, time.Hour); (err == nil) != ok {
			t.Errorf("%s old: %v", age, err)
		}
	}
}
