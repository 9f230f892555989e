//go:build !windows

package image

import (
	"context"
	"errors"
	"net"
)

const defaultDockerHost = "unix:///var/run/docker.sock"

func dialPipe(context.Context, string) (net.Conn, error) {
	return nil, errors.New("named pipes are there on Windows only")
}
