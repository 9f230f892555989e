package gobase

import "testing"

// TestMakeVersion holds which make an image has.
func TestMakeVersion(t *testing.T) {
	for _, tt := range []struct {
		variant         Variant
		distro, release string
		want            string
	}{
		{Debian, "", "1.27.0", "4.4.1"}, {Debian, "", "1.25.0", "4.4.1"}, {Debian, "", "1.24.13", "4.4.1"}, {Debian, "", "1.24.6", "4.4.1"},
		{Debian, "", "1.24.5", "4.3"}, {Debian, "", "1.23.12", ""}, {Debian, "", "1.23.11", "4.3"}, {Debian, "", "1.19.3", "4.3"},
		{Debian, "", "1.17", "4.3"}, {Debian, "", "1.16.6", ""}, {Debian, "", "1.12", ""}, {Debian, "bookworm", "1.26.0", "4.3"},
		{Debian, "trixie", "1.23.12", "4.4.1"}, {Debian, "bullseye", "1.20.1", "4.3"}, {Debian, "buster", "1.19.3", ""},
		{Alpine, "", "1.26.4", "4.4.1"}, {Alpine, "", "1.20.14", "4.4.1"}, {Alpine, "", "1.20.3", "4.3"}, {Alpine, "", "1.19.13", "4.4.1"},
		{Alpine, "", "1.19.8", "4.3"}, {Alpine, "", "1.18.10", "4.3"}, {Alpine, "", "1.16", "4.3"}, {Alpine, "", "1.15.15", ""},
		{Alpine, "3.9", "1.12", ""}, {Alpine, "3.12", "1.15", "4.3"}, {Alpine, "3.17", "1.20.14", "4.3"}, {Alpine, "3.22", "1.24.5", "4.4.1"},
	} {
		if got := makeVersion(Tag{Variant: tt.variant, Distro: tt.distro}, tt.release); got != tt.want {
			t.Errorf("%s %q %s: %q, want %q", tt.variant, tt.distro, tt.release, got, tt.want)
		}
	}
}
