package skiff

import "github.com/skiff-build/skiff/internal/dockerfile"

// OptionError says that the value of an option is none that there can be. Nothing was built, fetched or written for it.
type OptionError = dockerfile.OptionError

// option marks err, of reading an option, as an [*OptionError]; nil stays nil.
func option(err error) error {
	if err == nil {
		return nil
	}
	return &OptionError{Err: err}
}
