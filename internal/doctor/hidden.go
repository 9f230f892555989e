package doctor

import (
	"fmt"
	"slices"
	"strings"
)

// secrets reports what looks like one: in files, those that a later layer hides too, and in the config.
func (e *examination) secrets() {
	for _, s := range e.hidden {
		f := Finding{
			ID: IDSecret, Severity: Error, Path: s.name, Bytes: s.bytes, Source: e.bringing(s.layer),
			Message: fmt.Sprintf("%s looks like %s", s.name, s.what),
			Remedy:  []string{"add it to .dockerignore", "give it to the one step that needs it by --mount=type=secret, to the program when it is run"},
		}
		if there, err := e.fs.FindLink(s.name); err != nil || there.Layer != s.layer {
			f.Evidence = []string{fmt.Sprintf("a later layer hides it, but layer %d ships it", s.layer+1)}
		}
		e.find(f)
	}
	for _, v := range e.config.Config.Env {
		if name, value, _ := strings.Cut(v, "="); isSecret(name, value) || signature([]byte(value)) != "" {
			e.find(Finding{
				ID: IDSecret, Severity: Error, Path: "ENV " + name, Source: e.settingEnv(name),
				Message: "the environment variable " + name + " of the image looks like a secret",
				Remedy:  []string{"leave it out, and set it when the image is run"},
			})
		}
	}
	e.secretArguments()
}

// secretArguments looks for values of build arguments, which stand in the history: "RUN |2 NAME=value NAME=value /bin/sh …".
func (e *examination) secretArguments() {
	var seen []string
	for _, h := range e.config.History {
		for _, word := range strings.Fields(h.CreatedBy) {
			name, value, ok := strings.Cut(word, "=")
			if !ok || slices.Contains(seen, name) || strings.HasPrefix(h.CreatedBy, "ENV ") {
				continue
			}
			if strings.HasPrefix(h.CreatedBy, "RUN |") && isSecret(name, value) || signature([]byte(value)) != "" {
				seen = append(seen, name)
				e.find(Finding{
					ID: IDSecret, Severity: Error, Path: "ARG " + name, Source: e.last("ARG"),
					Message: "the image's history has the build argument " + name + ", which looks like a secret",
					Remedy:  []string{"give it to the step that needs it by --mount=type=secret,id=" + name},
				})
			}
		}
	}
}

// settingEnv is the instruction that sets a variable.
func (e *examination) settingEnv(name string) *Source {
	if e.o.Dockerfile == nil {
		return nil
	}
	all := e.o.Dockerfile.shipped()
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].Name == "ENV" && strings.Contains(all[i].Text, name) {
			return sourceOf(e.o.Dockerfile.File, all[i])
		}
	}
	return nil
}
