package image

import (
	"encoding/csv"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Output is a destination of a build, as `docker build --output` names it.
type Output struct {
	Type  string   // "oci", "docker", "tar", "local", "registry", "image"
	Dest  string   // a file or a folder; "-" is standard output; "" where the type needs none
	Names []string // of the image; none: those given by --tag
	Push  bool     // send it to the registry (always, for "registry")
	Dir   bool     // write a folder, not an archive (tar=false), for "oci"

	Format      Format
	OCI         *bool // what oci-mediatypes said, if anything
	Insecure    bool  // the registry may be spoken to in plain http
	Annotations Annotations
}

// ParseOutput reads the value of --output: "type=oci,dest=FILE", or DIR for type=local, or "-" for type=tar to
// standard output.
func ParseOutput(s string) (Output, error) {
	fields, err := csv.NewReader(strings.NewReader(s)).Read()
	if err != nil {
		return Output{}, fmt.Errorf("output %q: %w", s, err)
	}
	if len(fields) == 1 && !strings.Contains(fields[0], "=") {
		if fields[0] == "-" {
			return Output{Type: "tar", Dest: "-"}, nil
		}
		return Output{Type: "local", Dest: fields[0]}, nil
	}
	var o Output
	for _, f := range fields {
		key, value, ok := strings.Cut(f, "=")
		if !ok {
			return Output{}, fmt.Errorf("output %q: %q has to be KEY=VALUE", s, f)
		}
		if err := o.set(strings.ToLower(strings.TrimSpace(key)), key, value); err != nil {
			return Output{}, fmt.Errorf("output %q: %w", s, err)
		}
	}
	if err := o.complete(); err != nil {
		return Output{}, fmt.Errorf("output %q: %w", s, err)
	}
	return o, nil
}

func (o *Output) set(key, spelled, value string) (err error) {
	var flag bool
	switch key {
	case "push", "oci-mediatypes", "tar", "force-compression", "registry.insecure", "push-by-digest",
		"rewrite-timestamp", "unpack", "store", "name-canonical", "buildinfo", "platform-split":
		if flag, err = strconv.ParseBool(value); err != nil {
			return fmt.Errorf("%s=%s: it has to be true or false", key, value)
		}
	}
	switch key {
	case "type":
		o.Type = value
	case "dest", "destination":
		o.Dest = value
	case "name":
		o.Names = strings.Split(value, ",")
	case "push":
		o.Push = flag
	case "tar":
		o.Dir = !flag
	case "compression":
		o.Format.Compression = value
	case "compression-level":
		if o.Format.Level, err = strconv.Atoi(value); err != nil {
			return fmt.Errorf("compression-level=%s: it has to be a number", value)
		}
	case "force-compression":
		o.Format.Force = flag
	case "oci-mediatypes":
		o.OCI = &flag
	case "registry.insecure":
		o.Insecure = flag
	case "rewrite-timestamp", "unpack", "store", "name-canonical", "buildinfo":
		// All of them name what happens anyway: times are rewritten, images kept; or what changes no image.
	case "push-by-digest", "platform-split":
		if flag != (key == "platform-split") {
			return fmt.Errorf("%s=%s is not supported", key, value)
		}
	default:
		return o.annotate(spelled, value)
	}
	return nil
}

// annotate reads annotation.KEY=VALUE, annotation-index.KEY=VALUE and so on.
func (o *Output) annotate(key, value string) error {
	where, name, ok := strings.Cut(key, ".")
	targets := map[string]*map[string]string{
		"annotation":                     &o.Annotations.Manifest,
		"annotation-manifest":            &o.Annotations.Manifest,
		"annotation-manifest-descriptor": &o.Annotations.ManifestDescriptor,
		"annotation-index":               &o.Annotations.Index,
		"annotation-index-descriptor":    &o.Annotations.IndexDescriptor,
	}
	to := targets[where]
	if !ok || to == nil {
		return fmt.Errorf("%q is not known", key)
	}
	if *to == nil {
		*to = map[string]string{}
	}
	(*to)[name] = value
	return nil
}

func (o *Output) complete() error {
	switch o.Type {
	case "":
		return fmt.Errorf("type is missing: it is one of oci, docker, tar, local, registry, image")
	case "oci", "docker", "tar", "local", "image":
	case "registry":
		o.Push = true
	case "cacheonly":
		return nil
	default:
		return fmt.Errorf("type=%s is not known: it is one of oci, docker, tar, local, registry, image", o.Type)
	}
	if o.Type == "local" && (o.Dest == "" || o.Dest == "-") {
		return fmt.Errorf("type=local needs dest=FOLDER")
	}
	if slices.Contains([]string{"image", "registry"}, o.Type) && o.Dest != "" {
		return fmt.Errorf("type=%s takes no dest", o.Type)
	}
	if o.Push && o.Type != "registry" && o.Type != "image" {
		return fmt.Errorf("push=true is for type=image or type=registry")
	}
	if o.Dir && o.Type != "oci" {
		return fmt.Errorf("tar=false is for type=oci")
	}
	if o.Dir && (o.Dest == "" || o.Dest == "-") {
		return fmt.Errorf("tar=false needs dest=FOLDER")
	}
	if o.OCI != nil {
		o.Format.Docker = !*o.OCI
	}
	return o.Format.check()
}
