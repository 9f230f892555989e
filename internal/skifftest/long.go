package skifftest

import "testing"

// Long leaves a test out of `go test -short`; why says what takes its time. The whole suite runs it.
func Long(t testing.TB, why string) {
	t.Helper()
	if testing.Short() {
		t.Skip("left out by -short: " + why)
	}
}
