// Package rootfiles has the data files that programs look for in a root filesystem: Mozilla's CA bundle, the time zones,
// and the accounts of an image that has no others. All of it is in the binary, so that what skiff supplies depends on
// nothing of the machine that it runs on: the same skiff gives the same bytes on every machine, one without Go too.
//
// The functions are safe for concurrent use. What they return is shared: callers do not change it.
package rootfiles

import (
	"bytes"
	"encoding/pem"
	"sync"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// Where the files belong. Go's crypto/x509 and time, glibc and musl look there.
const (
	BundlePath = "/etc/ssl/certs/ca-certificates.crt"
	ZonesPath  = "/usr/share/zoneinfo"
	PasswdPath = "/etc/passwd"
	GroupPath  = "/etc/group"
)

// BundlePaths are where systems keep their CA bundle, in the order in which Go's crypto/x509 looks (root_linux.go). Nobody changes the list.
var BundlePaths = []string{
	BundlePath, "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/pki/tls/cacert.pem",
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem",
}

// NonRoot is the user and group that programs run as which need no other: the number that distroless images have made
// usual. It has a line in [Passwd] and [Group].
const NonRoot = 65532

// Passwd and Group are the accounts of an image that needs to know of some: the superuser, nobody, and [NonRoot].
const (
	Passwd = "root:x:0:0:root:/root:/sbin/nologin\n" +
		"nobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\n" +
		"nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n"
	Group = "root:x:0:\nnobody:x:65534:\nnonroot:x:65532:\n"
)

// NonRootHome is the home directory of [NonRoot].
const NonRootHome = "/home/nonroot"

// CABundle is Mozilla's list of roots as PEM. Roots that Mozilla trusts only up to a date of issue are left out, as Debian
// and Alpine cannot express that either, and Go programs get no constraint from a file.
var CABundle = sync.OnceValue(func() []byte {
	var out bytes.Buffer
	for r := range bundle.Roots() {
		if r.Constraint != nil {
			continue
		}
		// Writing to a Buffer does not fail.
		_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate})
	}
	return out.Bytes()
})
