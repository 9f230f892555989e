package dockerfile

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/docker/go-units"
	"github.com/moby/buildkit/solver/pb"

	"github.com/skiff-build/skiff/internal/usernet"
)

// attributes are the frontend's opts for o; their names are those of BuildKit's frontend/dockerui/config.go.
func attributes(o Options) (map[string]string, error) {
	a := map[string]string{}
	for k, v := range o.BuildArgs {
		a["build-arg:"+k] = v
	}
	for k, v := range o.Labels {
		a["label:"+k] = v
	}
	if o.Check != "" {
		a["build-arg:BUILDKIT_DOCKERFILE_CHECK"] = o.Check
	}
	if o.Target != "" {
		a["target"] = o.Target
	}
	if o.Pull {
		a["image-resolve-mode"] = pb.AttrImageResolveModeForcePull
	}
	if o.ShmSize != 0 {
		a["shm-size"] = strconv.FormatInt(o.ShmSize, 10)
	}
	steps := []func(map[string]string, Options) error{setPlatforms, setNoCache, setNetwork, setHosts, setUlimits}
	for _, set := range steps {
		if err := set(a, o); err != nil {
			return nil, err
		}
	}
	return a, nil
}

func setPlatforms(a map[string]string, o Options) error {
	var out []string
	seen := map[string]bool{}
	for _, p := range o.Platforms {
		parsed := platforms.DefaultSpec()
		if p != "local" { // docker buildx's word for this machine's
			var err error
			if parsed, err = platforms.Parse(p); err != nil {
				return fmt.Errorf("platform %q: %w", p, err)
			}
		}
		norm := platforms.FormatAll(platforms.Normalize(parsed))
		if seen[norm] {
			continue
		}
		seen[norm] = true
		out = append(out, norm)
	}
	if len(out) > 0 {
		a["platform"] = strings.Join(out, ",")
	}
	return nil
}

func setNoCache(a map[string]string, o Options) error {
	switch {
	case o.NoCache && len(o.NoCacheFilter) > 0:
		return errors.New("no-cache and no-cache-filter: only one of them can be asked for")
	case o.NoCache:
		a["no-cache"] = ""
	case len(o.NoCacheFilter) > 0:
		a["no-cache"] = strings.Join(o.NoCacheFilter, ",")
	}
	return nil
}

func setNetwork(a map[string]string, o Options) error {
	switch o.Network {
	case "", "default":
	case "none", "host":
		a["force-network-mode"] = o.Network
	default:
		return fmt.Errorf("network %q: choose default, none or host", o.Network)
	}
	return nil
}

// setHosts takes docker's "host:ip" and "host=ip". The gateway to the host is that of a step's own network, where what this
// machine's loopback interface has is found by a build that may give the host's network; in that it is the loopback itself.
func setHosts(a map[string]string, o Options) error {
	var out []string
	for _, h := range o.AddHosts {
		host, ip, err := ParseHost(h, o.Network)
		if err != nil {
			return err
		}
		out = append(out, host+"="+ip)
	}
	return setCSV(a, "add-hosts", out)
}

// ParseHost reads one of docker's --add-host. In it host-gateway is this machine, as it is reached from that network.
func ParseHost(h, network string) (host, ip string, err error) {
	host, ip, ok := strings.Cut(h, "=")
	if !ok {
		host, ip, ok = strings.Cut(h, ":")
	}
	if !ok || host == "" || ip == "" || strings.ContainsAny(host, " \t\n#") {
		return "", "", fmt.Errorf("add-host %q: want host:ip", h)
	}
	if ip == "host-gateway" {
		if ip = usernet.GatewayIP4.String(); network == "host" {
			ip = "127.0.0.1"
		}
	}
	if len(ip) > 2 && ip[0] == '[' && ip[len(ip)-1] == ']' {
		ip = ip[1 : len(ip)-1]
	}
	if net.ParseIP(ip) == nil {
		return "", "", fmt.Errorf("add-host %q: %q is not an IP address", h, ip)
	}
	return host, ip, nil
}

func setUlimits(a map[string]string, o Options) error {
	for _, u := range o.Ulimits {
		if _, err := units.ParseUlimit(u); err != nil {
			return fmt.Errorf("ulimit %q: %w", u, err)
		}
	}
	return setCSV(a, "ulimit", o.Ulimits)
}

func setCSV(a map[string]string, key string, fields []string) error {
	if len(fields) == 0 {
		return nil
	}
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	if err := w.Write(fields); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	w.Flush()
	a[key] = strings.TrimSuffix(b.String(), "\n")
	return nil
}
