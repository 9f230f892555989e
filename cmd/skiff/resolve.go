package main

import (
	"encoding/csv"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/docker/go-units"

	"github.com/skiff-build/skiff"
)

// resolve turns the flags' texts into what they mean.
func (f *buildFlags) resolve(stdin io.Reader) error {
	o := &f.opts
	o.Stdin = stdin
	for _, set := range []func() error{
		f.setBuildArgs, f.setLabels, f.setContexts, f.setSecrets, f.setSSH, f.setContextLogin, f.setSizes, f.setOutputs, f.setPull, f.setCall, f.setTimestamps, f.setDoctor,
	} {
		if err := set(); err != nil {
			return err
		}
	}
	if f.quiet {
		if f.progress != "" && f.progress != "quiet" {
			return badFlag("progress", f.progress, "-q shows no progress: leave one of the two out")
		}
		f.progress = "quiet"
	}
	return nil
}

func badFlag(name, value, why string) error {
	return &usageError{text: fmt.Sprintf("--%s %s: %s", name, value, why)}
}

// setBuildArgs lets a bare NAME take the environment's value, and nothing where the environment has none, as docker does.
func (f *buildFlags) setBuildArgs() error {
	args, err := skiff.ProxyArgs()
	if err != nil {
		return err
	}
	if v, ok := os.LookupEnv("SOURCE_DATE_EPOCH"); ok && v != "" {
		args["SOURCE_DATE_EPOCH"] = v
	}
	for _, a := range f.buildArgs {
		name, value, ok := strings.Cut(a, "=")
		if name == "" {
			return badFlag("build-arg", fmt.Sprintf("%q", a), "want NAME=VALUE or NAME")
		}
		if !ok {
			if value, ok = os.LookupEnv(name); !ok {
				continue
			}
		}
		args[name] = value
	}
	f.opts.BuildArgs = args
	return nil
}

func (f *buildFlags) setLabels() error {
	f.opts.Labels = map[string]string{}
	for _, l := range f.labels {
		key, value, _ := strings.Cut(l, "=")
		if key == "" {
			return badFlag("label", fmt.Sprintf("%q", l), "want KEY=VALUE")
		}
		f.opts.Labels[key] = value
	}
	f.opts.Annotations = f.annotations
	for _, a := range f.annotations {
		if key, _, ok := strings.Cut(a, "="); !ok || key == "" {
			return badFlag("annotation", fmt.Sprintf("%q", a), "want KEY=VALUE")
		}
	}
	return nil
}

func (f *buildFlags) setContexts() error {
	f.opts.Contexts = map[string]string{}
	for _, c := range f.contexts {
		name, value, ok := strings.Cut(c, "=")
		if !ok || name == "" || value == "" {
			return badFlag("build-context", fmt.Sprintf("%q", c), "want NAME=VALUE")
		}
		f.opts.Contexts[name] = value
	}
	return nil
}

// setSecrets reads id=ID[,src=FILE|,env=NAME][,type=file|env] (buildx util/buildflags/secrets.go): with neither a file nor
// a variable, the variable ID where it is set, else the file ID.
func (f *buildFlags) setSecrets() error {
	for _, text := range f.secrets {
		fields, err := fieldsOf(text)
		if err != nil {
			return badFlag("secret", fmt.Sprintf("%q", text), err.Error())
		}
		var s skiff.Secret
		kind := ""
		for _, kv := range fields {
			switch kv.key {
			case "id":
				s.ID = kv.value
			case "src", "source":
				s.File = kv.value
			case "env":
				s.Env = kv.value
			case "type":
				if kind = kv.value; kind != "file" && kind != "env" {
					return badFlag("secret", fmt.Sprintf("%q", text), fmt.Sprintf("type %q: choose file or env", kind))
				}
			default:
				return badFlag("secret", fmt.Sprintf("%q", text), fmt.Sprintf("unknown key %q: want id, src, env or type", kv.key))
			}
		}
		if s.ID == "" {
			return badFlag("secret", fmt.Sprintf("%q", text), "the id is missing")
		}
		if kind == "env" && s.Env == "" {
			s.Env, s.File = s.File, ""
		}
		if s.File == "" && s.Env == "" {
			if _, ok := os.LookupEnv(s.ID); ok && kind != "file" {
				s.Env = s.ID
			} else {
				s.File = s.ID
			}
		}
		f.opts.Secrets = append(f.opts.Secrets, s)
	}
	return nil
}

func (f *buildFlags) setSSH() error {
	for _, text := range f.ssh {
		id, path, _ := strings.Cut(text, "=")
		if id == "" {
			return badFlag("ssh", fmt.Sprintf("%q", text), "want default, ID=SOCKET or ID=KEYFILE[,KEYFILE]")
		}
		if path == "" {
			path = os.Getenv("SSH_AUTH_SOCK")
		}
		if path == "" {
			return badFlag("ssh", text, "SSH_AUTH_SOCK is not set: start ssh-agent or name its socket, --ssh "+id+"=SOCKET")
		}
		f.opts.SSH = append(f.opts.SSH, skiff.SSHAgent{ID: id, Paths: strings.Split(path, ",")})
	}
	return nil
}

// setContextLogin gives what the user has for git to a context that is fetched, as docker buildx does: the ssh agent, and the token or
// header of the environment.
func (f *buildFlags) setContextLogin() error {
	o := &f.opts
	if !skiff.IsRemote(o.Context) {
		return nil
	}
	for _, name := range []string{"GIT_AUTH_TOKEN", "GIT_AUTH_HEADER"} {
		given := slices.ContainsFunc(o.Secrets, func(s skiff.Secret) bool { return s.ID == name })
		if _, ok := os.LookupEnv(name); ok && !given {
			o.Secrets = append(o.Secrets, skiff.Secret{ID: name, Env: name})
		}
	}
	given := slices.ContainsFunc(o.SSH, func(a skiff.SSHAgent) bool { return a.ID == "default" })
	if sock := os.Getenv("SSH_AUTH_SOCK"); sock != "" && !given {
		if _, err := os.Stat(sock); err == nil {
			o.SSH = append(o.SSH, skiff.SSHAgent{ID: "default", Paths: []string{sock}})
		}
	}
	return nil
}

func (f *buildFlags) setSizes() error {
	for _, s := range []struct {
		flag, text string
		to         *int64
		parse      func(string) (int64, error)
	}{
		{"shm-size", f.shmSize, &f.opts.ShmSize, units.RAMInBytes},
		{"keep-storage", f.keepStorage, &f.opts.KeepStorage, units.FromHumanSize},
	} {
		if s.text == "" {
			continue
		}
		n, err := s.parse(s.text)
		if err != nil || n <= 0 {
			return badFlag(s.flag, s.text, "want a size such as 64m or 10GB")
		}
		*s.to = n
	}
	var err error
	f.opts.Limits, err = f.limits.read()
	return err
}

// setPull reads podman's words, and docker's true and false.
func (f *buildFlags) setPull() (err error) {
	switch f.pull {
	case "true":
		f.pull = "always"
	case "false":
		f.pull = "missing"
	}
	f.opts.Pull, err = skiff.ParsePullPolicy(f.pull)
	return err
}

func (f *buildFlags) setCall() error {
	method, format, _ := strings.Cut(f.call, ",")
	switch {
	case method != "build" && method != "check" && method != "lint":
		return badFlag("call", f.call, "only build and check are served")
	case format != "" && format != "format=json" && format != "format=text":
		return badFlag("call", f.call, "the format is text or json")
	}
	f.check = f.check || method != "build"
	return nil
}

func (f *buildFlags) setTimestamps() error {
	switch f.timestamps {
	case "epoch":
	case "keep":
		f.opts.KeepTimes = true
	default:
		return badFlag("timestamps", f.timestamps, "choose epoch or keep")
	}
	return nil
}

type field struct{ key, value string }

// fieldsOf reads docker's key=value,key=value, where a value with a comma is quoted as in CSV. Keys are in lower case.
func fieldsOf(text string) ([]field, error) {
	parts, err := csv.NewReader(strings.NewReader(text)).Read()
	if err != nil {
		return nil, err
	}
	var out []field
	for _, p := range parts {
		key, value, ok := strings.Cut(p, "=")
		if !ok {
			return nil, fmt.Errorf("%q is not KEY=VALUE", p)
		}
		out = append(out, field{strings.ToLower(strings.TrimSpace(key)), value})
	}
	return out, nil
}
