package rootfiles

import (
	"archive/zip"
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"strings"
	"testing"
	"time"
)

// TestBundle: the roots are ones that Go's own verifier reads.
func TestBundle(t *testing.T) {
	n := 0
	for rest := CABundle(); len(rest) > 0; n++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			t.Fatal(err)
		}
	}
	if n < 100 {
		t.Errorf("%d roots", n)
	}
}

// TestZones: package time reads every one of them.
func TestZones(t *testing.T) {
	all := Zones()
	if len(all) < 400 {
		t.Errorf("%d time zones", len(all))
	}
	for _, z := range all {
		if _, err := time.LoadLocationFromTZData(z.Name, z.Data); err != nil {
			t.Errorf("%s: %v", z.Name, err)
		}
	}
	tokyo, err := Zone("Asia/Tokyo")
	if err != nil {
		t.Fatal(err)
	}
	l, err := time.LoadLocationFromTZData(tokyo.Name, tokyo.Data)
	if err != nil {
		t.Fatal(err)
	}
	if got := time.Unix(0, 0).In(l).Format("15 MST"); got != "09 JST" {
		t.Errorf("Asia/Tokyo has %s at 00 UTC", got)
	}
	if _, err := Zone("Asia/Nowhere"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a zone that is none: %v", err)
	}
}

func TestUnpackZonesRefuses(t *testing.T) {
	packed := func(name, body string) []byte {
		var buf bytes.Buffer
		z := zip.NewWriter(&buf)
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(body)); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		return buf.Bytes()
	}
	for want, data := range map[string][]byte{
		"bad name":        packed("../../etc/passwd", "x"),
		"more than":       packed("Big/Zone", strings.Repeat("x", maxZone+1)),
		"not a valid zip": []byte("no zip"),
	} {
		if _, err := UnpackZones(data); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
}
