// Package secrets holds what a build gives its steps and no layer, key or record has: the values of RUN --mount=type=secret, and the
// agents of RUN --mount=type=ssh. [Check] and [NewAgents] find what is missing before anything runs. A value is read when a step asks
// for it; files are read anew each time.
package secrets

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/skiff-build/skiff/internal/engine"
)

// maxSecret is BuildKit's limit for one secret, in bytes (session/secrets, MaxSecretSize).
const maxSecret = 500 * 1024

// Secret is a value for RUN --mount=type=secret: the content of File, or of the environment variable Env.
type Secret struct{ ID, File, Env string }

// Check finds what is missing before anything runs.
func Check(secrets []Secret) error {
	seen := map[string]bool{}
	for _, s := range secrets {
		switch {
		case s.ID == "":
			return errors.New("secret: the id is missing")
		case seen[s.ID]:
			return fmt.Errorf("secret %s: given twice", s.ID)
		case s.Env != "" && s.File != "":
			return fmt.Errorf("secret %s: either a file or a variable", s.ID)
		case s.Env != "":
			if _, ok := os.LookupEnv(s.Env); !ok {
				return fmt.Errorf("secret %s: the environment has no %s", s.ID, s.Env)
			}
		default:
			st, err := os.Stat(s.File)
			if err != nil {
				return fmt.Errorf("secret %s: %w", s.ID, err)
			}
			if st.IsDir() {
				return fmt.Errorf("secret %s: %s: is a folder", s.ID, s.File)
			}
			if st.Size() > maxSecret {
				return fmt.Errorf("secret %s: %s: more than %d bytes", s.ID, s.File, maxSecret)
			}
		}
		seen[s.ID] = true
	}
	return nil
}

// Reader answers the engine from what the build was given.
func Reader(secrets []Secret) func(context.Context, string) ([]byte, error) {
	return func(_ context.Context, id string) ([]byte, error) {
		for _, s := range secrets {
			if s.ID != id {
				continue
			}
			if s.Env != "" {
				return []byte(os.Getenv(s.Env)), nil
			}
			return os.ReadFile(s.File)
		}
		return nil, engine.ErrNoSecret
	}
}
