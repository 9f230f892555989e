package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/skiff-build/skiff"
)

// imageFilters are the filters of docker images: those of one name are alternatives, but labels, of which all count.
type imageFilters map[string][]string

var filterNames = []string{"before", "dangling", "label", "reference", "since", "until"}

func parseFilters(texts []string) (imageFilters, error) {
	f := imageFilters{}
	for _, text := range texts {
		name, value, ok := strings.Cut(text, "=")
		switch name = strings.ToLower(strings.TrimSpace(name)); {
		case !ok || !slices.Contains(filterNames, name):
			return nil, badFlag("filter", fmt.Sprintf("%q", text), "want NAME=VALUE with one of the names "+strings.Join(filterNames, ", "))
		case name == "dangling" && value != "true" && value != "false" && value != "1" && value != "0":
			return nil, badFlag("filter", text, "choose true or false")
		case name == "reference":
			if _, err := path.Match(value, ""); err != nil {
				return nil, badFlag("filter", text, "it is no pattern: * ? and [a-z] stand for characters of a part")
			}
		}
		f[name] = append(f[name], value)
	}
	return f, nil
}

// apply leaves out the images that a filter does not let pass.
func (f imageFilters) apply(ctx context.Context, state *skiff.State, images []skiff.Image) ([]skiff.Image, error) {
	var bounds [2]time.Time // after, before
	for i, name := range []string{"since", "before"} {
		for _, ref := range f[name] {
			d, err := state.Inspect(ctx, ref)
			if err != nil {
				return nil, err
			}
			for _, named := range images { // the same image may have been built, and loaded under another name
				if named.ID == d.ID && named.Built.After(bounds[i]) {
					bounds[i] = named.Built
				}
			}
		}
	}
	for _, text := range f["until"] {
		t, err := until(text)
		if err != nil {
			return nil, err
		}
		if bounds[1].IsZero() || t.Before(bounds[1]) {
			bounds[1] = t
		}
	}
	var out []skiff.Image
	for _, i := range images {
		switch {
		case bounds != [2]time.Time{} && i.Built.IsZero(): // nobody knows when
			continue
		case !bounds[0].IsZero() && !i.Built.After(bounds[0]), !bounds[1].IsZero() && !i.Built.Before(bounds[1]):
			continue
		case len(f["dangling"]) > 0 && !slices.ContainsFunc(f["dangling"], func(v string) bool { return (v == "true" || v == "1") == (i.Repository == "") }):
			continue
		case len(f["reference"]) > 0 && !slices.ContainsFunc(f["reference"], func(p string) bool { return matches(p, i) }):
			continue
		}
		ok, err := f.labelled(ctx, state, i)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, i)
		}
	}
	return out, nil
}

// matches holds a pattern against the name of an image with its tag, and without.
func matches(pattern string, i skiff.Image) bool {
	if i.Repository == "" {
		return false
	}
	whole, _ := path.Match(pattern, i.Repository+":"+i.Tag)
	name, _ := path.Match(pattern, i.Repository)
	return whole || name
}

func (f imageFilters) labelled(ctx context.Context, state *skiff.State, i skiff.Image) (bool, error) {
	if len(f["label"]) == 0 {
		return true, nil
	}
	d, err := state.Inspect(ctx, i.ID)
	if err != nil {
		return false, err
	}
	var config struct{ Labels map[string]string }
	if err := json.Unmarshal(d.Config, &config); err != nil {
		return false, err
	}
	for _, want := range f["label"] {
		key, value, exact := strings.Cut(want, "=")
		if have, ok := config.Labels[key]; !ok || exact && have != value {
			return false, nil
		}
	}
	return true, nil
}

// until reads a time, or how long ago one was.
func until(text string) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil {
		return time.Now().Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, badFlag("filter", "until="+text, "want how long ago, such as 24h, or a time such as 2026-01-31T12:00:00Z")
}
