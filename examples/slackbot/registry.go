package main

import (
	"bufio"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	maxPull   = 256 << 20 // bytes: so many, of all platforms, are pulled to see what they unpack to
	maxUnpack = 4 << 30   // bytes, of one layer
	unknown   = -1        // a size that nobody knows
	hub       = "docker.io"
)

type (
	image struct { // what a registry tells of a reference: one platform, or those of an index
		ref       reference
		platforms []*platform
	}
	platform struct {
		name, digest   string // name: linux/arm64
		pull, unpacked int64  // bytes of config and layers; of the layers' tars
		layers         []descriptor
		note           string // why unpacked is unknown
	}
	document struct { // an index, a manifest or a config, in Docker's form or OCI's, which agree in these fields
		Manifests, Layers         []descriptor
		Config                    descriptor
		OS, Architecture, Variant string
	}
	descriptor struct {
		Digest         string
		Size, unpacked int64
		Platform       struct{ OS string }
	}
)

// image reads an image. Where its layers cannot be unpacked the sizes to pull stand.
func (c config) image(ctx context.Context, name string) (*image, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	s, err := c.open(name)
	if err != nil {
		return nil, err
	}
	defer s.blobs.CloseIdleConnections() // and those of calls, whose transport it is
	var top document
	digest, err := s.read(ctx, "/manifests/"+cmp.Or(s.ref.digest, s.ref.tag), s.ref.digest, &top)
	if top.Manifests == nil {
		top.Manifests = []descriptor{{Digest: digest}}
	}
	i, budget := &image{ref: s.ref}, int64(maxPull)
	for _, d := range top.Manifests[:min(len(top.Manifests), 50)] {
		doc := top
		if err == nil && d.Digest != digest && d.Platform.OS != "unknown" { // which is an attestation
			doc = document{}
			_, err = s.read(ctx, "/manifests/"+d.Digest, d.Digest, &doc)
		}
		if err == nil && d.Platform.OS != "unknown" {
			err = s.platform(ctx, i, d.Digest, doc, &budget)
		}
	}
	return i, err
}

// read reads JSON that has the digest want, or any digest where that is "", and returns the digest.
func (s *session) read(ctx context.Context, path, want string, to *document) (digest string, err error) {
	res, err := s.get(ctx, &s.calls, path)
	if err != nil {
		return "", err
	}
	text, _ := io.ReadAll(res.Body) // is in memory
	digest = fmt.Sprintf("sha256:%x", sha256.Sum256(text))
	if digest != cmp.Or(want, digest) {
		return "", fmt.Errorf("%s: %w (%.80q has the digest %s)", s.ref, errLie, want, digest)
	} else if json.Unmarshal(text, to) != nil {
		return "", fmt.Errorf("%s answers for %s with something else than an image: is it a registry?", s.ref.host, s.ref)
	}
	return digest, nil
}

func (s *session) platform(ctx context.Context, i *image, digest string, doc document, budget *int64) error {
	var config document
	if doc.Config.Digest == "" || doc.Config.Size < 0 {
		return fmt.Errorf("%s is no image in a form of today: push it again", s.ref)
	} else if _, err := s.read(ctx, "/blobs/"+doc.Config.Digest, doc.Config.Digest, &config); err != nil {
		return err
	}
	p := &platform{strings.Trim(config.OS+"/"+config.Architecture+"/"+config.Variant, "/"), digest, doc.Config.Size, 0, doc.Layers, ""}
	for n := range p.layers {
		l := &p.layers[n]
		if l.Size < 0 || l.Size > 1<<40 {
			return fmt.Errorf("%s: %w (a layer of %d bytes)", s.ref, errLie, l.Size)
		}
		p.pull += l.Size
		l.unpacked = unknown
		if *budget -= l.Size; *budget < 0 {
			p.note = fmt.Sprintf("I unpack no more than %s", megabytes(maxPull))
		} else if err := s.unpack(ctx, l); err != nil {
			p.note = fmt.Sprintf("layer %d: %v", n+1, err)
		}
		p.unpacked += l.unpacked
	}
	if p.note != "" {
		p.unpacked = unknown
	}
	i.platforms = append(i.platforms, p)
	return nil
}

// unpack counts what a layer unpacks to, and holds the blob against its digest.
func (s *session) unpack(ctx context.Context, l *descriptor) error {
	res, err := s.get(ctx, &s.blobs, "/blobs/"+l.Digest)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	sum := sha256.New()
	blob := bufio.NewReader(io.TeeReader(io.LimitReader(res.Body, l.Size+1), sum))
	content := io.Reader(blob)
	switch magic, _ := blob.Peek(2); string(magic) {
	case "\x1f\x8b":
		if content, err = gzip.NewReader(blob); err != nil {
			return err
		}
	case "\x28\xb5":
		return errors.New("compressed by zstd, which I do not read")
	}
	size, err := io.Copy(io.Discard, io.LimitReader(content, maxUnpack))
	_, _ = io.Copy(io.Discard, blob) // an error gives another digest
	if digest := fmt.Sprintf("sha256:%x", sum.Sum(nil)); digest != l.Digest {
		return fmt.Errorf("%w (%.80q has the digest %s)", errLie, l.Digest, digest)
	} else if err == nil && size == maxUnpack {
		return fmt.Errorf("more than %s", megabytes(maxUnpack))
	}
	l.unpacked = size
	return err
}

type reference struct{ host, name, tag, digest string } // nothing in it needs escaping, in an address or in a message

func (r reference) String() string {
	return r.host + "/" + r.name + strings.TrimSuffix(":"+r.tag, ":") + strings.TrimSuffix("@"+r.digest, "@")
}

// referenceText: host, name, tag, digest, as in https://pkg.go.dev/github.com/distribution/reference.
var referenceText = regexp.MustCompile(`^(?:(localhost|\[[0-9a-fA-F:]+\](?::\d{1,5})?|[\w-]+(?:\.[\w-]+)*:\d{1,5}|[\w-]+(?:\.[\w-]+)+)/)?` +
	`([a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*)(?::(\w[\w.-]{0,127}))?(?:@(sha256:[0-9a-f]{64}))?$`)

// session is a conversation with one registry about one image. Whoever writes in a channel chooses the host: it reaches no
// metadata service of a cloud, and this machine only if that is named, while neither a name nor a redirect leads there.
type session struct {
	ref           reference
	base          string // scheme and host
	loopback      bool
	login         string      // base64, or ""
	authorization []string    // header
	calls, blobs  http.Client // what is read whole and tried again; what is not
}

var (
	errForbidden = errors.New("refused")
	errLie       = errors.New("the registry's answer is not what its own digests and sizes say: tell who runs it")
	parameter    = regexp.MustCompile(`(\w+)="([^"]*)"`) // of a challenge
	accept       = strings.Fields("application/vnd.oci.image.index.v1+json application/vnd.oci.image.manifest.v1+json " +
		"application/vnd.docker.distribution.manifest.list.v2+json application/vnd.docker.distribution.manifest.v2+json")
)

func (c config) open(name string) (*session, error) {
	m := referenceText.FindStringSubmatch(name)
	if m == nil || len(name) > 500 {
		return nil, fmt.Errorf("%.100q is no name of an image: one looks like registry.example/app:1.2", name)
	}
	ref := reference{strings.TrimPrefix(cmp.Or(m[1], hub), "index."), m[2], m[3], m[4]}
	if len(c.allow) > 0 && !slices.Contains(c.allow, ref.host) {
		return nil, fmt.Errorf("%s is none of the registries that I may ask: %s", ref.host, strings.Join(c.allow, ", "))
	}
	if ref.tag == "" && ref.digest == "" {
		ref.tag = "latest"
	}
	if ref.host == hub && !strings.Contains(ref.name, "/") {
		ref.name = "library/" + ref.name
	}
	s := &session{ref: ref, base: "https://" + strings.Replace(ref.host, hub, "registry-1."+hub, 1), login: c.login[ref.host]}
	ip, _ := netip.ParseAddr((&url.URL{Host: ref.host}).Hostname())
	s.loopback = ref.host == "localhost" || strings.HasPrefix(ref.host, "localhost:") || ip.IsLoopback()
	if s.loopback || slices.Contains(c.plain, ref.host) { // as docker has it
		s.base = "http://" + ref.host
	}
	t := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: handshake,
		DialContext: (&net.Dialer{Timeout: handshake, Control: s.guard}).DialContext}
	s.blobs.Transport = t
	s.calls.Transport = &polite{to: t, timeout: handshake, patience: 10 * time.Second, turn: map[string]time.Time{}}
	return s, nil
}

func (s *session) guard(_, address string, _ syscall.RawConn) error { // address: what the host's name turned out to be
	to, err := netip.ParseAddrPort(address)
	ip := to.Addr().Unmap()
	if err != nil || ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsUnspecified() || ip.IsLoopback() && !s.loopback ||
		ip.String() == "100.100.100.200" || ip.String() == "fd00:ec2::254" {
		return fmt.Errorf("%w: %s is at %s, where I ask no registry", errForbidden, s.ref.host, ip)
	}
	return nil
}

// get asks for something of the image. A status other than 200 is an error that says what to do.
func (s *session) get(ctx context.Context, client *http.Client, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+"/v2/"+s.ref.name+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header = http.Header{"Accept": accept, "Authorization": s.authorization}
	res, err := client.Do(req)
	if s.loopback && err == nil && res.StatusCode == http.StatusBadRequest && req.URL.Scheme == "http" { // it wants TLS
		s.base = "https://" + s.ref.host
		return s.get(ctx, client, path)
	} else if err != nil {
		return nil, fmt.Errorf("ask %s: %w", s.ref.host, err)
	} else if res.StatusCode == http.StatusOK {
		return res, nil
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusUnauthorized || s.authorization != nil {
		return nil, s.refusal(res)
	} else if err = s.authorize(ctx, res); err != nil {
		return nil, err
	}
	return s.get(ctx, client, path)
}

// authorize answers a challenge as https://distribution.github.io/distribution/spec/auth/token/ says, or by the login.
func (s *session) authorize(ctx context.Context, res *http.Response) error {
	challenge := res.Header.Get("WWW-Authenticate")
	said := map[string]string{}
	for _, m := range parameter.FindAllStringSubmatch(challenge, -1) {
		said[m[1]] = m[2]
	}
	if !strings.HasPrefix(strings.ToLower(challenge), "bearer ") {
		s.authorization = []string{"Basic " + s.login} // with no login this is refused, as it should be
		return nil
	}
	query := url.Values{"service": {said["service"]}, "scope": {"repository:" + s.ref.name + ":pull"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, said["realm"]+"?"+query.Encode(), nil)
	if err != nil || req.URL.Scheme != "https" && !strings.HasPrefix(s.base, "http://") {
		return fmt.Errorf("%w: %s sends for a token to no https address", errForbidden, s.ref.host)
	}
	if s.login != "" {
		req.Header.Set("Authorization", "Basic "+s.login)
	}
	answer, err := s.calls.Do(req)
	if err != nil {
		return fmt.Errorf("log in to %s: %w", s.ref.host, err)
	}
	var token struct{ Token, Access_token string }
	if json.NewDecoder(answer.Body).Decode(&token) != nil || token.Token+token.Access_token == "" {
		return s.refusal(res)
	}
	s.authorization = []string{"Bearer " + cmp.Or(token.Token, token.Access_token)}
	return nil
}

func (s *session) refusal(res *http.Response) error {
	format := "%[1]s answers %[3]s: is it a registry?"
	switch code := res.StatusCode; {
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		format = "%[1]s wants a login for %[2]s, or has no such image: whoever runs me sets DOCKER_AUTH_CONFIG"
	case code == http.StatusNotFound:
		format = "%[1]s has no image %[2]s: look at its spelling and its tag; if it is private, I lack a login"
	case code == http.StatusTooManyRequests:
		format = "%[1]s has had too many requests: try again later, or give me a login by DOCKER_AUTH_CONFIG"
	case code >= 500:
		format = "%[1]s answers %[3]s: try again later"
	}
	return fmt.Errorf(format, s.ref.host, s.ref, res.Status)
}
