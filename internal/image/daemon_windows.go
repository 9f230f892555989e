package image

import (
	"context"
	"net"
	"strings"

	"github.com/Microsoft/go-winio"
)

const defaultDockerHost = "npipe:////./pipe/docker_engine"

// dialPipe opens a named pipe; path has slashes, as in DOCKER_HOST.
func dialPipe(ctx context.Context, path string) (net.Conn, error) {
	return winio.DialPipeContext(ctx, strings.ReplaceAll(path, "/", `\`))
}
