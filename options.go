package skiff

import (
	"fmt"
	"io"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/buildkit/client"

	"github.com/skiff-build/skiff/internal/image"
	"github.com/skiff-build/skiff/internal/sandbox"
	"github.com/skiff-build/skiff/internal/secrets"
)

// BuildOptions says what to build and what to do with it. Only Context is required.
type BuildOptions struct {
	Context string    // folder, URL of a git repository (…#REF:FOLDER), of a tar or of a Dockerfile, or "-", a tar or a Dockerfile from Stdin
	File    string    // path of the Dockerfile, in Context where that is none of the machine's folders; "" is Dockerfile in Context, "-" is Stdin
	Stdin   io.Reader // for Context or File "-"

	Target        string            // stage; "" is the last
	BuildArgs     map[string]string // SOURCE_DATE_EPOCH among them sets the times in the image
	Labels        map[string]string
	Annotations   []string          // "KEY=VALUE" or "LEVEL:KEY=VALUE", see [Output]
	Platforms     []string          // "os/arch[/variant]"; several give an index, none is this machine's
	Contexts      map[string]string // name to folder, docker-image://, oci-layout:// or URL
	Secrets       []Secret
	SSH           []SSHAgent
	NoCache       bool     // take no results of earlier builds
	NoCacheFilter []string // these stages take none
	Pull          PullPolicy

	Network  string   // of RUN: "default" (or "", a private one), "none", "host"
	AddHosts []string // "host:ip"
	Ulimits  []string // "name=soft[:hard]"
	ShmSize  int64    // bytes of /dev/shm; 0 is 64 MiB
	Limits   Limits   // of each RUN
	Allow    []string // "network.host" (needed for Network "host"), "security.insecure"

	GoBase   string   // for golang stages that do not ship: "auto" (or ""), "builtin", "image"
	Faithful []string // names of [Rewrites] to leave out; "all" for all

	Examine    bool     // report what is wrong with the image: [BuildResult.Reports]
	Ignore     []string // ids of findings to leave out
	Strict     Severity // findings from which on the build fails with a [*FindingsError]; "" is none
	AddMissing bool     // add what programs need and the image lacks, as one more layer

	Tags        []string // names of the image
	Outputs     []Output // none: the image is kept in the state
	Load        bool     // keep the image in the state and, where a Docker daemon answers, load it there, too
	KeepTimes   bool     // files of new layers keep their times instead of SOURCE_DATE_EPOCH, else 0
	KeepStorage int64    // bytes of the state above which the least recently used goes; 0 is 10 GB or a tenth of the disk

	Explain      bool      // say of each step that runs why: [BuildResult.Explained]
	Progress     io.Writer // nil shows nothing
	ProgressMode string    // auto (or ""), plain, tty, quiet, rawjson
	Stdout       io.Writer // what outputs with Dest "-" write to; nil is this process's
}

// PullPolicy says when registries are asked what a tag means.
type PullPolicy = image.PullPolicy

// The policies. With [PullNever] nothing of an image is fetched, neither a tag's meaning nor a layer.
const (
	PullMissing = image.PullMissing // of what is not here
	PullAlways  = image.PullAlways  // of each tag again
	PullNever   = image.PullNever
)

// ParsePullPolicy reads the name of one: always, missing or never. The error is an [*OptionError].
func ParsePullPolicy(text string) (PullPolicy, error) {
	switch p := PullPolicy(text); p {
	case PullAlways, PullNever:
		return p, nil
	case "missing":
		return PullMissing, nil
	}
	return PullMissing, option(fmt.Errorf("pull %q: choose always, missing or never", text))
}

// Secret is a value for RUN --mount=type=secret: the content of File, or of the environment variable Env.
type Secret = secrets.Secret

// SSHAgent is for RUN --mount=type=ssh: the socket of an agent, or files with private keys, which have no passphrase.
type SSHAgent = secrets.SSHAgent

// Output is one thing to make of a build's result, as docker build --output names it.
type Output = image.Output

// ParseOutput reads the text of one: "type=oci,dest=FILE", a folder, or "-" for a tar on standard output.
func ParseOutput(text string) (Output, error) { return image.ParseOutput(text) }

// BuildResult is what a build came to.
type BuildResult struct {
	ID          string        // digest of the image's config, or of the index; "" where only files were asked for
	Descriptor  v1.Descriptor // of the manifest or index: as a registry has it where it was pushed, else as it left or is kept
	Pushed      []Moved       // where registries have it, in the order of the outputs and names
	Kept        bool          // the image is in the state, where its names and ID mean it
	Outputs     []Made        // what each of several outputs made, in their order
	Tags        []string      // canonical names
	Size        int64         // bytes of the files in the layers of the image, or of all images of the index
	StageBytes  int64         // Size, and bytes on the disk of what the build needed and left behind: other stages, their bases
	Built       time.Time
	Warnings    []client.VertexWarning
	Reports     []*Report    // of the images, one for each platform; none unless asked for
	SizeChoices []SizeChoice // what was tried to make Go programs smaller; of several images only the first has them
	Explained   []Explained  // of the steps that ran, in the order in which they began; none unless asked for
	StdoutUsed  bool         // an output went to [BuildOptions.Stdout]
}

// Made is what one output made of an image: a registry, an archive and the state may have it in different compressions, and so with
// different digests. Outputs of files alone have none.
type Made struct {
	Type       string // of the output
	Dest       string // file or folder
	Descriptor v1.Descriptor
}

// Explained is a step that ran, and why: a file of the context, an argument, a base, or the first time.
type Explained struct {
	Step string `json:"step"`
	Why  string `json:"why"`
}

// Images are the result as rows of a list of images: one for each tag, or one without a name.
func (r *BuildResult) Images() []Image {
	row := Image{ID: r.ID, Built: r.Built, Size: r.Size}
	if len(r.Tags) == 0 {
		return []Image{row}
	}
	var rows []Image
	for _, tag := range r.Tags {
		row.Repository, row.Tag = familiar(tag)
		rows = append(rows, row)
	}
	return rows
}

// Limits are what a step, or a program that runs, may take: all of its processes together.
type Limits = sandbox.Limits
