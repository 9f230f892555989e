package runimage

import (
	"encoding/csv"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"

	"github.com/skiff-build/skiff/internal/dockerfile"
	"github.com/skiff-build/skiff/internal/usernet"
)

// userMounts are those of o's Volumes, Mounts and Tmpfs, each before those that lie in it.
func (o Options) userMounts() ([]runMount, error) {
	mounts, err := parseVolumes(o.Volumes)
	if err != nil {
		return nil, err
	}
	for _, text := range o.Mounts {
		m, err := parseMount(text)
		if err != nil {
			return nil, fmt.Errorf("mount %q: %w", text, err)
		}
		mounts = append(mounts, m)
	}
	for _, text := range o.Tmpfs {
		m, err := parseTmpfs(text)
		if err != nil {
			return nil, fmt.Errorf("tmpfs %q: %w", text, err)
		}
		mounts = append(mounts, m)
	}
	for i, m := range mounts {
		mounts[i].Target = path.Clean(m.Target)
		if slices.ContainsFunc(mounts[:i], func(o runMount) bool { return o.Target == mounts[i].Target }) {
			return nil, fmt.Errorf("two mounts at %s", mounts[i].Target)
		}
	}
	slices.SortStableFunc(mounts, func(a, b runMount) int { return strings.Count(a.Target, "/") - strings.Count(b.Target, "/") })
	return mounts, nil
}

// parseMount reads docker's --mount (docs.docker.com/engine/storage/bind-mounts, "Options for --mount").
func parseMount(text string) (m runMount, err error) {
	fields, err := csv.NewReader(strings.NewReader(text)).Read()
	if err != nil {
		return m, err
	}
	kind := ""
	var tmpfs []string
	for _, field := range fields {
		key, value, ok := strings.Cut(field, "=")
		switch key = strings.ToLower(key); key {
		case "type":
			kind = value
		case "source", "src":
			m.Source = value
		case "target", "destination", "dst":
			m.Target = value
		case "readonly", "ro":
			if m.ReadOnly = true; ok {
				if m.ReadOnly, err = strconv.ParseBool(value); err != nil {
					return m, fmt.Errorf("%s=%s: choose true or false", key, value)
				}
			}
		case "tmpfs-size", "tmpfs-mode":
			tmpfs = append(tmpfs, strings.TrimPrefix(key, "tmpfs-")+"="+value)
		case "bind-propagation":
			if value != "rprivate" && value != "private" {
				return m, fmt.Errorf("%s: mounts are private here: leave it out", field)
			}
		case "bind-recursive":
			if value != "enabled" {
				return m, fmt.Errorf("%s: what is mounted below comes along: leave it out", field)
			}
		case "consistency": // of Docker Desktop's files
		default:
			return m, fmt.Errorf("option %q: want type, source, target, readonly, tmpfs-size or tmpfs-mode", key)
		}
	}
	if !strings.HasPrefix(m.Target, "/") {
		return m, fmt.Errorf("the target has to be an absolute path")
	}
	switch kind {
	case "bind":
		if m.Source == "" || len(tmpfs) > 0 {
			return m, fmt.Errorf("want type=bind,source=HOST,target=INSIDE[,readonly]")
		}
		m.Source, err = sourcePath(m.Source)
		return m, err
	case "tmpfs":
		if m.Source != "" {
			return m, fmt.Errorf("want type=tmpfs,target=INSIDE[,tmpfs-size=SIZE][,tmpfs-mode=MODE]")
		}
		return tmpfsMount(m, tmpfs)
	case "", "volume":
		return m, fmt.Errorf("volumes are not kept: give a folder, type=bind,source=FOLDER,target=%s, or type=tmpfs", m.Target)
	}
	return m, fmt.Errorf("type %q: choose bind or tmpfs", kind)
}

// parseTmpfs reads docker's --tmpfs, INSIDE[:OPTIONS].
func parseTmpfs(text string) (m runMount, err error) {
	target, options, _ := strings.Cut(text, ":")
	if m.Target = target; !strings.HasPrefix(target, "/") {
		return m, fmt.Errorf("want INSIDE[:OPTIONS], INSIDE an absolute path")
	}
	var list []string
	if options != "" {
		list = strings.Split(options, ",")
	}
	return tmpfsMount(m, list)
}

// tmpfsMount makes m one in memory. It is as docker's, where options say nothing else: not for programs, without their privileges
// and device nodes, and everybody's to write to.
func tmpfsMount(m runMount, options []string) (runMount, error) {
	flags, data := map[string]bool{"noexec": true}, map[string]string{"mode": "1777"}
	for _, o := range options {
		key, value, _ := strings.Cut(o, "=")
		switch key {
		case "rw", "defaults", "nosuid", "nodev", "noexec":
		case "ro":
			m.ReadOnly = true
		case "exec":
			delete(flags, "noexec")
		case "noatime", "nodiratime", "relatime", "strictatime":
			flags[key] = true
		case "size":
			if n, err := units.RAMInBytes(value); err == nil && n > 0 {
				value = strconv.FormatInt(n, 10)
			} else if n, ok := strings.CutSuffix(value, "%"); !ok || !isNumber(n, 10) {
				return m, fmt.Errorf("size=%s: want a size such as 64m", value)
			}
			data[key] = value
		case "mode", "uid", "gid", "nr_inodes":
			base := 10
			if key == "mode" {
				base = 8
			}
			if !isNumber(value, base) {
				return m, fmt.Errorf("%s=%s: want a number", key, value)
			}
			data[key] = value
		default:
			return m, fmt.Errorf("option %q: want size, mode, uid, gid, nr_inodes, exec, ro or one of atime", o)
		}
	}
	list := []string{"nosuid", "nodev"}
	for flag := range flags {
		list = append(list, flag)
	}
	for key, value := range data {
		list = append(list, key+"="+value)
	}
	slices.Sort(list)
	m.Tmpfs = strings.Join(list, ",")
	return m, nil
}

func isNumber(text string, base int) bool {
	_, err := strconv.ParseUint(text, base, 32)
	return err == nil
}

// sourcePath is a file or folder of the host by its own name: what links lead to is looked up here, not in the image.
func sourcePath(name string) (string, error) {
	abs, err := filepath.Abs(name)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(abs)
}

// hostLines are those of /etc/hosts for --add-host.
func hostLines(hosts []string, network string) (string, error) {
	var b strings.Builder
	for _, h := range hosts {
		name, ip, err := dockerfile.ParseHost(h, network)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "%s\t%s\n", ip, name)
	}
	return b.String(), nil
}

// asksForGateway reports whether one of --add-host names this machine, which opens the way to it.
func asksForGateway(hosts []string) bool {
	return slices.ContainsFunc(hosts, func(h string) bool { return strings.HasSuffix(h, "host-gateway") })
}

// networkFiles writes the /etc/hosts and /etc/resolv.conf that fit the program's network into dir, and returns the mounts that show
// them. The program may change what it sees, as docker lets it, and the machine's files stay as they are.
func networkFiles(dir string, req *runReq) ([]runMount, error) {
	hosts, err := machineFile("/etc/hosts")
	if err != nil {
		return nil, err
	}
	resolv, err := machineFile("/etc/resolv.conf")
	if err != nil {
		return nil, err
	}
	const local = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
	switch req.Network {
	case "none":
		hosts, resolv = []byte(local), nil
	case "":
		name := req.Hostname
		if name == "" {
			name, _ = os.Hostname()
		}
		hosts, resolv = fmt.Appendf(nil, "%s%s\t%s\n", local, usernet.StepIP4, name), usernet.ResolvConf(resolv)
	}
	var mounts []runMount
	for _, f := range []struct {
		name string
		text []byte
	}{{"hosts", append(hosts, req.Hosts...)}, {"resolv.conf", resolv}} {
		if len(f.text) == 0 {
			continue
		}
		copied := filepath.Join(dir, f.name)
		if err := os.WriteFile(copied, f.text, 0o644); err != nil {
			return nil, err
		}
		mounts = append(mounts, runMount{Source: copied, Target: "/etc/" + f.name})
	}
	return mounts, nil
}

// machineFile is a file of the machine that ends with a newline; one that is not there is empty.
func machineFile(name string) ([]byte, error) {
	text, err := os.ReadFile(name)
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	if len(text) > 0 && text[len(text)-1] != '\n' {
		text = append(text, '\n')
	}
	return text, nil
}
