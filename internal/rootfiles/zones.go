package rootfiles

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	_ "embed"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
)

// zoneinfo is the file lib/time/zoneinfo.zip of the Go release that this module is developed with. Its members are stored
// as they are; compressed as a whole it takes 95 kB in place of 408. The toolchain's own file is not read, though most
// machines have one: the time zones of an image would then depend on which.
//
//go:generate sh -c "gzip -9 -n -c \"$(go env GOROOT)/lib/time/zoneinfo.zip\" > zoneinfo.zip.gz"
//go:embed zoneinfo.zip.gz
var zoneinfo []byte

// maxZone bounds one time zone in bytes; the largest is 4 kB.
const maxZone = 1 << 20

// ZoneFile is a file below [ZonesPath].
type ZoneFile struct {
	Name string // "Europe/Berlin"
	Data []byte // TZif (RFC 9636)
}

// Zones are all time zones, sorted by name.
var Zones = sync.OnceValue(func() []ZoneFile {
	zones, err := unpackOwn()
	if err != nil {
		panic("rootfiles: " + err.Error()) // part of this program, held by a test
	}
	return zones
})

// Zone returns the file of one time zone; [fs.ErrNotExist] where there is none of that name.
func Zone(name string) (ZoneFile, error) {
	all := Zones()
	i, ok := slices.BinarySearchFunc(all, name, func(z ZoneFile, name string) int { return strings.Compare(z.Name, name) })
	if !ok {
		return ZoneFile{}, fmt.Errorf("time zone %q: %w", name, fs.ErrNotExist)
	}
	return all[i], nil
}

func unpackOwn() ([]ZoneFile, error) {
	r, err := gzip.NewReader(bytes.NewReader(zoneinfo))
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	return UnpackZones(data)
}

// UnpackZones reads a zoneinfo.zip as Go's toolchains have it, sorted by name.
func UnpackZones(data []byte) ([]ZoneFile, error) {
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, fmt.Errorf("time zones: %w", err)
	}
	var all []ZoneFile
	for _, f := range z.File {
		if strings.HasSuffix(f.Name, "/") {
			continue
		}
		if !fs.ValidPath(f.Name) {
			return nil, fmt.Errorf("time zones: bad name %q", f.Name)
		}
		zone, err := readZone(f)
		if err != nil {
			return nil, fmt.Errorf("time zones: %s: %w", f.Name, err)
		}
		all = append(all, ZoneFile{Name: f.Name, Data: zone})
	}
	slices.SortFunc(all, func(a, b ZoneFile) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

func readZone(f *zip.File) ([]byte, error) {
	r, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, maxZone+1))
	if err == nil && len(data) > maxZone {
		err = fmt.Errorf("more than %d bytes", maxZone)
	}
	return data, err
}
