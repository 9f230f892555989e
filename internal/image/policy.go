package image

// PullPolicy says when registries are asked what a tag means.
type PullPolicy string

// The policies. With [PullNever] nothing of an image is fetched, neither a tag's meaning nor a layer.
const (
	PullMissing PullPolicy = ""       // of what is not here
	PullAlways  PullPolicy = "always" // of each tag again
	PullNever   PullPolicy = "never"
)
